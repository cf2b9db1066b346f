"""Confidence intervals by paired bootstrap over queries, stratified by task.

Everything is a table of replicates: row 0 holds the figures as measured, every further row the same figures on one resample
of the queries. Resamples of a task depend on the seed and the task's name only, so every system sees the same ones, and the
difference of two tables is a paired difference.
"""
# N queries of one task, F figures, R resamples

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 2000


class Figure(NamedTuple):
    """A value with its 95 % percentile interval."""

    value: float
    low: float
    high: float


def replicates(values_NF: np.ndarray, *, task: str, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> np.ndarray:
    """Return the means of each figure over one task's queries: float64 (1 + R, F), row 0 as measured.

    A NaN value is a query for which the figure is not defined: it is left out of the mean.
    """
    values_NF = np.asarray(values_NF, dtype=np.float64)
    num = len(values_NF)
    assert num > 0, f"task {task!r} has no queries"
    words = np.frombuffer(hashlib.sha256(f"{seed}\0{task}".encode()).digest(), dtype=np.uint32)
    weights_RN = np.random.default_rng(words).multinomial(num, np.full(num, 1 / num), size=num_resamples)
    weights_RN = np.concatenate([np.ones((1, num)), weights_RN])
    defined_NF = np.isfinite(values_NF)
    return _divide(weights_RN @ np.where(defined_NF, values_NF, 0.0), weights_RN @ defined_NF)


def mean_over_tasks(tables: Sequence[np.ndarray]) -> np.ndarray:
    """Return the unweighted mean over tasks, (1 + R, F); a task in which a figure is not defined is left out of it."""
    stacked = np.stack(tables)
    defined = np.isfinite(stacked)
    return _divide(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))


def figure(column_R: np.ndarray) -> Figure | None:
    """Read one column of replicates as a figure; None if it is not defined as measured."""
    if not np.isfinite(column_R[0]):
        return None
    resampled = column_R[1:][np.isfinite(column_R[1:])]
    low, high = np.percentile(resampled, [2.5, 97.5]) if resampled.size else (column_R[0], column_R[0])
    return Figure(float(column_R[0]), float(low), float(high))


def _divide(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
