"""Recommendation: what is like some items and unlike others, without repeating itself, and why in words."""

# C candidates, D dim

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedrl.errors import ConfigError
from embedrl.index.exact import TIE_DECIMALS, Neighbour
from embedrl.index.filter import Filter, matching_keys
from embedrl.index.index import Index
from embedrl.index.row import Modality, Vectors, shown
from embedrl.index.search import Hit, check_options, hits

NUM_CANDIDATES = 1_000
"""Different items are chosen among so many of the nearest: always the same ones, so that pages fit together."""
MAX_EXAMPLES = 32
MAX_PHRASES = 6
_FILLERS = frozenset(re.findall(r"\w+", "a an and are as at by for from has have in is it its of on one or that the there this to with"))


class Reason(BaseModel):
    """Why an item is recommended: the liked one that it is most like, and what the T-CoTs of both name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """The liked item."""
    score: float
    """Cosine of the two, -1..1."""
    shared: tuple[str, ...] = ()
    """Longest phrases that both answers or verified keywords hold, in the order of the recommended item's."""

    def say(self, name: str) -> str:
        """Return the reason as a sentence; `name` is what the liked item is called."""
        return f"like {name}: both show {', '.join(self.shared)}" if self.shared else f"looks like {name}"


class Recommended(BaseModel):
    """An item with the reason why it is here; the hit's score is its cosine to what is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hit: Hit
    reason: Reason


def recommend(
    index: Index,
    liked: Mapping[str, float],
    disliked: Mapping[str, float] | None = None,
    *,
    think: bool = True,
    top: int = 10,
    skip: int = 0,
    diversity: float = 0.0,
    min_score: float | None = None,
    modality: Sequence[Modality] | None = None,
    where: Filter | None = None,
    shown_as: Callable[[Path], str] = shown,
) -> tuple[Recommended, ...]:
    """Find items near the weighted sum of the liked vectors, less the disliked ones, best first; examples are never returned.

    Weights (by key, which may be cut to 6 or more digits) are above 0. With a `diversity` d in 0..1, each item is the one with the
    highest (1 - d) * cosine to what is wanted - d * highest cosine to an item before it (maximal marginal relevance, Carbonell and
    Goldstein 1998). Needs no model. Raises ConfigError for wrong options, and for likes and dislikes that cancel out.
    """
    check_options(top, min_score, modality)
    if not 0 <= diversity <= 1:
        raise ConfigError(f"diversity={diversity}: give 0 (the nearest) to 1 (the most different)")
    likes, dislikes = _examples(index, liked, disliked or {})
    kind: Vectors = "tcot" if think else "plain"
    examples = index.vectors([*likes, *dislikes], kind)
    found = index.nearest(
        _wanted(examples, likes, dislikes),
        kind,
        max(skip + top, NUM_CANDIDATES) if diversity else skip + top,
        modality=modality,
        exclude_keys=examples.keys(),
        only_keys=matching_keys(index, where, shown_as),
        min_score=min_score,
    )
    if diversity:
        vectors = index.vectors([neighbour.key for neighbour in found], kind)
        found = [neighbour for neighbour in found if neighbour.key in vectors]
        found = _diverse(found, np.array([vectors[neighbour.key] for neighbour in found]), skip + top, diversity)
    page = hits(index, found[skip:])
    vectors = index.vectors([hit.key for hit in page], kind)
    liked_hits = {hit.key: hit for hit in hits(index, [Neighbour(key, 1.0) for key in likes])}
    return tuple(
        Recommended(hit=hit, reason=_reason(hit, {key: float(vectors[hit.key] @ examples[key]) for key in liked_hits}, liked_hits))
        for hit in page
        if hit.key in vectors and liked_hits
    )


def _examples(index: Index, liked: Mapping[str, float], disliked: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return weights by whole keys. Raises ConfigError for examples that say nothing."""
    if not liked or len(liked) + len(disliked) > MAX_EXAMPLES:
        raise ConfigError(
            f"{len(liked)} liked and {len(disliked)} disliked items: give at least 1 liked one, at most {MAX_EXAMPLES} in all"
        )
    for key, weight in (*liked.items(), *disliked.items()):
        if not 0 < weight <= 100:
            raise ConfigError(f"weight {weight} of item {key[:12]!r}: give a number above 0, at most 100")
    likes, dislikes = ({index.find(key): weight for key, weight in given.items()} for given in (liked, disliked))
    if both := sorted(likes.keys() & dislikes.keys()):
        raise ConfigError(f"item {both[0][:12]}: is both liked and disliked")
    return likes, dislikes


def _wanted(examples: Mapping[str, np.ndarray], likes: Mapping[str, float], dislikes: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum of the examples, float32 (D,), unit length. Raises ConfigError if nothing is left of it."""
    if gone := sorted((likes.keys() | dislikes.keys()) - examples.keys()):
        raise ConfigError(f"item {gone[0][:12]}: was removed from the index just now")
    signed = {**likes, **{key: -weight for key, weight in dislikes.items()}}
    wanted = np.sum([weight * examples[key].astype(np.float64) for key, weight in signed.items()], axis=0)
    length = float(np.linalg.norm(wanted))
    if length < 1e-3 * sum(map(abs, signed.values())):
        raise ConfigError("the liked and the disliked items cancel out: leave one out, or change the weights")
    return (wanted / length).astype(np.float32)


def _diverse(found: Sequence[Neighbour], vectors_CD: np.ndarray, top: int, diversity: float) -> list[Neighbour]:
    """Choose one after the other; of equals, the one nearer to what is wanted."""
    relevance = np.array([neighbour.score for neighbour in found])
    closest = np.full(len(found), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(top, len(found)):
        value = (1 - diversity) * relevance - (diversity * closest if chosen else 0)
        value[chosen] = -np.inf
        best = int(np.round(value, TIE_DECIMALS).argmax())
        chosen.append(best)
        closest = np.maximum(closest, vectors_CD @ vectors_CD[best])
    return [found[position] for position in chosen]


def _reason(hit: Hit, scores: Mapping[str, float], liked_hits: Mapping[str, Hit]) -> Reason:
    key = min(scores, key=lambda key: (-round(scores[key], TIE_DECIMALS), key))
    return Reason(key=key, score=round(scores[key], TIE_DECIMALS), shared=shared_phrases(_named(hit), _named(liked_hits[key])))


def shared_phrases(texts: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return the longest runs of words that stand in both, without fillers at their ends, at most `MAX_PHRASES`."""
    theirs = "|".join(f" {' '.join(_words(other))} " for other in others)
    phrases = dict.fromkeys(run for text in texts for run in _runs(_words(text), theirs))
    longest = [phrase for phrase in phrases if not any(f" {phrase} " in f" {other} " for other in phrases if other != phrase)]
    return tuple(longest[:MAX_PHRASES])


def _runs(words: Sequence[str], theirs: str) -> Iterator[str]:
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and f" {' '.join(words[start : end + 1])} " in theirs:
            end += 1
        run = list(words[start:end])
        while run and run[-1] in _FILLERS:
            run.pop()
        while run and run[0] in _FILLERS:
            run.pop(0)
        if run:
            yield " ".join(run)
        start = max(end, start + 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _named(hit: Hit) -> list[str]:
    """Return what an item's T-CoT names: its answer and the keywords that hold; without a T-CoT, how its text begins."""
    if hit.tcot is None:
        return [hit.excerpt]
    holds = hit.verification.keywords if hit.verification else ()
    keywords = zip(hit.tcot.evidence.keywords, holds, strict=False)
    return [*re.split(r"[.,;:!?\n]", hit.answer), *(keyword for keyword, verified in keywords if verified)]
