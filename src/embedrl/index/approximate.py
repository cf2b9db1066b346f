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
    """Settings of approximate indexes, stored in the table: when to build them, their kind and required recall."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    exact_below: int = Field(default=50_000, ge=0)
    """Below this number of rows, search is exact, in memory."""
    kind: Kind = "ivf-flat"
    """IVF over full vectors, or over scalar-quantised ones with re-ranking by full vectors."""
    recall: float = Field(default=0.99, gt=0, le=1)
    """Required recall@10; if not reached, search stays exact."""
    growth: float = Field(default=2.0, gt=1)
    """Growth factor of the table at which the index is rebuilt; until then new rows are added to it."""


class Approximate(BaseModel):
    """Search parameters and measured recall of the approximate index over one kind of vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    num_rows_built: int
    """Number of rows the partitions were fitted to."""
    num_rows: int
    """Number of rows at the time of the measurement."""
    num_partitions: int
    num_probes: int
    """Number of partitions probed per search."""
    recall: float
    """Recall@10 against exact search, 0..1."""

    def serves(self, policy: Policy, num_rows: int) -> bool:
        """Whether it is of the wanted kind and not outgrown."""
        return self.kind == policy.kind and num_rows < policy.growth * self.num_rows_built

    def is_measured(self, policy: Policy, num_rows: int) -> bool:
        """Whether it has seen all rows, and finds what is wanted or cannot find more."""
        return self.num_rows == num_rows and (self.recall >= policy.recall or self.num_probes == self.num_partitions)


class Searching(BaseModel):
    """Search settings stored in the table."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    policy: Policy = Policy()
    approximate: dict[Vectors, Approximate] = {}
    """Kind of vectors -> approximate index."""

    def good(self, vectors: Vectors, num_rows: int) -> Approximate | None:
        """Return the approximate index to use for this number of rows; None: search exactly."""
        built = self.approximate.get(vectors)
        return built if built is not None and num_rows >= self.policy.exact_below and built.recall >= self.policy.recall else None


def read_searching(text: str | None, where: str) -> Searching:
    """Read the settings as JSON; `where` names the index, should they not be readable (StoreError)."""
    try:
        return Searching() if text is None else Searching.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(f"{where!r}: what it says of its approximate indexes cannot be read; make the index anew") from error


def num_partitions(num_rows: int) -> int:
    """Return the number of partitions of an index over this number of rows."""
    return max(MIN_PARTITIONS, num_rows // ROWS_PER_PARTITION)


def sample_queries(batches: Iterable[np.ndarray], num_rows: int) -> np.ndarray:
    """Return evenly sampled rows with small noise added, unit length, float32 (S, D)."""
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
    """Double the number of probes until the sampled recall is reached, or all partitions are probed.

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
