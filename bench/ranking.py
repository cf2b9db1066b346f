"""How much more than the plain matrix product it costs to rank a large corpus, and that memory stays bounded.

`python bench/ranking.py --full` ranks 1,000,000 candidates for 2,000 queries. The plain product is computed in the same blocks and
thrown away, in the same run; memory is the peak of the whole process, with the vectors in it.
"""

import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from embedrl.evaluation.ranking import BLOCK_CANDIDATES, BLOCK_QUERIES, Ranking, rank
from embedrl.log import result, table

DIM = 512
SIZES = {"": (200_000, 2_000), "--full": (1_000_000, 2_000)}
MAX_RATIO = 1.3
MAX_GB = 4.0


def main(option: str = "") -> None:
    """Rank, multiply, and write the table; ends with an error if a limit is broken."""
    num_candidates, num_queries = SIZES[option]
    candidate_CD = _unit(np.random.default_rng(0), num_candidates)
    rng = np.random.default_rng(1)
    targets = rng.choice(num_candidates, size=num_queries, replace=False)
    query_QD = candidate_CD[targets] + 1.2 * _unit(rng, num_queries)
    query_QD /= np.linalg.norm(query_QD, axis=1, keepdims=True)
    keys = [f"{number:064x}" for number in rng.permutation(num_candidates)]
    relevant = [{keys[row]: 1.0} for row in targets]
    rankings: list[Ranking] = []
    before = _timed(lambda: _multiply(query_QD, candidate_CD))
    ranked = _timed(lambda: rankings.extend(rank(query_QD, candidate_CD, keys, relevant)))
    after = _timed(lambda: _multiply(query_QD, candidate_CD))
    wall_s, cpu_s = ((one + other) / 2 for one, other in zip(before, after, strict=True))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    gflops = 2e-9 * num_queries * num_candidates * DIM / cpu_s
    hit = sum(ranking.rank == 1 for ranking in rankings) / num_queries
    rows = [
        ["wall", f"{wall_s:.1f}", f"{ranked[0]:.1f}", f"{ranked[0] / wall_s:.2f}"],
        ["processor", f"{cpu_s:.1f}", f"{ranked[1]:.1f}", f"{ranked[1] / cpu_s:.2f}"],
    ]
    table(
        f"{num_candidates:,} candidates, {num_queries:,} queries, dimension {DIM}", ["time", "product s", "rank s", "rank / product"], rows
    )
    result(f"peak memory {peak_gb:.2f} GB (at most {MAX_GB:g}); {gflops:.0f} GFLOP/s of a processor; hit@1 {hit:.3f}")
    result(f"rank may cost {MAX_RATIO} times the processor time of the product: on a busy machine, wall time tells of other programs")
    assert peak_gb <= MAX_GB, "memory is not bounded"
    assert ranked[1] <= MAX_RATIO * cpu_s, "ranking costs too much beside the product"


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor time, in seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _unit(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return random unit vectors, float32 (count, DIM), made in place."""
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    for start in range(0, count, 1 << 16):
        part = vectors[start : start + (1 << 16)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def _multiply(query_QD: np.ndarray, candidate_CD: np.ndarray) -> None:
    buffer = np.empty((BLOCK_QUERIES, BLOCK_CANDIDATES), np.float32)
    for start in range(0, len(candidate_CD), BLOCK_CANDIDATES):
        block_BD = candidate_CD[start : start + BLOCK_CANDIDATES]
        for first in range(0, len(query_QD), BLOCK_QUERIES):
            part_QD = query_QD[first : first + BLOCK_QUERIES]
            # An output that is not contiguous would cost a copy.
            np.matmul(part_QD, block_BD.T, out=buffer.ravel()[: len(part_QD) * len(block_BD)].reshape(len(part_QD), -1))


if __name__ == "__main__":
    main(*sys.argv[1:2])
