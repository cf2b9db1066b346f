"""How an approximate index is used, and how good it is: measured against exact search after each build, never assumed."""

from collections.abc import Callable, Iterable

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from embedrl.errors import StoreError
from embedrl.index.exact import exact_scores, measure_recall

# N vectors, S samples, D dim, K neighbours

TARGET_RECALL = 0.99
NUM_SAMPLES = 32
NUM_NEIGHBOURS = 10
ROWS_PER_PARTITION = 2048
MIN_PARTITIONS = 16
GROWTH = 2
"""The index is built anew when the table has grown by this factor; until then it takes in new rows as it is."""


class Approximate(BaseModel):
    """How the approximate index over one kind of vectors is used, and how good it was when it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_rows_built: int
    """How many rows the partitions were fitted to."""
    num_rows: int
    """How many rows there were when the recall was measured."""
    num_partitions: int
    num_probes: int
    """How many partitions a search looks into."""
    recall: float
    """Recall@10 against exact search, 0..1."""

    @property
    def good(self) -> bool:
        """Whether it may be used instead of exact search."""
        return self.recall >= TARGET_RECALL

    def fits(self, num_rows: int) -> bool:
        """Whether partitions fitted to so many rows still serve."""
        return num_rows < GROWTH * self.num_rows_built


def num_partitions(num_rows: int) -> int:
    """Return how many partitions an index over so many rows gets."""
    return max(MIN_PARTITIONS, num_rows // ROWS_PER_PARTITION)


def read_approximate(text: str, where: str) -> Approximate:
    """Read settings as JSON; `where` names the index, should they not be readable (StoreError)."""
    try:
        return Approximate.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(f"{where!r}: what it says of its approximate index cannot be read; make the index anew") from error


def sample_queries(batches: Iterable[np.ndarray], num_rows: int) -> np.ndarray:
    """Return evenly spread vectors, each moved a little away from its row, unit length, float32 (S, D)."""
    chosen = np.unique(np.linspace(0, num_rows - 1, NUM_SAMPLES).astype(int))
    samples, seen = [], 0
    for vectors_ND in batches:
        samples.append(vectors_ND[chosen[(chosen >= seen) & (chosen < seen + len(vectors_ND))] - seen])
        seen += len(vectors_ND)
    samples_SD = np.concatenate(samples)
    samples_SD = samples_SD + np.random.default_rng(0).normal(size=samples_SD.shape) * 0.3 / np.sqrt(samples_SD.shape[1])
    return (samples_SD / np.linalg.norm(samples_SD, axis=1, keepdims=True)).astype(np.float32)


def tune(
    probe: Callable[[np.ndarray, int], np.ndarray], batches: Callable[[], Iterable[np.ndarray]], num_rows: int, built: tuple[int, int]
) -> Approximate:
    """Look into more partitions until a sample finds its neighbours as exact search does, or all are looked into.

    `probe(query, number of probes)` returns the scores of what the index finds, `batches()` all vectors (twice asked),
    `built` says for how many rows and with how many partitions the index was built.
    """
    queries_SD = sample_queries(batches(), num_rows)
    best_SK = exact_scores(batches(), queries_SD, NUM_NEIGHBOURS)
    num_rows_built, partitions = built
    probes, recall = 4, 0.0
    while recall < TARGET_RECALL and probes < partitions:
        probes = min(probes * 2, partitions)
        recall = measure_recall(lambda query, probes=probes: probe(query, probes), queries_SD, best_SK)
    return Approximate(num_rows_built=num_rows_built, num_rows=num_rows, num_partitions=partitions, num_probes=probes, recall=recall)
