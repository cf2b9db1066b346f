"""Exact cosine ranking in bounded memory, from a few candidates to a million.

A product in float32 finds which candidates may matter, block by block, and is dropped. Those few (the top, and what lies
close to the best relevant one) are scored again in float64 and rounded to 1e-6, so equal vectors tie wherever they stand, and ties
go to the smaller key. The result depends neither on the order of the candidates nor on the size of the blocks.
"""
# Q queries, C candidates, K top ranks, D dim, P (query, candidate) pairs, B candidates of a block

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedrl.errors import ConfigError
from embedrl.evaluation.metrics import DEPTH

BLOCK_QUERIES = 256
BLOCK_CANDIDATES = 8192
"""Scores of one block take 8 MB."""

_SLACK = 1e-5
"""Upper bound of the float32 error of a cosine of unit vectors, rounding included."""
_NEVER = -4.0
"""Below every cosine."""
_PAIR_NUMBERS = 1 << 22
"""Numbers of a side that are gathered at once to score pairs."""


@dataclass(frozen=True)
class Ranking:
    """Ranking of one query."""

    top: tuple[tuple[str, float], ...]
    """(candidate key, cosine) of the best `DEPTH`, best first."""
    rank: int
    """1-based rank of the best relevant candidate; 0 without one."""
    positive: float
    """Cosine of the best relevant candidate; NaN without one."""
    negative: float
    """Cosine of the best irrelevant candidate; NaN without one."""


def rank(
    query_QD: np.ndarray,
    candidate_CD: np.ndarray,
    keys: Sequence[str],
    relevant: Sequence[Mapping[str, float]],
    local: Sequence[Sequence[str]] | None = None,
    *,
    task: str = "",
    block_size: int = BLOCK_CANDIDATES,
) -> list[Ranking]:
    """Rank all candidates, or each query's `local` ones, by cosine; vectors must have unit length. `task` is named in errors.

    Beside the vectors it needs some 100 MB, however many candidates there are. Raises ConfigError for a key that repeats, for a
    query that has no candidate, for a vector that holds what is no number, and for columns that do not fit each other.
    """
    of = f"task {task!r}: " if task else ""
    if len(keys) != len(candidate_CD) or len(relevant) != len(query_QD):
        raise ConfigError(f"{of}{len(keys)} keys for {len(candidate_CD)} candidates, {len(relevant)} labels for {len(query_QD)} queries")
    place = {key: row for row, key in enumerate(keys)}
    if len(place) < len(keys):
        twice = next(key for row, key in enumerate(keys) if place[key] != row)
        raise ConfigError(f"{of}candidate {twice!r} stands there twice; keep one")
    if len(query_QD) and query_QD.shape[1:] != candidate_CD.shape[1:]:
        raise ConfigError(f"{of}queries of {query_QD.shape[1:]} numbers, candidates of {candidate_CD.shape[1:]}: one model embeds both")
    for what, names_Q in (("relevant", relevant), ("ranked", local or ())):
        for row, names in enumerate(names_Q):
            lost = [name for name in names if name not in place]
            if lost:
                raise ConfigError(f"{of}query {row}: its {what} candidate {lost[0]!r} is not in the pool; add it, or leave it out")
    chosen = None if local is None else [np.array(sorted({place[key] for key in names}), dtype=np.int64) for names in local]
    for row in range(len(query_QD)):
        if not (len(keys) if chosen is None else len(chosen[row])):
            raise ConfigError(f"{of}query {row} has no candidates; give at least one")
    for side, vectors in (("query", query_QD), ("candidate", candidate_CD)):
        for start in range(0, len(vectors), block_size):
            bad = np.flatnonzero(~np.isfinite(vectors[start : start + block_size].sum(axis=1)))
            if bad.size:
                raise ConfigError(f"{of}{side} {start + int(bad[0])}: its vector holds NaN or infinity; embed it again")
    order = np.empty(len(keys), dtype=np.int64)
    order[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    labels = [np.array([place[key] for key in row], dtype=np.int64) for row in relevant]
    scorer = _Scorer(np.asarray(query_QD, np.float32), np.asarray(candidate_CD, np.float32), order)
    ranked = scorer.rank_all(labels, block_size) if chosen is None else scorer.rank_chosen(labels, chosen)
    return [_named(ranking, keys) for ranking in ranked]


@dataclass(frozen=True)
class _Ranked:
    """A ranking by candidate row."""

    top: list[int]
    scores: list[float]
    rank: int
    positive: float
    negative: float


def _named(ranked: _Ranked, keys: Sequence[str]) -> Ranking:
    top = tuple((keys[row], score) for row, score in zip(ranked.top, ranked.scores, strict=True))
    return Ranking(top, ranked.rank, ranked.positive, ranked.negative)


@dataclass(frozen=True)
class _Scorer:
    """Exact scores of (query, candidate) pairs; ties are broken by key order."""

    query_QD: np.ndarray
    candidate_CD: np.ndarray
    order_C: np.ndarray

    def score(self, queries_P: np.ndarray, candidates_P: np.ndarray) -> np.ndarray:
        """Return the rounded cosines of pairs, float64 (P,)."""
        scores_P = np.empty(len(queries_P))
        step = max(1, _PAIR_NUMBERS // self.query_QD.shape[1])
        for start in range(0, len(queries_P), step):
            part = slice(start, start + step)
            query_PD, candidate_PD = self.query_QD[queries_P[part]], self.candidate_CD[candidates_P[part]]
            scores_P[part] = np.einsum("pd,pd->p", query_PD, candidate_PD, dtype=np.float64)
        return np.round(scores_P, 6)

    def rank_chosen(self, labels: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> Iterator[_Ranked]:
        """Rank a few candidates of each query."""
        for query, (relevant, rows) in enumerate(zip(labels, chosen, strict=True)):
            scores = self.score(np.full(len(rows), query), rows)
            is_relevant = np.isin(rows, relevant)
            best = self._best(rows[is_relevant], scores[is_relevant])
            before = 0 if best is None else self._num_before(rows[~is_relevant], scores[~is_relevant], best)
            yield self._ranked(rows, scores, is_relevant, best, before)

    def rank_all(self, labels: Sequence[np.ndarray], block_size: int) -> Iterator[_Ranked]:
        """Rank all candidates of each query. Relevant ones are scored first; blocks are searched for the others."""
        sizes = [len(rows) for rows in labels]
        label_queries_P = np.repeat(np.arange(len(labels)), sizes)
        label_rows_P = np.concatenate([*labels, np.empty(0, np.int64)])
        parts = np.split(self.score(label_queries_P, label_rows_P), np.cumsum(sizes)[:-1]) if labels else []
        bests = [self._best(rows, scores) for rows, scores in zip(labels, parts, strict=True)]
        search = _Search(self, bests)
        for start in range(0, len(self.candidate_CD), block_size):
            search.block(start, min(start + block_size, len(self.candidate_CD)), label_queries_P, label_rows_P)
        for query, (relevant, scores, best) in enumerate(zip(labels, parts, bests, strict=True)):
            others = search.rows_QK[query]
            num = int((others >= 0).sum())
            rows = np.concatenate([relevant, others[:num]])
            scores = np.concatenate([scores, search.scores_QK[query, :num]])
            yield self._ranked(rows, scores, np.arange(len(rows)) < len(relevant), best, int(search.num_before_Q[query]))

    def _best(self, rows: np.ndarray, scores: np.ndarray) -> tuple[float, int] | None:
        """Return (score, row) of the best of some candidates; None for none."""
        if not len(rows):
            return None
        first = np.lexsort((self.order_C[rows], -scores))[0]
        return float(scores[first]), int(rows[first])

    def _num_before(self, rows: np.ndarray, scores: np.ndarray, best: tuple[float, int]) -> int:
        tied = scores == best[0]
        return int((scores > best[0]).sum() + (self.order_C[rows[tied]] < self.order_C[best[1]]).sum())

    def _ranked(
        self, rows: np.ndarray, scores: np.ndarray, is_relevant: np.ndarray, best: tuple[float, int] | None, num_before: int
    ) -> _Ranked:
        first = np.lexsort((self.order_C[rows], -scores))[:DEPTH]
        negatives = scores[~is_relevant]
        return _Ranked(
            top=rows[first].tolist(),
            scores=scores[first].tolist(),
            rank=0 if best is None else 1 + num_before,
            positive=float("nan") if best is None else best[0],
            negative=float(negatives.max()) if len(negatives) else float("nan"),
        )


class _Search:
    """The best candidates that are not relevant so far, and how many of those come before the best relevant one."""

    def __init__(self, scorer: _Scorer, bests: Sequence[tuple[float, int] | None]) -> None:
        num = len(bests)
        self.scorer = scorer
        self.rows_QK = np.full((num, DEPTH), -1, np.int64)
        self.scores_QK = np.full((num, DEPTH), -np.inf)
        self.num_before_Q = np.zeros(num, np.int64)
        self._best_Q = np.array([np.inf if best is None else best[0] for best in bests])
        self._best_row_Q = np.array([-1 if best is None else best[1] for best in bests], np.int64)

    def block(self, start: int, stop: int, label_queries_P: np.ndarray, label_rows_P: np.ndarray) -> None:
        """Search the candidates from `start` to `stop`, leaving out the relevant ones."""
        block_BD = self.scorer.candidate_CD[start:stop]
        inside = (label_rows_P >= start) & (label_rows_P < stop)
        label_queries, label_columns = label_queries_P[inside], label_rows_P[inside] - start
        buffer = np.empty(min(BLOCK_QUERIES, len(self.rows_QK)) * len(block_BD), np.float32)
        for first in range(0, len(self.rows_QK), BLOCK_QUERIES):
            query_QD = self.scorer.query_QD[first : first + BLOCK_QUERIES]
            scores_QB = buffer[: len(query_QD) * len(block_BD)].reshape(len(query_QD), -1)
            np.matmul(query_QD, block_BD.T, out=scores_QB)
            own = (label_queries >= first) & (label_queries < first + len(query_QD))
            scores_QB[label_queries[own] - first, label_columns[own]] = _NEVER
            self._search(scores_QB, first, start)

    def _search(self, scores_QB: np.ndarray, first: int, start: int) -> None:
        """Find candidates for the top or before the best relevant one, and score them exactly."""
        part = slice(first, first + len(scores_QB))
        lowest_Q = self.scores_QK[part, -1]
        if scores_QB.shape[1] > DEPTH and not np.isfinite(lowest_Q).all():
            lowest_Q = np.maximum(lowest_Q, np.partition(scores_QB, -DEPTH, axis=1)[:, -DEPTH])
        best_Q = self._best_Q[part]
        is_deep = best_Q < lowest_Q
        self._count_deep(scores_QB, np.flatnonzero(is_deep), first, start)
        candidates = np.flatnonzero(scores_QB >= np.maximum(lowest_Q - _SLACK, _NEVER / 2).astype(np.float32)[:, None])
        if candidates.size:
            places, columns = np.divmod(candidates, scores_QB.shape[1])
            queries, rows = places + first, columns + start
            scores = self.scorer.score(queries, rows)
            self._count(queries[~is_deep[places]], rows[~is_deep[places]], scores[~is_deep[places]])
            self._keep(queries, rows, scores)

    def _count_deep(self, scores_QB: np.ndarray, deep: np.ndarray, first: int, start: int) -> None:
        """Count for queries whose best relevant candidate is far down: most of what comes before it needs no exact score."""
        for place in deep:
            scores_B, best = scores_QB[place], np.float32(self._best_Q[first + place])
            above_B = scores_B > best + np.float32(_SLACK)
            self.num_before_Q[first + place] += np.count_nonzero(above_B)
            columns = np.flatnonzero((scores_B >= best - np.float32(_SLACK)) & ~above_B)
            queries, rows = np.full(columns.size, first + place), columns + start
            self._count(queries, rows, self.scorer.score(queries, rows))

    def _count(self, queries: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
        """Count the pairs that come before the best relevant candidate."""
        best, order = self._best_Q[queries], self.scorer.order_C
        is_before = (scores > best) | ((scores == best) & (order[rows] < order[self._best_row_Q[queries]]))
        np.add.at(self.num_before_Q, queries[is_before], 1)

    def _keep(self, queries: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
        """Merge pairs into the top, keeping the best `DEPTH`."""
        changed = np.unique(queries)
        queries = np.concatenate([queries, np.repeat(changed, DEPTH)])
        scores = np.concatenate([scores, self.scores_QK[changed].ravel()])
        rows = np.concatenate([rows, self.rows_QK[changed].ravel()])
        order = np.lexsort((self.scorer.order_C[rows], -scores, queries))
        begins = np.searchsorted(queries[order], changed)
        best = order[begins[:, None] + np.arange(DEPTH)]
        self.rows_QK[changed], self.scores_QK[changed] = rows[best], scores[best]
