"""A retrieval task: queries, a pool of candidates, and which candidates answer which query."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

from embedrl.data.sample import Item, Pair
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError
from embedrl.media.content import content_key

Modality = Literal["image", "video", "visdoc"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True)
class RetrievalTask:
    """A retrieval task: queries, a candidate pool and relevance labels. Candidate ids are distinct; by default they are item keys.

    A query ranks all of them unless `local` says which.
    """

    name: str
    modality: Modality
    queries: tuple[Item, ...]
    candidates: tuple[Item, ...]
    relevant: tuple[Mapping[str, float], ...]
    """Per query: candidate id -> graded relevance, > 0."""
    local: tuple[tuple[str, ...], ...] | None = None
    """Per query: the ids of the candidates it ranks (local pool); empty: all."""
    truths: Mapping[str, TCoT] = field(default_factory=dict)
    """Item key -> ground-truth T-CoT, where known."""
    ids: tuple[str, ...] = ()
    """Per candidate: what `relevant`, `local` and rankings call it. None are given where every candidate has a key of its own."""
    names: Mapping[str, str | int] = field(default_factory=dict)
    """Candidate id -> name in the benchmark's files."""
    statements: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Every statement that is true of an item, as answers word it, by item key, where they are known (crowded world)."""
    families: tuple[str, ...] = ()
    """Per query: the family that is drawn whole for intervals (`by_medium`); none: each query is alone in its own."""

    def __post_init__(self) -> None:
        """Raise ConfigError for inconsistent fields."""
        if self.modality not in MODALITIES:
            raise ConfigError(f"task {self.name!r}: modality {self.modality!r} is none of {', '.join(MODALITIES)}")
        if self.ids and len(self.ids) != len(self.candidates):
            raise ConfigError(f"task {self.name!r}: {len(self.ids)} ids for {len(self.candidates)} candidates; give one for each, or none")
        if self.families and len(self.families) != len(self.queries):
            raise ConfigError(
                f"task {self.name!r}: {len(self.families)} families for {len(self.queries)} queries; give one for each, or none"
            )
        keys = set(self.candidate_ids)
        if len(keys) < len(self.candidates):
            raise ConfigError(f"task {self.name!r}: {len(self.candidates)} candidates share {len(keys)} keys; merge equal ones")
        if len(self.relevant) != len(self.queries) or len(self.local or self.queries) != len(self.queries):
            raise ConfigError(f"task {self.name!r}: give one `relevant` (and `local`) row for each of the {len(self.queries)} queries")
        for row, relevant in enumerate(self.relevant):
            pool = keys if self.local is None else keys & set(self.local[row])
            if not pool or (self.local is not None and len(pool) < len(set(self.local[row]))):
                raise ConfigError(f"task {self.name!r}, query {row}: its candidates are empty or not all in the pool")
            if not relevant.keys() <= pool:
                raise ConfigError(f"task {self.name!r}, query {row}: a relevant candidate is not among its {len(pool)} candidates")
            if not all(0 < gain < math.inf for gain in relevant.values()):
                raise ConfigError(f"task {self.name!r}, query {row}: relevance must be > 0 and finite; leave out the others")

    @classmethod
    def from_pairs(
        cls,
        name: str,
        modality: Modality,
        pairs: Sequence[Pair],
        *,
        truths: Mapping[str, TCoT] | None = None,
        distractors: Sequence[Item] = (),
        min_candidates: int = 1,
    ) -> Self:
        """Build a task from pairs: the pool holds all targets, hard negatives and distractors, without duplicates.

        Equal queries are merged too, with all their targets relevant. Raises ConfigError if the pool stays smaller than
        `min_candidates`, or if a pair lists a target among the negatives of the same query.
        """
        queries: dict[str, Item] = {}
        relevant: dict[str, dict[str, float]] = {}
        pool: dict[str, Item] = {}
        for pair in pairs:
            queries.setdefault(pair.query.key, pair.query)
            relevant.setdefault(pair.query.key, {})[pair.target.key] = 1.0
            pool |= {item.key: item for item in (pair.target, *pair.negatives)}
        for pair in pairs:
            if any(negative.key in relevant[pair.query.key] for negative in pair.negatives):
                raise ConfigError(f"task {name!r}, pair {pair.key[:12]}: a hard negative equals a target of the same query")
        for item in distractors:
            pool.setdefault(item.key, item)
        if len(pool) < min_candidates:
            raise ConfigError(f"task {name!r}: {len(pool)} distinct candidates, {min_candidates} asked for; give more pairs or distractors")
        return cls(
            name=name,
            modality=modality,
            queries=tuple(queries.values()),
            candidates=tuple(pool.values()),
            relevant=tuple(relevant.values()),
            truths=dict(truths or {}),
            families=by_medium(tuple(queries.values())),
        )

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        """The id of each candidate."""
        return self.ids or tuple(item.key for item in self.candidates)

    @property
    def items(self) -> dict[str, Item]:
        """All items by key: queries first, then candidates."""
        return {item.key: item for item in (*self.queries, *self.candidates)}


def by_medium(queries: Sequence[Item]) -> tuple[str, ...]:
    """Return a bootstrap cluster per query: queries about one image, video or page are not independent."""
    return tuple(content_key((query.visual,)) if query.visual else query.key for query in queries)
