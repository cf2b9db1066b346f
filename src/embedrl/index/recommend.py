"""Recommendation from liked and disliked items (Rocchio with maximal marginal relevance), with reasons in words."""

# C candidates, D dim

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedrl.arguments import require, require_weights
from embedrl.errors import ConfigError
from embedrl.index.exact import TIE_DECIMALS, Candidates, Neighbour
from embedrl.index.filter import matching_keys
from embedrl.index.fold import files_of, fold, with_others
from embedrl.index.hit import WHOLE, Hit, View, look_up
from embedrl.index.index import Index
from embedrl.index.phrases import named, shared_phrases
from embedrl.index.query import Selection
from embedrl.index.row import VECTOR_COLUMNS, Vectors
from embedrl.index.search import MAX_TRIES, QueryVectors, rank

NUM_CANDIDATES = 1_000
"""Number of nearest items that diverse ones are chosen from; constant, so that pages are consistent."""
MAX_EXAMPLES = 32


class Reason(BaseModel):
    """Why an item is recommended: its nearest liked item, and phrases of both T-CoTs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """Key of the nearest liked item."""
    score: float
    """Cosine to it, -1..1."""
    shared: tuple[str, ...] = ()
    """Longest phrases that both answers or verified keywords share, in the recommended item's order."""

    def say(self, name: str) -> str:
        """Return the reason as a phrase; `name` is the liked item's name."""
        return f"like {name}: both show {', '.join(self.shared)}" if self.shared else f"looks like {name}"


class Recommended(BaseModel):
    """A recommended item and the reason; the hit's score is its cosine to the preference vector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hit: Hit
    reason: Reason


class Recommendations(BaseModel):
    """A page of recommendations, best first."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    items: tuple[Recommended, ...]
    more: bool = False
    """Whether there is a next page."""
    used_tcot: bool = False
    """Whether vectors with T-CoT were compared, rather than plain ones."""


@dataclass(frozen=True, kw_only=True)
class Examples(Selection):
    """Liked and disliked items to recommend from: key (or its first 6 or more digits) -> weight, above 0 and at most 100.

    Raises ConfigError for values out of range.
    """

    liked: Mapping[str, float]
    disliked: Mapping[str, float] = field(default_factory=dict)
    diversity: float = 0.0
    """0..1: 0 for the nearest items, towards 1 for items that differ more from each other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.diversity <= 1:
            raise ConfigError(f"diversity={self.diversity}: give 0 (the nearest) to 1 (the most different)")
        require_weights(self.liked, "liked")
        require_weights(self.disliked, "disliked")
        num_liked, num_disliked = len(self.liked), len(self.disliked)
        if not num_liked or num_liked + num_disliked > MAX_EXAMPLES:
            raise ConfigError(
                f"{num_liked} liked and {num_disliked} disliked items: give at least 1 liked one, at most {MAX_EXAMPLES} in all"
            )
        for key, weight in (*self.liked.items(), *self.disliked.items()):
            if not 0 < weight <= 100:
                raise ConfigError(f"weight {weight} of item {key[:12]!r}: give a number above 0, at most 100")


def recommend(index: Index, examples: Examples, *, view: View = WHOLE) -> Recommendations:
    """Rank items by their cosine to the preference vector: the weighted sum of the liked vectors minus the disliked ones.

    Examples are never returned, and no model is needed. Vectors with T-CoT are compared if all examples have a T-CoT, as in
    `embedrl.index.search.rank`. With `diversity` d above 0, each next item maximises (1 - d) * its cosine to the preference vector
    - d * its highest cosine to an item before it (maximal marginal relevance, Carbonell and Goldstein 1998). Raises ConfigError for
    examples that cancel out or are both liked and disliked.
    """
    require(index, Index, "an index", "embedrl.Index.open(folder)")
    require(examples, Examples, "examples", "embedrl.Examples(liked={hit.key: 1.0})")
    likes, dislikes = ({index.find(key): weight for key, weight in chosen.items()} for chosen in (examples.liked, examples.disliked))
    if both := sorted(likes.keys() & dislikes.keys()):
        raise ConfigError(f"item {both[0][:12]}: is both liked and disliked")
    used_tcot = examples.use_tcot and not index.without_tcot([*likes, *dislikes])
    kinds: tuple[Vectors, ...] = ("plain", "tcot") if used_tcot else ("plain",)
    wanted = QueryVectors(**{kind: _wanted(index.vectors([*likes, *dislikes], kind), likes, dislikes) for kind in kinds})
    top = examples.end + 1  # one more tells whether there is a next page
    for _ in range(MAX_TRIES):
        catalogue = view.catalogue() if view.catalogue else None
        among = Candidates(
            modality=examples.filter.modality,
            only_keys=matching_keys(index, examples.filter, view.shown_as),
            exclude_keys={*examples.exclude_keys, *likes, *dislikes, *(catalogue.barred if catalogue else ())},
            min_score=examples.min_score,
        )
        by_file = examples.unit == "file"
        near = rank(index, wanted, max(top, NUM_CANDIDATES) if examples.diversity or by_file else top, among)
        groups = fold(near, files_of(near, catalogue)) if by_file else {neighbour.key: [neighbour] for neighbour in near}
        near = [group[0] for group in groups.values()]
        if examples.diversity:
            cosines = _Cosines(index, [neighbour.key for neighbour in near], used_tcot)
            near = [neighbour for neighbour in near if neighbour.key in cosines]
            keys = [neighbour.key for neighbour in near]
            similar = lambda position, keys=keys, cosines=cosines: cosines.between(keys[position], keys)  # noqa: E731
            near = _diverse(near, _relevance(near, cosines), similar, top, examples.diversity)
        page = near[examples.offset : examples.end]
        hits = with_others(index, look_up(index, page, catalogue), groups, catalogue)
        if len(hits) == len(page):
            break
    liked_hits = {hit.key: hit for hit in look_up(index, [Neighbour(key, 1.0) for key in likes])}
    cosines = _Cosines(index, [*likes, *(hit.key for hit in hits)], used_tcot)
    items = tuple(Recommended(hit=hit, reason=_reason(hit, cosines, liked_hits)) for hit in hits if liked_hits and hit.key in cosines)
    return Recommendations(items=items, more=len(near) > examples.end, used_tcot=used_tcot)


class _Cosines:
    """Cosines between items: of the vectors with T-CoTs if both have one, of the plain vectors otherwise."""

    def __init__(self, index: Index, keys: Sequence[str], use_tcot: bool) -> None:
        self._vectors = {kind: index.vectors(keys, kind) for kind in VECTOR_COLUMNS}
        self._reasoned = set(keys) - index.without_tcot(keys) if use_tcot else set()

    def __contains__(self, key: str) -> bool:
        return all(key in vectors for vectors in self._vectors.values())

    def between(self, key: str, others: Sequence[str]) -> np.ndarray:
        """Return the cosines of one item to others, float32 (len(others),)."""
        plain, tcot = (np.array([vectors[other] for other in others]) @ vectors[key] for vectors in self._vectors.values())
        return np.where([key in self._reasoned and other in self._reasoned for other in others], tcot, plain)

    def is_reasoned(self, key: str) -> bool:
        """Say whether an item is compared by the vector with its T-CoT."""
        return key in self._reasoned


def _wanted(vectors: Mapping[str, np.ndarray], likes: Mapping[str, float], dislikes: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum of the examples, float32 (D,), unit length. Raises ConfigError if nothing is left of it."""
    if gone := sorted((likes.keys() | dislikes.keys()) - vectors.keys()):
        raise ConfigError(f"item {gone[0][:12]}: was removed from the index just now")
    signed = {**likes, **{key: -weight for key, weight in dislikes.items()}}
    wanted = np.sum([weight * vectors[key].astype(np.float64) for key, weight in signed.items()], axis=0)
    length = float(np.linalg.norm(wanted))
    if length < 1e-3 * sum(map(abs, signed.values())):
        raise ConfigError("the liked and the disliked items cancel out: leave one out, or change the weights")
    return (wanted / length).astype(np.float32)


def _diverse(
    near: Sequence[Neighbour], relevance_C: np.ndarray, similar: Callable[[int], np.ndarray], top: int, diversity: float
) -> list[Neighbour]:
    """Choose one after the other; of equals, the one nearer to what is wanted. `similar(c)`: cosines of candidate c to all, (C,)."""
    closest_C = np.full(len(near), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(top, len(near)):
        value_C = (1 - diversity) * relevance_C - (diversity * closest_C if chosen else 0)
        value_C[chosen] = -np.inf
        best = int(np.round(value_C, TIE_DECIMALS).argmax())
        chosen.append(best)
        closest_C = np.maximum(closest_C, similar(best))
    return [near[position] for position in chosen]


def _relevance(near: Sequence[Neighbour], cosines: _Cosines) -> np.ndarray:
    """Return scores on one scale: an item that was compared plainly among others counts as the one that is ranked before it."""
    reasoned = [neighbour.score for neighbour in near if cosines.is_reasoned(neighbour.key)]
    last = reasoned[0] if reasoned else None
    scores = []
    for neighbour in near:
        if last is not None and not cosines.is_reasoned(neighbour.key):
            scores.append(last)
        else:
            last = neighbour.score if last is not None else None
            scores.append(neighbour.score)
    return np.array(scores)


def _reason(hit: Hit, cosines: _Cosines, liked_hits: Mapping[str, Hit]) -> Reason:
    keys = list(liked_hits)
    scores = dict(zip(keys, cosines.between(hit.key, keys).tolist(), strict=True))
    key = min(scores, key=lambda key: (-round(scores[key], TIE_DECIMALS), key))
    return Reason(key=key, score=round(scores[key], TIE_DECIMALS), shared=shared_phrases(named(hit), named(liked_hits[key])))
