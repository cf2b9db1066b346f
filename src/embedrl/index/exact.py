"""Exact in-memory vector search."""

# N vectors, Q queries, D dim, K neighbours

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from embedrl.index.row import PART_COLUMNS, Modality

TIE_DECIMALS = 6
"""Decimals to which scores are compared, so that rounding errors do not order equal vectors."""


@dataclass(frozen=True)
class Neighbour:
    """An item and its cosine to the query, -1..1."""

    key: str
    score: float
    file: bytes = field(default=b"", compare=False)
    """Path of the item's file, of several the first; empty where nothing was ranked."""
    part: Sequence[float] = field(default=(), compare=False)
    """Which part of that file it is: the numbers of `PART_COLUMNS`, NaN where there is none; empty where nothing was ranked."""

    @property
    def position(self) -> tuple[bytes, list[float]]:
        """What the places of an item are sorted by: the path, then page and unit."""
        return self.file, np.nan_to_num(self.part[:2]).tolist()


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


class Places(NamedTuple):
    """Which items some rows are of, and where these lie."""

    keys: list[str]
    files: list[bytes]
    """Paths."""
    parts: np.ndarray
    """`PART_COLUMNS`, float64 (N, 6), NaN where there is none."""

    def first_of_each(self) -> dict[str, int]:
        """Return the position of each item's first place: by path, page and unit."""
        within = np.nan_to_num(self.parts[:, :2]).tolist()
        first: dict[str, int] = {}
        for position, key in enumerate(self.keys):
            other = first.setdefault(key, position)
            if other != position and (self.files[position], within[position]) < (self.files[other], within[other]):
                first[key] = position
        return first

    def ranked(self, positions: np.ndarray, scores: np.ndarray, top: int) -> list[Neighbour]:
        """Return the `top` best of the rows at these positions by their scores (of all rows), ties by key; each item has one row."""
        rounded = np.round(scores[positions].astype(np.float64), TIE_DECIMALS) + 0.0
        if len(positions) > top:
            chosen = rounded >= np.partition(rounded, len(positions) - top)[len(positions) - top]
            positions, rounded = positions[chosen], rounded[chosen]
        best = zip(positions.tolist(), rounded.tolist(), strict=True)
        best = sorted(best, key=lambda pair: (-pair[1], self.keys[pair[0]]))[:top]
        parts = self.parts[[position for position, _ in best]].tolist()
        return [Neighbour(self.keys[at], score, self.files[at], part) for (at, score), part in zip(best, parts, strict=True)]


NOWHERE = Places([], [], np.empty((0, len(PART_COLUMNS))))


class VectorBatch(NamedTuple):
    """Vectors of one kind of some rows, with the columns that a search filters and folds by."""

    places: Places
    modalities: list[Modality]
    has_tcot: np.ndarray
    """bool (N,)."""
    vectors_ND: np.ndarray
    """float32 (N, D), unit length."""


class ExactVectors:
    """All vectors of one kind, one per item."""

    def __init__(self, batch: VectorBatch) -> None:
        self._places, modalities, self._has_tcot, self.vectors_ND = batch
        self.keys = self._places.keys
        assert len(self.vectors_ND) == len(self.keys) == len(modalities) == len(self._has_tcot)
        self._modalities = np.asarray(modalities, dtype="U5")
        self._position = {key: position for position, key in enumerate(self.keys)}

    @classmethod
    def first_of_each(cls, batches: Iterable[VectorBatch], dim: int) -> "ExactVectors":
        """Collect batches, keeping the row of each item's first place."""
        keys: list[str] = []
        files: list[bytes] = []
        modalities: list[Modality] = []
        parts, has_tcot = [np.empty((0, len(PART_COLUMNS)))], [np.empty(0, dtype=bool)]
        vectors = [np.empty((0, dim), dtype=np.float32)]
        for batch in batches:
            keys += batch.places.keys
            files += batch.places.files
            modalities += batch.modalities
            parts.append(batch.places.parts)
            has_tcot.append(batch.has_tcot)
            vectors.append(batch.vectors_ND)
        places = Places(keys, files, np.concatenate(parts))
        kept = list(places.first_of_each().values())
        places = Places([keys[position] for position in kept], [files[position] for position in kept], places.parts[kept])
        modalities = [modalities[position] for position in kept]
        return cls(VectorBatch(places, modalities, np.concatenate(has_tcot)[kept], np.concatenate(vectors)[kept]))

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
        return self._places.ranked(np.flatnonzero(keep), scores, top)

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
