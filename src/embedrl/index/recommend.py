"""Recommendation: what is like some items and unlike others, without repeating itself, and why in words."""

# C candidates, D dim

import re
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedrl.errors import ConfigError
from embedrl.index.exact import TIE_DECIMALS, Neighbour
from embedrl.index.index import Index
from embedrl.index.row import Modality, Row, Vectors
from embedrl.index.search import Hit, check_options, hits
from embedrl.index.where import Where, matching_keys

POOL = 8
"""So many times the wanted number of items are looked at to choose different ones from."""
MAX_EXAMPLES = 32
_FILLERS = frozenset(re.findall(r"\w+", "a an and are as at by for from has have in is it its of on one or that the there this to with"))


class Reason(BaseModel):
    """Why an item is recommended: the liked one that it is most like, and what the T-CoTs of both name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """The liked item."""
    score: float
    """Cosine of the two, -1..1."""
    shared: tuple[str, ...] = ()
    """Words that stand in both answers or keywords, in the order of the recommended item's."""
    shared_kinds: tuple[str, ...] = ()
    """Kinds of evidence that both have and that holds: boxes, key frames, keywords."""


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
    diversity: float = 0.3,
    min_score: float | None = None,
    modality: Sequence[Modality] | None = None,
    where: Where | None = None,
) -> tuple[Recommended, ...]:
    """Find items near the weighted sum of the liked vectors, less the disliked ones, best first; examples are never returned.

    Weights (by key, which may be cut to 6 or more digits) are above 0. With a `diversity` d in 0..1, each item is the one with the
    highest (1 - d) * cosine to what is wanted - d * highest cosine to an item before it (maximal marginal relevance, Carbonell and
    Goldstein 1998). Needs no model. Raises ConfigError for wrong options, and for likes and dislikes that cancel out.
    """
    check_options(top, min_score, modality)
    if not 0 <= diversity <= 1:
        raise ConfigError(f"diversity={diversity}: give 0 (the nearest) to 1 (the most different)")
    likes, dislikes = (_weights(index, examples) for examples in (liked, disliked or {}))
    if not likes or len(likes) + len(dislikes) > MAX_EXAMPLES:
        raise ConfigError(
            f"{len(likes)} liked and {len(dislikes)} disliked items: give at least 1 liked one, at most {MAX_EXAMPLES} in all"
        )
    if both := sorted(likes.keys() & dislikes.keys()):
        raise ConfigError(f"item {both[0][:12]}: is both liked and disliked")
    examples = _first_rows(index, [*likes, *dislikes])
    kind: Vectors = "tcot" if think else "plain"
    signed = [*likes.items(), *((key, -weight) for key, weight in dislikes.items())]
    wanted = np.sum([weight * getattr(examples[key], kind) for key, weight in signed], axis=0)
    length = float(np.linalg.norm(wanted))
    if length < 1e-3 * sum(abs(weight) for _, weight in signed):
        raise ConfigError("the liked and the disliked items cancel out: leave one out, or change the weights")
    found = index.nearest(
        (wanted / length).astype(np.float32),
        kind,
        POOL * top,
        modality=modality,
        exclude_keys=examples.keys(),
        only_keys=matching_keys(index, where),
        min_score=min_score,
    )
    rows = _first_rows(index, [neighbour.key for neighbour in found])
    found = [neighbour for neighbour in found if neighbour.key in rows]
    chosen = _diverse(found, np.array([getattr(rows[neighbour.key], kind) for neighbour in found]), top, diversity)
    near = [(key, getattr(examples[key], kind)) for key in likes]
    reasons = {}
    for neighbour in chosen:
        vector = getattr(rows[neighbour.key], kind)
        score, key = max((round(float(vector @ example), TIE_DECIMALS), key) for key, example in near)
        reasons[neighbour.key] = (key, score)
    shown = hits(index, [*chosen, *(Neighbour(key, 1.0) for key in likes)])
    by_key = {hit.key: hit for hit in shown}
    return tuple(
        Recommended(
            hit=by_key[neighbour.key], reason=_reason(by_key[neighbour.key], by_key[reasons[neighbour.key][0]], reasons[neighbour.key][1])
        )
        for neighbour in chosen
        if neighbour.key in by_key and reasons[neighbour.key][0] in by_key
    )


def _weights(index: Index, examples: Mapping[str, float]) -> dict[str, float]:
    for key, weight in examples.items():
        if not 0 < weight <= 100:
            raise ConfigError(f"weight {weight} of item {key[:12]!r}: give a number above 0, at most 100")
    return {index.find(key): weight for key, weight in examples.items()}


def _first_rows(index: Index, keys: Sequence[str]) -> dict[str, Row]:
    """Return one row of each item; all places of an item have the same vectors."""
    return {row.place.key: row for row in reversed(index.rows(keys))}


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


def _reason(hit: Hit, liked: Hit, score: float) -> Reason:
    theirs = set(_named(liked))
    kinds = tuple(kind for kind in ("boxes", "key_frames", "keywords") if all(_holds(side, kind) for side in (hit, liked)))
    return Reason(key=liked.key, score=score, shared=tuple(word for word in _named(hit) if word in theirs), shared_kinds=kinds)


def _named(hit: Hit) -> list[str]:
    """Return what an item's T-CoT names, each word once; without a T-CoT, the words of its text."""
    keywords = " ".join(hit.tcot.evidence.keywords) if hit.tcot else hit.excerpt
    words = re.findall(r"\w+", f"{hit.answer} {keywords}".casefold())
    return [word for word in dict.fromkeys(words) if word not in _FILLERS]


def _holds(hit: Hit, kind: str) -> bool:
    return hit.verification is not None and any(getattr(hit.verification, kind))
