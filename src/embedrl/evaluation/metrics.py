"""Retrieval metrics of one ranking.

A query is described by the gains of its ranking, best first (0 = not relevant), and the gains of all its relevant
candidates. Definitions are those of MMEB-V2, with each graded relevance kept with the candidate it belongs to.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from embedrl.errors import ConfigError

CUTOFFS = (1, 5, 10)
DEPTH = max(CUTOFFS)
_LARGE_GRADE = 500.0
"""2 to the power of more than about 1,000 overflows."""

Mode = Literal["correct", "mmeb-compat"]
"""Which candidate a grade belongs to: the one it was given to, or the one that MMEB-V2's evaluator takes it for."""

N = TypeVar("N", bound=Hashable)

Metric = Callable[[np.ndarray, np.ndarray, int], float]
"""(gains of the ranking best first, gains of all relevant candidates, k) -> value in 0..1."""


def hit(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return 1 if any of the first k is relevant."""
    return float((ranked[:k] > 0).any())


def precision(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return the number of relevant candidates among the first k, divided by k, however short the ranking is."""
    return float((ranked[:k] > 0).sum()) / k


def recall(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return the share of the relevant candidates that are among the first k; 1 if there are none."""
    return float((ranked[:k] > 0).sum()) / relevant.size if relevant.size else 1.0


def f1(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return the harmonic mean of this query's precision and recall."""
    both = precision(ranked, relevant, k), recall(ranked, relevant, k)
    return 2 * both[0] * both[1] / sum(both) if sum(both) else 0.0


def average_precision(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return the sum of the precisions at the ranks of relevant candidates, over min(number of relevant, k)."""
    if not relevant.size:
        return 0.0
    is_hit = ranked[:k] > 0
    precisions = is_hit.cumsum() / np.arange(1, is_hit.size + 1)
    return float(precisions[is_hit].sum()) / min(relevant.size, k)


def reciprocal_rank(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return 1 / rank of the first relevant candidate, 0 if it is not among the first k."""
    hits = np.flatnonzero(ranked[:k] > 0)
    return 1.0 / (int(hits[0]) + 1) if hits.size else 0.0


def ndcg_linear(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return nDCG with gain `rel` and discount log2(rank + 1); 0 if nothing is relevant."""
    ideal = _dcg(np.sort(relevant)[::-1], k)
    return _dcg(ranked, k) / ideal if ideal else 0.0


def ndcg_exponential(ranked: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """Return nDCG with gain 2^rel - 1 and discount log2(rank + 1); 0 if nothing is relevant. Large grades do not overflow."""
    shift = max(0.0, relevant.max(initial=0.0) - _LARGE_GRADE)
    return ndcg_linear(*(np.exp2(grades - shift) - np.exp2(-shift) for grades in (ranked, relevant)), k)


def _dcg(gains: np.ndarray, k: int) -> float:
    gains = gains[:k]
    return float((gains / np.log2(np.arange(2, gains.size + 2))).sum())


METRICS: dict[str, Metric] = {
    "hit": hit,
    "ndcg_linear": ndcg_linear,
    "ndcg_exponential": ndcg_exponential,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "map": average_precision,
    "mrr": reciprocal_rank,
}
METRIC_NAMES = tuple(f"{name}@{k}" for name in METRICS for k in CUTOFFS)


def score_ranking(ranked_keys: Sequence[N], relevant: Mapping[N, float]) -> dict[str, float]:
    """Return all 24 values of one query, given its candidates best first and the graded relevance (> 0) of the right ones.

    Raises ConfigError for a relevance that is not above 0 and finite.
    """
    ranked, gains = _gains(ranked_keys, relevant)
    return {f"{name}@{k}": metric(ranked, gains, k) for name, metric in METRICS.items() for k in CUTOFFS}


def score_one(metric: str, ranked_keys: Sequence[N], relevant: Mapping[N, float]) -> float:
    """Return one value by its name: a metric of `METRICS` and a cutoff of 1 or more ("hit@1"). Raises ConfigError."""
    name, _, k = metric.partition("@")
    if name not in METRICS or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise ConfigError(f"metric {metric!r}: give one of {', '.join(METRICS)} with a cutoff of 1 or more, as in hit@1")
    return METRICS[name](*_gains(ranked_keys, relevant), int(k))


def _gains(ranked_keys: Sequence[N], relevant: Mapping[N, float]) -> tuple[np.ndarray, np.ndarray]:
    if bad := next((key for key, gain in relevant.items() if not 0 < gain < math.inf), None):
        raise ConfigError(f"candidate {bad!r}: relevance {relevant[bad]} must be above 0 and finite; leave out the others")
    ranked = np.array([relevant.get(key, 0.0) for key in dict.fromkeys(ranked_keys)], dtype=np.float64)
    return ranked, np.array(list(relevant.values()), dtype=np.float64)


def mmeb_compat_grades(relevant: Mapping[N, float]) -> dict[N, float]:
    """Return the grades as MMEB-V2's evaluator hands them out: names in the order of a Python set, grades in the order of the labels.

    Give the names as its files hold them, in their order there. Whole numbers always come out alike; for texts the order, and
    with it the nDCG of a perfect ranking, changes with PYTHONHASHSEED. Only tasks with several grades are touched.
    """
    return dict(zip(set(list(relevant)), relevant.values(), strict=True))  # noqa: C414 (a set of a dict is laid out otherwise)
