"""bench/vectors.py: codes of vectors, and what is found by them, on small inputs."""

from types import ModuleType

import numpy as np
import pytest

from tests.scripts import load_script

NUM_ROWS, DIM, TOP = 500, 20, 10


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_script("bench/vectors.py")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((NUM_ROWS, DIM), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_codes_by_hand(bench: ModuleType) -> None:
    codes, scale = bench.quantised(np.array([[1.0, -0.5], [0.0, 0.25]], dtype=np.float32), "int8")
    assert codes.tolist() == [[127, -64], [0, 32]]
    assert scale == pytest.approx(1 / 127)
    bits, _ = bench.quantised(np.array([[1.0, -0.5, 0.1, 0, 0, 0, 0, 0, 2.0]]), "binary")
    assert bits.tolist() == [[0b10100000, 0b10000000]]
    nothing, scale = bench.quantised(np.zeros((1, 2), dtype=np.float32), "int8")
    assert (nothing.tolist(), scale) == ([[0, 0]], 1.0)


def test_int8_is_a_quarter_of_the_bytes_and_as_near_as_its_steps(bench: ModuleType, vectors: np.ndarray) -> None:
    codes, scale = bench.quantised(vectors, "int8")
    assert 4 * codes.nbytes == vectors.nbytes
    scores = bench.approximate_scores(codes, vectors[0], "int8", scale, block=64)
    assert np.abs(scores - vectors @ vectors[0]).max() <= scale / 2 * np.abs(vectors[0]).sum() + 1e-6


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_rescoring_finds_the_nearest_in_their_order(bench: ModuleType, vectors: np.ndarray, precision: str) -> None:
    codes, scale = bench.quantised(vectors, precision)
    for query in vectors[:20]:
        found = bench.nearest_rescored(codes, scale, vectors, query, precision, TOP)
        exact = np.lexsort((np.arange(NUM_ROWS), -(vectors @ query)))[:TOP]
        assert found.tolist() == exact.tolist()


def test_binary_scores_count_equal_bits(bench: ModuleType, vectors: np.ndarray) -> None:
    codes, _ = bench.quantised(vectors, "binary")
    scores = bench.approximate_scores(codes, vectors[3], "binary", 1.0)
    different = (vectors > 0) != (vectors[3] > 0)
    assert (-scores).tolist() == different.sum(1).tolist()
    assert scores[3] == 0


def test_fewer_rows_than_are_wanted(bench: ModuleType, vectors: np.ndarray) -> None:
    codes, scale = bench.quantised(vectors[:3], "int8")
    assert sorted(bench.nearest_rescored(codes, scale, vectors[:3], vectors[0], "int8", TOP).tolist()) == [0, 1, 2]


def test_lancedbs_scalar_quantised_index_finds_the_same(bench: ModuleType, vectors: np.ndarray) -> None:
    found = bench._by_index(vectors, vectors[:5])
    exact = [np.argsort(-(vectors @ query), kind="stable")[:TOP].tolist() for query in vectors[:5]]
    assert np.mean([len({*mine} & {*true}) / TOP for mine, true in zip(found, exact, strict=True)]) >= 0.9
