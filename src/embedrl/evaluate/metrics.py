"""Retrieval metrics of one ranking, and the ranking itself.

A query is described by the gains of its ranking, best first (0 = not relevant), and the gains of all its relevant
candidates. Definitions are those of MMEB-V2, with each graded relevance kept with the candidate it belongs to.
"""
# Q queries, C candidates, K top ranks, D dim

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedrl.errors import ConfigError

CUTOFFS = (1, 5, 10)
DEPTH = max(CUTOFFS)

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
    """Return nDCG with gain 2^rel - 1 and discount log2(rank + 1); 0 if nothing is relevant."""
    return ndcg_linear(np.exp2(ranked) - 1, np.exp2(relevant) - 1, k)


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


def score_ranking(ranked_keys: Sequence[str], relevant: Mapping[str, float]) -> dict[str, float]:
    """Return all 24 values of one query, given its candidates best first and the graded relevance (> 0) of the right ones."""
    ranked = np.array([relevant.get(key, 0.0) for key in dict.fromkeys(ranked_keys)], dtype=np.float64)
    gains = np.array(list(relevant.values()), dtype=np.float64)
    return {f"{name}@{k}": metric(ranked, gains, k) for name, metric in METRICS.items() for k in CUTOFFS}


@dataclass(frozen=True)
class Ranking:
    """How the candidates of one query came out."""

    top: tuple[tuple[str, float], ...]
    """(candidate key, cosine) of the best `DEPTH`, best first."""
    rank: int
    """1-based place of the best relevant candidate; 0 if there is none."""
    positive: float
    """Cosine of the best relevant candidate; NaN if there is none."""
    negative: float
    """Cosine of the best candidate that is not relevant; NaN if there is none."""


def rank(
    query_QD: np.ndarray,
    candidate_CD: np.ndarray,
    keys: Sequence[str],
    relevant: Sequence[Mapping[str, float]],
    local: Sequence[Sequence[str]] | None = None,
    *,
    block_size: int = 512,
) -> list[Ranking]:
    """Rank all candidates, or each query's `local` ones, by cosine; vectors must have unit length.

    Cosines are rounded to 1e-6, so that equal vectors tie wherever they stand, and ties go to the smaller key: the result
    depends neither on the order of the candidates nor on `block_size`, the number of queries that are scored at once.
    """
    if len(keys) != len(candidate_CD) or len(relevant) != len(query_QD):
        raise ConfigError(f"{len(keys)} keys for {len(candidate_CD)} candidates, {len(relevant)} labels for {len(query_QD)} queries")
    by_key = np.argsort(np.array(keys), kind="stable")
    sorted_keys = [keys[index] for index in by_key]
    place = {key: index for index, key in enumerate(sorted_keys)}
    sorted_CD = candidate_CD[by_key]
    rankings: list[Ranking] = []
    for start in range(0, len(query_QD), block_size):
        scores_QC = np.round(query_QD[start : start + block_size] @ sorted_CD.T, 6)
        for query, scores_C in enumerate(scores_QC, start):
            places = np.array(sorted(place[key] for key in relevant[query]), dtype=np.int64)
            chosen = None if local is None else np.array(sorted({place[key] for key in local[query]}), dtype=np.int64)
            rankings.append(_ranking(scores_C, sorted_keys, places, chosen))
    return rankings


def _ranking(scores_C: np.ndarray, keys: Sequence[str], relevant: np.ndarray, chosen: np.ndarray | None) -> Ranking:
    """Rank candidates that stand in key order (only the `chosen` places), without sorting more of them than the top needs."""
    if chosen is not None:
        scores_C, keys, relevant = scores_C[chosen], [keys[place] for place in chosen], np.searchsorted(chosen, relevant)
    depth = min(DEPTH, len(scores_C))
    threshold = np.partition(scores_C, -depth)[-depth]
    top = np.flatnonzero(scores_C >= threshold)
    top = top[np.argsort(-scores_C[top], kind="stable")][:depth]
    negatives = np.delete(scores_C, relevant)
    first, positive = 0, float("nan")
    if relevant.size:
        best = int(relevant[scores_C[relevant].argmax()])
        positive = float(scores_C[best])
        first = 1 + int((scores_C > scores_C[best]).sum() + (scores_C[:best] == scores_C[best]).sum())
    return Ranking(
        top=tuple((keys[place], float(scores_C[place])) for place in top),
        rank=first,
        positive=positive,
        negative=float(negatives.max()) if negatives.size else float("nan"),
    )
