"""Exact in-memory vector search."""

# N vectors, Q queries, D dim, K neighbours

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from embedrl.index.row import Modality

TIE_DECIMALS = 6
"""Decimals to which scores are compared, so that rounding errors do not order equal vectors."""


@dataclass(frozen=True)
class Neighbour:
    """An item and its cosine to the query, -1..1."""

    key: str
    score: float


@dataclass(frozen=True)
class Candidates:
    """Candidate set of a nearest-neighbour search; all items by default."""

    modality: Collection[Modality] | None = None
    only_keys: Collection[str] | None = None
    exclude_keys: Collection[str] = ()
    min_score: float | None = None
    """Lowest cosine, -1..1."""
    reasoned_only: bool = False
    """Only items that have a T-CoT."""


EVERYTHING = Candidates()


class VectorBatch(NamedTuple):
    """Vectors of one kind of some rows, with the columns that a search filters by."""

    keys: list[str]
    modalities: list[Modality]
    has_tcot: np.ndarray
    """bool (N,)."""
    vectors_ND: np.ndarray
    """float32 (N, D), unit length."""


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

    def __init__(self, batch: VectorBatch) -> None:
        self.keys, modalities, self._has_tcot, self.vectors_ND = batch
        assert len(self.vectors_ND) == len(self.keys) == len(modalities) == len(self._has_tcot)
        self._modalities = np.asarray(modalities, dtype="U5")
        self._position = {key: position for position, key in enumerate(self.keys)}

    @classmethod
    def first_of_each(cls, batches: Iterable[VectorBatch], dim: int) -> "ExactVectors":
        """Collect batches, keeping the first row of each item."""
        keys: dict[str, None] = {}
        modalities: list[Modality] = []
        has_tcot, vectors = [np.empty(0, dtype=bool)], [np.empty((0, dim), dtype=np.float32)]
        for batch in batches:
            new = []
            for position, key in enumerate(batch.keys):
                if key not in keys:
                    keys[key] = None
                    new.append(position)
            modalities += [batch.modalities[position] for position in new]
            has_tcot.append(batch.has_tcot[new])
            vectors.append(batch.vectors_ND[new])
        return cls(VectorBatch(list(keys), modalities, np.concatenate(has_tcot), np.concatenate(vectors)))

    def without_tcot(self, keys: Iterable[str]) -> set[str]:
        """Return the keys among these whose items have no T-CoT."""
        return {key for key in keys if key in self._position and not self._has_tcot[self._position[key]]}

    def nearest(self, vector: np.ndarray, top: int, among: Candidates = EVERYTHING) -> list[Neighbour]:
        """Return the `top` items with the highest cosine, ties by key."""
        scores = self.vectors_ND @ vector
        keep = self._has_tcot.copy() if among.reasoned_only else np.ones(len(self.keys), dtype=bool)
        if among.modality is not None:
            keep &= np.isin(self._modalities, list(among.modality))
        if among.only_keys is not None:
            keep &= np.isin(np.arange(len(self.keys)), self._positions(among.only_keys))
        if among.min_score is not None:
            keep &= np.round(scores, TIE_DECIMALS) >= among.min_score
        keep[self._positions(among.exclude_keys)] = False
        if keep.all():
            return ranked(self.keys, scores, top)
        positions = np.flatnonzero(keep)
        return ranked([self.keys[position] for position in positions], scores[positions], top)

    def _positions(self, keys: Iterable[str]) -> list[int]:
        return [self._position[key] for key in keys if key in self._position]


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
    num_reached = 0
    for query, best_K in zip(queries_QD, best_QK, strict=True):
        num_reached += min(int((find(query) >= best_K[-1] - 1e-5).sum()), len(best_K))
    return num_reached / best_QK.size
