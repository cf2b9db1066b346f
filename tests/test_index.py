import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from embedrl.errors import ConfigError, StoreError
from embedrl.index.approximate import Approximate, Policy, Searching, num_partitions, read_searching
from embedrl.index.exact import NOWHERE, Candidates, ExactVectors, Places, VectorBatch, exact_scores, measure_recall
from embedrl.index.index import Index
from embedrl.index.row import Place, Row, Stamp, Vectors, place_id
from embedrl.testing import FakeEmbedder

DIM = 16


def unit_vectors(count: int, seed: int = 0, num_clusters: int = 40, dim: int = DIM) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(num_clusters, dim))
    vectors = centres[rng.integers(num_clusters, size=count)] + 0.7 * rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make_rows(vectors: np.ndarray, first: int = 0) -> list[Row]:
    """Rows with these plain vectors, the same in reverse as T-CoT vectors; every second one is a page."""
    rows = []
    for number, vector in enumerate(vectors, first):
        path = Path(f"{number:06d}.png")
        key = f"{number:06x}{'0' * 58}"
        place = Place(id=place_id(path, None), key=key, path=path, stamp=Stamp(size=1, mtime_ns=number), reasoner="r")
        modality = "page" if number % 2 else "image"
        rows.append(
            Row(
                place=place,
                modality=modality,
                plain=vector,
                tcot=vector[::-1].copy(),
                thumbnail=b"jpeg",
                embedder="fake-embedder",
                created_s=time.time(),
            )
        )
    return rows


def filled(folder: Path, vectors: np.ndarray, policy: Policy | None = None) -> Index:
    index = Index.open(folder, embedder=FakeEmbedder(dim=vectors.shape[1]))
    if policy is not None:
        index.change_policy(**policy.model_dump())
    index.upsert(make_rows(vectors))
    index.finish()
    return index


def measured(index: Index, vectors: Vectors) -> Approximate:
    return read_searching(index.table.settings, "here").approximate[vectors]


def brute_force(vectors: np.ndarray, query: np.ndarray, top: int) -> list[str]:
    scores = np.round(vectors @ query, 6)
    order = sorted(range(len(vectors)), key=lambda number: (-scores[number], number))
    return [f"{number:06x}{'0' * 58}" for number in order[:top]]


def test_exact_search_is_brute_force(tmp_path: Path):
    vectors = unit_vectors(500)
    index = filled(tmp_path, vectors)
    for query in unit_vectors(20, seed=1):
        assert [found.key for found in index.nearest(query, "plain", 7)] == brute_force(vectors, query, 7)
        assert [found.key for found in index.nearest(query, "tcot", 7)] == brute_force(vectors[:, ::-1], query, 7)
    assert index.stats().recall == 1.0
    assert index.stats().search == "exact"


def test_rows_come_back_as_they_were(tmp_path: Path):
    rows = make_rows(unit_vectors(3))
    index = Index.open(tmp_path, embedder=FakeEmbedder(dim=DIM))
    index.upsert(rows)
    found = index.rows([row.place.key for row in rows[:2]])
    assert [row.model_dump(exclude={"plain", "tcot"}) for row in found] == [row.model_dump(exclude={"plain", "tcot"}) for row in rows[:2]]
    assert all((row.plain == other.plain).all() for row, other in zip(found, rows, strict=False))
    assert all((row.tcot == other.tcot).all() for row, other in zip(found, rows, strict=False))
    assert sorted(index.places(), key=lambda place: place.key) == [row.place for row in rows]
    assert index.thumbnail(rows[0].place.key) == b"jpeg"
    index.upsert([rows[0].model_copy(update={"answer": "new"})])
    assert len(index) == 3
    assert index.rows([rows[0].place.key])[0].answer == "new"
    index.remove([rows[0].place.id, "0" * 32])
    assert len(index) == 2
    assert index.rows([rows[0].place.key]) == []


def test_equal_vectors_are_ordered_by_key(tmp_path: Path):
    index = filled(tmp_path, np.repeat(unit_vectors(1), 30, axis=0))
    found = index.nearest(unit_vectors(1)[0], "plain", 8)
    assert [neighbour.key[:6] for neighbour in found] == [f"{number:06x}" for number in range(8)]


def test_filters(tmp_path: Path):
    vectors = unit_vectors(300)
    index, query = filled(tmp_path, vectors), unit_vectors(1, seed=3)[0]
    everything = index.nearest(query, "plain", 1000)
    assert len(everything) == 300
    assert index.nearest(query, "plain", 5, Candidates(min_score=everything[9].score)) == everything[:5]
    assert index.nearest(query, "plain", 1000, Candidates(min_score=everything[9].score)) == everything[:10]
    assert index.nearest(query, "plain", 1000, Candidates(min_score=1.0)) == []
    pages = [neighbour for neighbour in everything if int(neighbour.key[:6], 16) % 2]
    assert index.nearest(query, "plain", 20, Candidates(modality=["page"])) == pages[:20]
    assert index.nearest(query, "plain", 5, Candidates(exclude_keys=[everything[0].key, "unknown"])) == everything[1:6]


def test_writes_of_another_handle_are_seen(tmp_path: Path):
    vectors = unit_vectors(20)
    writer, reader = filled(tmp_path, vectors[:10]), Index.open(tmp_path)
    assert (len(reader), reader.embedder_name, reader.dim) == (10, "fake-embedder", DIM)
    assert reader.nearest(vectors[15], "plain", 1)[0].key != make_rows(vectors[15:16], 15)[0].place.key
    writer.upsert(make_rows(vectors[10:], 10))
    assert reader.nearest(vectors[15], "plain", 1)[0].key == make_rows(vectors[15:16], 15)[0].place.key
    writer.remove([make_rows(vectors[15:16], 15)[0].place.id])
    writer.finish()
    assert len(reader) == 19
    assert reader.nearest(vectors[15], "plain", 1)[0].score < 1


def test_an_approximate_index_is_measured_and_as_good_as_exact(tmp_path: Path):
    vectors = unit_vectors(6000)
    index = filled(tmp_path, vectors, policy=Policy(exact_below=5000))
    stats = index.stats()
    assert stats.search == "approximate"
    assert 0.99 <= stats.recall <= 1.0
    hits = total = 0
    for query in unit_vectors(30, seed=1):
        found, true = index.nearest(query, "plain", 10), brute_force(vectors, query, 10)
        hits, total = hits + len({neighbour.key for neighbour in found} & set(true)), total + 10
        assert [neighbour.score for neighbour in found] == sorted((neighbour.score for neighbour in found), reverse=True)
        assert found[0].score == pytest.approx(float((vectors @ query).max()), abs=1e-5)
    assert hits / total >= 0.98
    query = vectors[7]
    exact = Index.open(tmp_path)
    exact.change_policy(exact_below=10**9)
    options = {"modality": ["page"], "exclude_keys": [make_rows(vectors[7:8], 7)[0].place.key], "min_score": 0.2}
    keys = [[neighbour.key for neighbour in kind.nearest(query, "plain", 10, Candidates(**options))] for kind in (index, exact)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 10


def test_new_rows_join_the_approximate_index_and_growth_rebuilds_it(tmp_path: Path):
    vectors = unit_vectors(2500)
    index = filled(tmp_path, vectors[:1000], policy=Policy(exact_below=1000))
    assert measured(index, "plain").num_rows_built == 1000
    index.upsert(make_rows(vectors[1000:1200], 1000))
    assert index.nearest(vectors[1100], "plain", 1)[0].key == brute_force(vectors, vectors[1100], 1)[0], "found before it is indexed"
    index.finish()
    assert measured(index, "tcot").num_rows_built == 1000
    index.upsert(make_rows(vectors[1200:], 1200))
    index.finish()
    assert measured(index, "plain").num_rows_built == 2500
    assert index.nearest(vectors[2400], "plain", 1)[0].key == brute_force(vectors, vectors[2400], 1)[0]


def test_a_bad_recall_means_exact_search(tmp_path: Path):
    vectors = unit_vectors(1200)
    index = filled(tmp_path, vectors, policy=Policy(exact_below=1000))
    known = read_searching(index.table.settings, "here")
    bad = {name: found.model_copy(update={"recall": 0.9}) for name, found in known.approximate.items()}
    index.table.keep_settings(known.model_copy(update={"approximate": bad}).model_dump_json())
    assert index.stats().search == "exact"
    assert [found.key for found in index.nearest(vectors[3], "plain", 9)] == brute_force(vectors, vectors[3], 9)
    index.table.keep_settings("{torn")
    with pytest.raises(StoreError, match="approximate indexes cannot be read"):
        index.nearest(vectors[3], "plain", 9)


def test_the_policy_is_kept_in_the_table(tmp_path: Path):
    vectors = unit_vectors(1200)
    filled(tmp_path, vectors)
    assert Index.open(tmp_path).stats().search == "exact", "far below what is exact unless told otherwise"
    policy = Policy(exact_below=1000, kind="ivf-sq", recall=0.95, growth=1.5)
    again = Index.open(tmp_path)
    again.change_policy(**policy.model_dump())
    again.finish()
    opened = Index.open(tmp_path)
    assert read_searching(opened.table.settings, "here").policy == policy
    stats = opened.stats()
    assert stats.search == "approximate"
    assert stats.recall >= 0.95
    hits = 0
    for query in unit_vectors(20, seed=5):
        found = opened.nearest(query, "plain", 10)
        hits += len({neighbour.key for neighbour in found} & set(brute_force(vectors, query, 10)))
        assert found[0].score == pytest.approx(float(max(vectors @ query)), abs=1e-5), "scores are those of whole vectors"
    assert hits / 200 >= 0.93
    changed = Index.open(tmp_path)
    changed.change_policy(kind="ivf-flat")
    changed.finish()
    assert read_searching(opened.table.settings, "here").policy == policy.model_copy(update={"kind": "ivf-flat"})
    with pytest.raises(ConfigError, match=r"recall=2: .*less than or equal to 1"):
        changed.change_policy(recall=2)
    assert measured(opened, "plain").kind == "ivf-flat", "another kind is built anew"
    assert measured(opened, "tcot").kind == "ivf-flat", "another kind is built anew"


def test_recall_is_what_it_says():
    vectors, queries = unit_vectors(400), unit_vectors(5, seed=2)
    best = exact_scores(np.array_split(vectors, 7), queries, 10)
    assert np.allclose(best, -np.sort(-(queries @ vectors.T), axis=1)[:, :10])
    assert measure_recall(lambda query: vectors @ query, queries, best) == 1.0
    assert measure_recall(lambda query: -np.sort(-(vectors @ query))[1:10], queries, best) == pytest.approx(0.9)
    assert measure_recall(lambda query: np.zeros(0), queries, best) == 0.0
    known = Approximate(kind="ivf-flat", num_rows_built=100, num_rows=120, num_partitions=16, num_probes=8, recall=0.99)
    assert known.serves(Policy(), 199)
    assert not known.serves(Policy(), 200)
    assert not known.serves(Policy(kind="ivf-sq"), 120)
    assert known.is_measured(Policy(), 120)
    assert not known.is_measured(Policy(), 121)
    assert not known.is_measured(Policy(recall=1), 120), "it may find more"
    assert known.model_copy(update={"num_probes": 16}).is_measured(Policy(recall=1), 120), "it has looked into everything"
    searching = Searching(policy=Policy(exact_below=100), approximate={"plain": known})
    assert searching.good("plain", 120) == known
    assert searching.good("plain", 99) is None
    assert searching.good("tcot", 120) is None
    assert (num_partitions(1000), num_partitions(204_800)) == (16, 100)


def test_ranking_by_hand():
    places = Places(["b", "a", "c"], [b"2", b"1", b"3"], np.full((3, 6), np.nan))
    best = places.ranked(np.arange(3), np.array([0.5, 0.5, 0.9]), 2)
    assert [neighbour.key for neighbour in best] == ["c", "a"]
    assert [neighbour.file for neighbour in best] == [b"3", b"1"]
    assert [neighbour.key for neighbour in places.ranked(np.array([0, 1]), np.array([0.5, 0.4, 0.9]), 2)] == ["b", "a"]
    assert NOWHERE.ranked(np.arange(0), np.array([]), 3) == []
    nothing = VectorBatch(NOWHERE, [], np.empty(0, dtype=bool), np.empty((0, 4), dtype=np.float32))
    assert ExactVectors(nothing).nearest(np.ones(4, dtype=np.float32), 3) == []


def test_keys_may_be_cut(tmp_path: Path):
    index = filled(tmp_path, unit_vectors(300))
    assert index.find(" 00000A ") == "00000a" + "0" * 58
    with pytest.raises(ConfigError, match="no such item"):
        index.find("abcdef")
    for wrong in ("00000", "' OR 1=1 --", "00000%", ""):
        with pytest.raises(ConfigError, match="first 6 hex digits"):
            index.find(wrong)
    same = make_rows(unit_vectors(1))[0]
    index.upsert([same.model_copy(update={"place": same.place.model_copy(update={"id": "f" * 32, "key": "00000a" + "1" * 58})})])
    with pytest.raises(ConfigError, match="2 items start like this"):
        index.find("00000a")


def test_an_index_that_is_not_there(tmp_path: Path):
    with pytest.raises(StoreError, match="make one with `embedrl index"):
        Index.open(tmp_path)
    index = Index.open(tmp_path, embedder=FakeEmbedder(dim=DIM))
    assert len(index) == 0, "looking makes nothing"
    assert list(index.places()) == [], "looking makes nothing"
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    with pytest.raises(StoreError, match="there is no index here"):
        index.nearest(unit_vectors(1)[0], "plain", 3)


def test_another_embedder_is_refused(tmp_path: Path):
    filled(tmp_path, unit_vectors(5))
    for other in (FakeEmbedder("other", dim=DIM), FakeEmbedder(dim=8)):
        with pytest.raises(
            StoreError, match=r"delete .*items\.lance' \(no more: T-CoTs lie beside it\) and run `embedrl index` again"
        ) as caught:
            len(Index.open(tmp_path, embedder=other))
        assert "fake-embedder" in str(caught.value)
    with pytest.raises(ConfigError, match=r"shape \(3,\)"):
        Index.open(tmp_path).nearest(np.ones(3), "plain", 1)


def test_a_damaged_index_is_a_clear_error(tmp_path: Path):
    index = filled(tmp_path, unit_vectors(5))
    for manifest in (index.directory / "items.lance" / "_versions").iterdir():
        manifest.write_bytes(b"garbage")
    with pytest.raises(StoreError, match="cannot be opened"):
        len(Index.open(tmp_path))


def test_many_commits_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedrl.index.lance._KEEP_VERSIONS", timedelta(milliseconds=1))
    index = Index.open(tmp_path, embedder=FakeEmbedder(dim=DIM))
    vectors = unit_vectors(200)
    for number in range(0, 200, 4):
        index.upsert(make_rows(vectors[number : number + 4], number))
    before = sum(1 for _ in index.directory.rglob("*"))
    index.finish()
    assert sum(1 for _ in index.directory.rglob("*")) < before / 4
    assert len(index) == 200
