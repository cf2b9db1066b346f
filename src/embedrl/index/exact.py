"""Exact search over vectors in memory: the truth that an approximate index is measured against, and the faster way while small."""

# N vectors, Q queries, D dim, K neighbours

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from embedrl.index.row import Modality

TIE_DECIMALS = 6
"""Scores are compared to this many decimals, so that rounding inside a matrix product does not order equal vectors."""


@dataclass(frozen=True)
class Neighbour:
    """An item and its cosine to the query, -1..1."""

    key: str
    score: float


def ranked(keys: Sequence[str], scores: np.ndarray, top: int) -> list[Neighbour]:
    """Return the `top` best by score, ties by key."""
    rounded = np.round(scores.astype(np.float64), TIE_DECIMALS) + 0.0
    if len(keys) > top:
        least = np.partition(rounded, len(keys) - top)[len(keys) - top]
        chosen = np.flatnonzero(rounded >= least)
    else:
        chosen = np.arange(len(keys))
    order = sorted(chosen.tolist(), key=lambda position: (-rounded[position], keys[position]))
    return [Neighbour(keys[position], float(rounded[position])) for position in order[:top]]


class ExactVectors:
    """All vectors of one kind, one per item."""

    def __init__(self, keys: Sequence[str], modalities: Sequence[Modality], vectors_ND: np.ndarray) -> None:
        assert vectors_ND.shape[0] == len(keys) == len(modalities)
        self.keys = list(keys)
        self.vectors_ND = vectors_ND
        self._modalities = np.asarray(modalities, dtype="U5")
        self._position = {key: position for position, key in enumerate(self.keys)}

    def nearest(
        self,
        vector: np.ndarray,
        top: int,
        *,
        modality: Collection[Modality] | None = None,
        exclude_keys: Collection[str] = (),
        only_keys: Collection[str] | None = None,
        min_score: float | None = None,
    ) -> list[Neighbour]:
        """Return the `top` items with the highest cosine, ties by key."""
        scores = self.vectors_ND @ vector
        keep = np.ones(len(self.keys), dtype=bool)
        if modality is not None:
            keep &= np.isin(self._modalities, list(modality))
        if only_keys is not None:
            keep &= np.isin(np.arange(len(self.keys)), [self._position[key] for key in only_keys if key in self._position])
        if min_score is not None:
            keep &= np.round(scores, TIE_DECIMALS) >= min_score
        keep[[self._position[key] for key in exclude_keys if key in self._position]] = False
        if keep.all():
            return ranked(self.keys, scores, top)
        positions = np.flatnonzero(keep)
        return ranked([self.keys[position] for position in positions], scores[positions], top)


def exact_scores(batches: Iterable[np.ndarray], queries_QD: np.ndarray, num_neighbours: int) -> np.ndarray:
    """Return the best scores of each query over batches of vectors, descending, float32 (Q, K): exact, one batch in memory."""
    best_QK = np.full((len(queries_QD), num_neighbours), -np.inf, dtype=np.float32)
    for vectors_ND in batches:
        both = np.concatenate([best_QK, queries_QD @ vectors_ND.T], axis=1)
        best_QK = -np.sort(-both, axis=1)[:, :num_neighbours]
    return best_QK


def measure_recall(find: Callable[[np.ndarray], np.ndarray], queries_QD: np.ndarray, best_QK: np.ndarray) -> float:
    """Return the share of the true neighbours that `find` (query -> scores of what it found) reaches, 0..1.

    A neighbour counts if it scores as well as the last true one, so vectors that are equal stand in for each other.
    """
    found = 0
    for query, best_K in zip(queries_QD, best_QK, strict=True):
        found += min(int((find(query) >= best_K[-1] - 1e-5).sum()), len(best_K))
    return found / best_QK.size
