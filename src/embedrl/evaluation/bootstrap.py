"""Confidence intervals by paired bootstrap over families of queries, stratified by task.

Everything is a table of replicates: row 0 holds the figures as measured, every further row the same figures on one resample
of the families (queries that share a medium are one family; most are alone in theirs). Resamples of a task depend on the seed, the
task's name and its number of families only, so every system sees the same ones, and the difference of two tables is a paired difference.

A plain bootstrap of 80 misses in 80 says "exactly 0". A figure with bounds is therefore smoothed: each resample also holds two
pseudo-observations, one at either bound, with exponential weights of mean 1 (a Bayesian bootstrap with a uniform prior). 0 of 80 then
reaches about .045 and 100 of 100 goes down to about .964, as Clopper and Pearson's exact interval does; far from the bounds it changes
little.
"""
# N queries of one task, F figures, R resamples

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

NUM_RESAMPLES = 2000


class Figure(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, form: str = ".3f", *, scale: float = 1.0) -> str:
        """Show the value and its interval; a scale of 100 shows a share in %."""
        value, low, high = (f"{scale * number:{form}}" for number in self)
        return f"{value} ({low} to {high})"


@dataclass(frozen=True)
class Replicates:
    """Measured and resampled figures of one task or group."""

    values: np.ndarray
    """float64 (1 + R, F), row 0 as measured."""
    num_families: np.ndarray
    """float64 (F,): independent observations behind each figure. For a mean over tasks: of how many alike its variance is that."""
    seed: int = 0

    def __sub__(self, other: "Replicates") -> "Replicates":
        """Return the paired difference."""
        return Replicates(self.values - other.values, np.fmin(self.num_families, other.num_families), self.seed)


def replicates(
    values_NF: np.ndarray,
    *,
    task: str,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    families: Sequence[Hashable] | None = None,
) -> Replicates:
    """Bootstrap the mean of each figure over one task's queries.

    A NaN value is a query for which the figure is not defined: it is left out of the mean. `families` names each query's family, which
    is drawn whole; without it every query is its own.
    """
    values_NF = np.asarray(values_NF, dtype=np.float64)
    num_queries = len(values_NF)
    assert num_queries > 0, f"task {task!r} has no queries"
    family_N, num_families = _numbers(families, num_queries)
    words = np.frombuffer(hashlib.sha256(f"{seed}\0{task}".encode()).digest(), dtype=np.uint32)
    weights_RN = np.random.default_rng(words).multinomial(num_families, np.full(num_families, 1 / num_families), size=num_resamples)
    weights_RN = np.concatenate([np.ones((1, num_queries)), weights_RN[:, family_N]])
    defined_NF = np.isfinite(values_NF)
    means = _divide(weights_RN @ np.where(defined_NF, values_NF, 0.0), weights_RN @ defined_NF)
    counts = np.array([np.unique(family_N[column]).size for column in defined_NF.T], dtype=np.float64)
    return Replicates(means, counts, seed)


def _numbers(families: Sequence[Hashable] | None, num_queries: int) -> tuple[np.ndarray, int]:
    if families is None:
        return np.arange(num_queries), num_queries
    assert len(families) == num_queries, f"{len(families)} families for {num_queries} queries"
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in families]), len(known)


def mean_over_tasks(tables: Sequence[Replicates]) -> Replicates:
    """Return the unweighted mean over tasks; a task in which a figure is not defined is left out of it."""
    stacked = np.stack([table.values for table in tables])
    defined = np.isfinite(stacked)
    num_TF = np.stack([table.num_families for table in tables])
    inverse = _divide(np.ones_like(num_TF), num_TF)
    num_tasks = np.isfinite(inverse).sum(axis=0)
    num_families = _divide(num_tasks**2, np.nansum(inverse, axis=0))
    return Replicates(
        _divide(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0)), np.nan_to_num(num_families), tables[0].seed
    )


def mean_figure(
    values: Mapping[str, Sequence[float] | np.ndarray],
    families: Mapping[str, Sequence[Hashable]],
    *,
    seed: int = 0,
    bounds: tuple[float, float] | None = None,
) -> Figure | None:
    """Return the unweighted mean over tasks of one figure, with its interval clustered by family; None if undefined.

    Both are by task: a value for each query, and the query's family (none at all: every query is its own).
    """
    tables = [
        replicates(np.asarray(column, dtype=np.float64)[:, None], task=task, seed=seed, families=families[task] or None)
        for task, column in values.items()
    ]
    return figure(mean_over_tasks(tables), bounds=bounds)


class RankedQuery(Protocol):
    """What of a query the interval of a mean over queries depends on."""

    @property
    def task(self) -> str:
        """Name of its task."""
        ...

    @property
    def family(self) -> str:
        """Name of its family: queries that share a medium are resampled together."""
        ...


def mean_of_queries(queries: Sequence[RankedQuery], values: Sequence[float], *, low: float = 0.0) -> Figure:
    """Return the unweighted mean over tasks of a value per query, in `low`..1, with its interval, clustered by family."""
    by_task: dict[str, list[float]] = defaultdict(list)
    families: dict[str, list[str]] = defaultdict(list)
    for query, value in zip(queries, values, strict=True):
        by_task[query.task].append(value)
        families[query.task].append(query.family)
    mean = mean_figure(by_task, families, bounds=(low, 1.0))
    assert mean is not None
    return mean


def mean_percentage(queries: Sequence[RankedQuery], values: Sequence[float], *, low: float = 0.0) -> str:
    """Show `mean_of_queries` in %."""
    return mean_of_queries(queries, values, low=low).text(".1f", scale=100)


def figure(table: Replicates, column: int = 0, *, bounds: tuple[float, float] | None = None) -> Figure | None:
    """Return one figure with its interval; None if undefined. `bounds` keep the interval from collapsing at them."""
    column_R = table.values[:, column]
    value = float(column_R[0])
    if not np.isfinite(value):
        return None
    resampled = column_R[1:]
    if bounds is not None:
        low_R, high_R = np.random.default_rng([table.seed, 0]).exponential(size=(2, len(resampled)))
        num = table.num_families[column]
        resampled = (num * resampled + bounds[0] * low_R + bounds[1] * high_R) / (num + low_R + high_R)
    resampled = resampled[np.isfinite(resampled)]
    low, high = np.percentile(resampled, [2.5, 97.5]) if resampled.size else (value, value)
    return Figure(value, min(float(low), value), max(float(high), value))


def _divide(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
