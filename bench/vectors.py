"""What shorter, int8 and binary vectors cost and find, beside whole ones in float32, compared exactly.

`--nano`: hit@1 of the nano Embedder's vectors, or of another one's (`--embedder`), with half and a quarter of their numbers on the world's
image tasks, and recall@10 of int8 and binary codes with exact rescoring, and of LanceDB's scalar-quantised index
(`embedrl index --vector-index ivf-sq`), among all candidates of the three seeds.

Otherwise recall@10, bytes and milliseconds a query of random structured vectors, not embeddings: rows lie around random centres (a mixture
of Gaussians), queries are rows moved a little. Rows: 1k, 100k and, with `--large`, 1M, of 192 numbers, as the nano Embedder's. Ways take
turns; the best of a few rounds counts.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from _image_tasks import cache_of, draw, options, seeds_of

from embedrl.data.tcot import tcot_or_none
from embedrl.data.vectors import shortened
from embedrl.evaluation.bootstrap import mean_figure
from embedrl.evaluation.cache import CachedReasoner
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.index import Index
from embedrl.index.row import Place, Row, Stamp, place_id
from embedrl.log import table
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.testing import FakeEmbedder

DIM, NUM_QUERIES, TOP, ROUNDS = 192, 20, 10, 2
SIZES = (1_000, 100_000)
LARGE = 1_000_000
SPREAD = 0.8
"""Of rows around their centre, beside the centre's length of 1."""
Precision = Literal["int8", "binary"]
RESCORED: dict[Precision, int] = {"int8": 4, "binary": 40}
"""Of so many times more candidates than neighbours the float vectors are compared."""


def main(*arguments: str) -> None:
    """Print the table."""
    parser = options(__doc__)
    parser.add_argument("--nano", action="store_true", help="vectors of an Embedder, in place of random ones")
    parser.add_argument("--embedder", default="nano", help="with --nano: another one")
    parser.add_argument("--large", action="store_true", help="a million random vectors, too (some 2 GiB of memory)")
    given = parser.parse_args(arguments)
    if not given.nano and {**vars(given), "large": False} != vars(parser.parse_args([])):
        parser.error("without --nano there is --large alone: random vectors have no Embedder, tasks or seeds")
    if given.nano:
        _embedded(given)
        return
    rows = [row for num_rows in (*SIZES, *((LARGE,) if given.large else ())) for row in _measure(num_rows)]
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


def _embedded(given: argparse.Namespace) -> None:
    embedder = load_embedder(given.embedder)
    tasks: list[tuple[int, RetrievalTask]] = []
    kinds: dict[str, dict[str, np.ndarray]] = {"plain": {}, "with T-CoTs": {}}
    with cache_of(given) as cache:
        reasoner = CachedReasoner(load_reasoner("nano"), cache)
        for seed in seeds_of(given):
            drawn = draw(given, seed)
            tasks += [(seed, task) for task in drawn]
            items = {key: item for task in drawn for key, item in task.items.items()}
            outcomes = reasoner.reason(list(items.values()))
            tcots = list(map(tcot_or_none, outcomes))
            for kind, of_kind in (("plain", [None] * len(items)), ("with T-CoTs", tcots)):
                kinds[kind] |= zip(items, embedder.embed(list(items.values()), of_kind), strict=True)
    dim, rows = embedder.dim, []
    candidates = list(dict.fromkeys(key for _, task in tasks for key in (item.key for item in task.candidates)))
    for kind, vectors in kinds.items():
        whole = hits_of(tasks, vectors)
        rows.append([kind, f"float32, {dim}", "1", _share(tasks, whole), "", "1.000"])
        for part in (2, 4):
            short = dict(zip(vectors, shortened(np.stack(list(vectors.values())), dim // part), strict=True))
            rows.append([kind, f"float32, {dim // part}", f"1/{part}", *_beside(tasks, hits_of(tasks, short), whole), ""])
        candidate_CD, query_QD = (
            np.stack([vectors[key] for key in keys]) for keys in (candidates, [q.key for _, t in tasks for q in t.queries])
        )
        true = [set(_exact(candidate_CD, query).tolist()) for query in query_QD]
        for precision in RESCORED:
            codes, scale = quantised(candidate_CD, precision)
            near = [nearest_rescored(codes, scale, candidate_CD, query, precision, TOP) for query in query_QD]
            recall = np.mean([len(set(found.tolist()) & best) / TOP for found, best in zip(near, true, strict=True)])
            rows.append([kind, f"{precision}, rescored", f"1/{candidate_CD.nbytes / codes.nbytes:.0f}", "", "", f"{recall:.3f}"])
        found = [set(places) for places in _by_index(candidate_CD, query_QD)]
        recall = np.mean([len(mine & best) / TOP for mine, best in zip(found, true, strict=True)])
        rows.append([kind, "ivf-sq of LanceDB", "1/4", "", "", f"{recall:.3f}"])
    columns = ["vectors", "numbers", "bytes compared", "hit@1, %", "difference", "recall@10"]
    table(f"{sum(len(task.queries) for _, task in tasks)} queries; recall among {len(candidates):,} candidates", columns, rows)


def hits_of(tasks: Sequence[tuple[int, RetrievalTask]], vectors: Mapping[str, np.ndarray]) -> list[list[float]]:
    """Return for each task whether each query's first hit is right."""
    hits = []
    for _, task in tasks:
        candidate_CD = np.stack([vectors[item.key] for item in task.candidates])
        cosines_QC = np.round(np.stack([vectors[query.key] for query in task.queries]) @ candidate_CD.T, 6)
        best = [task.candidate_ids[place] for place in cosines_QC.argmax(1)]
        hits.append([float(key in relevant) for key, relevant in zip(best, task.relevant, strict=True)])
    return hits


def _beside(tasks: Sequence[tuple[int, RetrievalTask]], hits: list[list[float]], whole: list[list[float]]) -> list[str]:
    differences = [[mine - other for mine, other in zip(*of_task, strict=True)] for of_task in zip(hits, whole, strict=True)]
    return [_share(tasks, hits), _share(tasks, differences, low=-1.0)]


def _share(tasks: Sequence[tuple[int, RetrievalTask]], values: list[list[float]], *, low: float = 0.0) -> str:
    """Show the mean over tasks with its interval, clustered by family, in %."""
    by_task: dict[str, list[float]] = defaultdict(list)
    families: dict[str, list[str]] = defaultdict(list)
    for (seed, task), of_task in zip(tasks, values, strict=True):
        by_task[task.name] += of_task
        families[task.name] += [f"{seed}:{family}" for family in task.families]
    shown = mean_figure(by_task, families, bounds=(low, 1.0))
    assert shown is not None
    return shown.text(".1f", scale=100)


def _by_index(candidate_CD: np.ndarray, query_QD: np.ndarray) -> list[list[int]]:
    """Return the places of the nearest by an approximate index over scalar-quantised vectors."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index.open(folder, embedder=FakeEmbedder(dim=candidate_CD.shape[1]))
        index.change_policy(exact_below=1, kind="ivf-sq", recall=0.01)
        stamp, rows = Stamp(size=1, mtime_ns=1), []
        for number, vector in enumerate(candidate_CD):
            path = Path(f"{number}.jpg")
            place = Place(id=place_id(path, None), key=f"{number:064x}", path=path, stamp=stamp, reasoner="fake")
            rows.append(Row(place=place, modality="image", plain=vector, tcot=vector, embedder="fake-embedder", created_s=0.0))
        index.upsert(rows)
        index.finish()
        assert index.stats().search == "approximate"
        return [[int(near.key, 16) for near in index.nearest(query, "plain", TOP)] for query in query_QD]


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
