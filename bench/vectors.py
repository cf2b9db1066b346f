"""What int8 and binary vectors cost and find: recall@10 with exact rescoring, bytes and milliseconds a query, beside float32, exactly.

Vectors are random and structured, not embeddings: rows lie around random centres (a mixture of Gaussians), queries are rows moved a
little. Rows: 1k, 100k and, with `--large`, 1M, of 192 numbers, as the nano Embedder's. Ways take turns; the best of a few rounds counts.
"""

import sys
import time
from typing import Literal

import numpy as np

from embedrl.log import table

DIM, NUM_QUERIES, TOP, ROUNDS = 192, 20, 10, 2
SIZES = (1_000, 100_000)
LARGE = 1_000_000
SPREAD = 0.8
"""Of rows around their centre, beside the centre's length of 1."""
Precision = Literal["int8", "binary"]
RESCORED = {"int8": 4, "binary": 40}
"""Of so many times more candidates than neighbours the float vectors are compared."""


def main(size: str = "") -> None:
    """Print the table. `--large`: a million rows, too (some 2 GiB of memory)."""
    rows = [row for num_rows in (*SIZES, *((LARGE,) if size == "--large" else ())) for row in _measure(num_rows)]
    columns = ["rows", "vectors", "recall@10", "MiB", "of float32", "ms a query", "x float32"]
    table(f"Nearest {TOP} of random structured vectors of {DIM} numbers", columns, rows)


def _measure(num_rows: int) -> list[list[str]]:
    vectors, queries = _draw(num_rows)
    codes = {precision: quantised(vectors, precision) for precision in RESCORED}
    ways = {"float32": lambda query: _exact(vectors, query)}
    for precision, (coded, scale) in codes.items():
        ways[precision] = lambda query, coded=coded, scale=scale, precision=precision: nearest_rescored(
            coded, scale, vectors, query, precision, TOP
        )
    best, found = dict.fromkeys(ways, float("inf")), {}
    for _ in range(ROUNDS):
        for way, nearest in ways.items():
            started = time.perf_counter()
            found[way] = [set(nearest(query).tolist()) for query in queries]
            best[way] = min(best[way], (time.perf_counter() - started) / len(queries))
    rows = []
    for way in ways:
        recall = np.mean([len(mine & true) / TOP for mine, true in zip(found[way], found["float32"], strict=True)])
        size = vectors.nbytes if way == "float32" else codes[way][0].nbytes
        speed = [f"{1000 * best[way]:.2f}", f"{best['float32'] / best[way]:.2f}"]
        rows.append([f"{num_rows:,}", way, f"{recall:.3f}", f"{size / 2**20:.1f}", f"1/{vectors.nbytes / size:.0f}", *speed])
    return rows


def quantised(vectors_ND: np.ndarray, precision: Precision) -> tuple[np.ndarray, float]:
    """Return the vectors as int8 (N, D) with the scale that makes them floats again; or as bits, uint8 (N, ceil(D / 8)), and 1."""
    if precision == "binary":
        return np.packbits(vectors_ND > 0, axis=-1), 1.0
    scale = float(np.abs(vectors_ND).max(initial=0.0)) / 127 or 1.0
    return np.round(vectors_ND / scale).astype(np.int8), scale


def approximate_scores(codes: np.ndarray, query_D: np.ndarray, precision: Precision, scale: float, *, block: int = 65_536) -> np.ndarray:
    """Return what the codes of N vectors say of their cosines to a query, float32 (N,): the cosine for int8, equal bits for binary."""
    scores = np.empty(len(codes), dtype=np.float32)
    query = np.packbits(query_D > 0) if precision == "binary" else query_D.astype(np.float32) * scale
    for start in range(0, len(codes), block):
        part = codes[start : start + block]
        rows = slice(start, start + len(part))
        scores[rows] = -np.bitwise_count(part ^ query).sum(1, dtype=np.int32) if precision == "binary" else part.astype(np.float32) @ query
    return scores


def nearest_rescored(
    codes: np.ndarray, scale: float, vectors_ND: np.ndarray, query_D: np.ndarray, precision: Precision, top: int
) -> np.ndarray:
    """Return the places of the `top` nearest among the candidates that the codes find, best first by exact cosine, int64 (K,)."""
    scores, wanted = approximate_scores(codes, query_D, precision, scale), min(len(codes), RESCORED[precision] * top)
    candidates = np.argpartition(-scores, wanted - 1)[:wanted]
    exact = vectors_ND[candidates] @ query_D
    return candidates[np.lexsort((candidates, -exact))[:top]]


def _exact(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    scores = vectors @ query
    best = np.argpartition(-scores, TOP - 1)[:TOP]
    return best[np.lexsort((best, -scores[best]))]


def _draw(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors (N, D) around one centre for each 50 rows, and queries (Q, D) near some of them, float32."""
    rng = np.random.default_rng(0)
    centres = _unit(rng.standard_normal((max(1, num_rows // 50), DIM), dtype=np.float32))
    vectors = centres[rng.integers(len(centres), size=num_rows)]
    for start in range(0, num_rows, 100_000):
        part = vectors[start : start + 100_000]
        part += rng.standard_normal(part.shape, dtype=np.float32) * np.float32(SPREAD / np.sqrt(DIM))
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    queries = vectors[rng.integers(num_rows, size=NUM_QUERIES)]
    return vectors, _unit(queries + rng.standard_normal(queries.shape, dtype=np.float32) * np.float32(0.5 / np.sqrt(DIM)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
