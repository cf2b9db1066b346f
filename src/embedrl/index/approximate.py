"""Approximate (IVF) search: parameters, and recall measured against exact search after each build."""

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedrl.errors import StoreError
from embedrl.index.exact import exact_scores, measure_recall
from embedrl.index.row import Vectors

# N vectors, S samples, D dim, K neighbours

NUM_SAMPLES = 32
NUM_NEIGHBOURS = 10
ROWS_PER_PARTITION = 2048
MIN_PARTITIONS = 16

Kind = Literal["ivf-flat", "ivf-sq"]


class Policy(BaseModel):
    """When a table gets approximate indexes, of which kind, and how good they must be. Kept in the table, for all who open it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    exact_below: int = Field(default=50_000, ge=0)
    """With fewer rows (files and pages), a search compares with every vector, in memory."""
    kind: Kind = "ivf-flat"
    """Partitions of whole vectors; or of vectors at a byte a number, the best of which are compared whole: less is read."""
    recall: float = Field(default=0.99, gt=0, le=1)
    """Recall@10 that is probed for; where it is not reached, search stays exact."""
    growth: float = Field(default=2.0, gt=1)
    """The index is built anew when the table has grown by this factor; until then it takes in new rows as it is."""


class Approximate(BaseModel):
    """How the approximate index over one kind of vectors is used, and how good it was when it was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    num_rows_built: int
    """How many rows the partitions were fitted to."""
    num_rows: int
    """How many rows there were when the recall was measured."""
    num_partitions: int
    num_probes: int
    """How many partitions a search looks into."""
    recall: float
    """Recall@10 against exact search, 0..1."""

    def serves(self, policy: Policy, num_rows: int) -> bool:
        """Whether it is of the wanted kind, and its partitions, fitted to fewer rows, still serve."""
        return self.kind == policy.kind and num_rows < policy.growth * self.num_rows_built

    def is_measured(self, policy: Policy, num_rows: int) -> bool:
        """Whether it has seen all rows, and finds what is wanted or cannot find more."""
        return self.num_rows == num_rows and (self.recall >= policy.recall or self.num_probes == self.num_partitions)


class Searching(BaseModel):
    """How a table is searched, as it is kept in the table."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    policy: Policy = Policy()
    approximate: dict[Vectors, Approximate] = {}
    """What there is of indexes."""

    def good(self, vectors: Vectors, num_rows: int) -> Approximate | None:
        """Return the index to search with so many rows; None: search exactly."""
        built = self.approximate.get(vectors)
        return built if built is not None and num_rows >= self.policy.exact_below and built.recall >= self.policy.recall else None


def read_searching(text: str | None, where: str) -> Searching:
    """Read the settings as JSON; `where` names the index, should they not be readable (StoreError)."""
    try:
        return Searching() if text is None else Searching.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(f"{where!r}: what it says of its approximate indexes cannot be read; make the index anew") from error


def num_partitions(num_rows: int) -> int:
    """Return how many partitions an index over so many rows gets."""
    return max(MIN_PARTITIONS, num_rows // ROWS_PER_PARTITION)


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
    probe: Callable[[np.ndarray, int], np.ndarray],
    batches: Callable[[], Iterable[np.ndarray]],
    num_rows: int,
    partitions: int,
    recall: float,
) -> tuple[int, float]:
    """Look into more partitions until a sample finds its neighbours as exact search does, or all are looked into.

    `probe(query, number of probes)` returns the scores of what the index finds, `batches()` all vectors (twice asked). Returns the
    number of probes, and the recall that they give.
    """
    queries_SD = sample_queries(batches(), num_rows)
    best_SK = exact_scores(batches(), queries_SD, NUM_NEIGHBOURS)
    probes, reached = 4, 0.0
    while reached < recall and probes < partitions:
        probes = min(probes * 2, partitions)
        reached = measure_recall(lambda query, probes=probes: probe(query, probes), queries_SD, best_SK)
    return probes, reached
