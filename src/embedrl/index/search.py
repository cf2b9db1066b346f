"""From a query to Hits."""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, field_serializer

from embedrl.data import items
from embedrl.data.evidence import Verification
from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.sample import Item
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, parse
from embedrl.errors import ConfigError, ModelError
from embedrl.index.exact import Neighbour
from embedrl.index.filter import Filter, matching_keys
from embedrl.index.index import Index
from embedrl.index.row import MODALITIES, Modality, Row, Vectors, shown
from embedrl.media.content import Content

EXCERPT_CHARS = 300
NUM_SORTED = 1_000
"""Sorting otherwise than by score takes so many of the best."""

Sort = Literal["score", "newest", "oldest", "name"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Hit(_Result):
    """An item that was found. Its picture: `Index.thumbnail(key)`; its file: `Index.locate(path)`."""

    key: str
    score: float
    """Cosine to the query, -1..1."""
    path: Path
    """Relative to the folder that holds the index, if it lies in there; else absolute."""
    other_paths: tuple[Path, ...] = ()
    """Where the same content lies as well."""
    modality: Modality
    modified_s: float
    """When the file was changed, seconds since 1970."""
    page: int | None = None
    """1-based page number of a document."""
    start_s: float | None = None
    end_s: float | None = None
    """Time span of a video, seconds."""
    tcot: TCoT | None = None
    tcot_failure: str | None = None
    """Why there is no T-CoT although a Reasoner was asked; the item was found by its plain vector."""
    verification: Verification | None = None
    """Which pieces of the T-CoT's evidence hold."""
    key_frame_times_s: tuple[float | None, ...] = ()
    """When each key frame of the evidence is on screen, seconds; None for a frame that does not exist."""
    answer: str = ""
    """What the T-CoT says the item is; empty without one."""
    excerpt: str = ""
    """How the item's own text begins."""

    @field_serializer("path", "other_paths", when_used="json")
    def _readable(self, value: Path | tuple[Path, ...]) -> str | list[str]:
        return [shown(path) for path in value] if isinstance(value, tuple) else shown(value)


class Timings(_Result):
    """Where the time of a search went, in seconds."""

    reason_s: float = 0.0
    embed_s: float = 0.0
    search_s: float = 0.0


class SearchResult(_Result):
    """The Hits of a query, best first, and what the Reasoner made of the query."""

    hits: tuple[Hit, ...]
    query_tcot: TCoT | None = None
    query_tcot_failure: FailureReason | None = None
    """Why there is no T-CoT of the query; its plain vector was used."""
    timings: Timings


def search(
    index: Index,
    embedder: Embeds,
    reasoner: Reasons | None = None,
    *,
    content: Content,
    instruction: str | None = None,
    think: bool = True,
    top: int = 10,
    skip: int = 0,
    min_score: float | None = None,
    modality: Sequence[Modality] | None = None,
    exclude_keys: Collection[str] = (),
    where: Filter | None = None,
    sort: Sort = "score",
) -> SearchResult:
    """Find the items that fit a query best, ties by key.

    Without an `instruction` the standard one for such a query is used (`embedrl.data.items`).
    With `think`, the query's T-CoT is written first and items are compared with theirs; without, plain vectors are compared.
    Raises ConfigError for wrong options, MediaError for a query file that cannot be read.
    """
    check_options(top, min_score, modality)
    check_models(index, embedder, reasoner, think=think)
    item = query_item(content, modality, instruction)
    started = time.perf_counter()
    outcome = reasoner.reason([item])[0] if think and reasoner is not None else None
    reasoned = time.perf_counter()
    tcot = outcome if isinstance(outcome, TCoT) else None
    vectors = embedder.embed([item], [tcot])
    if vectors.shape != (1, index.dim):
        raise ModelError(f"the Embedder {embedder.fingerprint!r} returned shape {vectors.shape} for one item, not (1, {index.dim})")
    embedded = time.perf_counter()
    hits = find(
        index,
        vectors[0],
        think=think,
        top=top,
        skip=skip,
        min_score=min_score,
        modality=modality,
        exclude_keys=exclude_keys,
        where=where,
        sort=sort,
    )
    timings = Timings(reason_s=reasoned - started, embed_s=embedded - reasoned, search_s=time.perf_counter() - embedded)
    failure = outcome.reason if isinstance(outcome, ParseFailure) else None
    return SearchResult(hits=hits, query_tcot=tcot, query_tcot_failure=failure, timings=timings)


def check_models(index: Index, embedder: Embeds, reasoner: Reasons | None, *, think: bool) -> None:
    """Raise ConfigError if these models cannot search this index."""
    if think and reasoner is None:
        raise ConfigError("think=True needs a Reasoner that writes the query's T-CoT: give one, or set think=False")
    if (embedder.fingerprint, embedder.dim) != (index.embedder_name, index.dim):
        raise ConfigError(
            f"the index holds vectors of {index.embedder_name!r}, the query has an Embedder {embedder.fingerprint!r}: use the same"
        )


def query_item(content: Content, modality: Sequence[Modality] | None = None, instruction: str | None = None) -> Item:
    """Make the Item of a query among these modalities (all unless given). Raises ConfigError for an empty query."""
    return items.query(content, instruction, looking_for=modality[0] if modality and len(modality) == 1 else "image")


def find(
    index: Index,
    vector: np.ndarray,
    *,
    think: bool,
    top: int,
    skip: int = 0,
    min_score: float | None = None,
    modality: Sequence[Modality] | None = None,
    exclude_keys: Collection[str] = (),
    where: Filter | None = None,
    shown_as: Callable[[Path], str] = shown,
    sort: Sort = "score",
) -> tuple[Hit, ...]:
    """Return the items nearest to a query's vector, from the `skip`-th on: with `think`, compared by their T-CoT vectors.

    Best first, or the best `NUM_SORTED` in another order.
    """
    check_options(top, min_score, modality)
    near = index.nearest(
        vector,
        _kind(think),
        skip + top if sort == "score" else NUM_SORTED,
        modality=modality,
        exclude_keys=exclude_keys,
        only_keys=matching_keys(index, where, shown_as),
        min_score=min_score,
    )
    return hits(index, near[skip:]) if sort == "score" else _sorted(hits(index, near), sort)[skip : skip + top]


def _sorted(found: Sequence[Hit], sort: Sort) -> tuple[Hit, ...]:
    if sort == "name":
        return tuple(sorted(found, key=lambda hit: (shown(hit.path).casefold(), hit.page or 0)))
    return tuple(sorted(found, key=lambda hit: hit.modified_s, reverse=sort == "newest"))


def _kind(think: bool) -> Vectors:
    return "tcot" if think else "plain"


def check_options(top: int, min_score: float | None, modality: Sequence[Modality] | None) -> None:
    """Raise ConfigError for options that no search can have."""
    if top < 1:
        raise ConfigError(f"top={top}: give at least 1")
    if min_score is not None and not -1 <= min_score <= 1:
        raise ConfigError(f"min_score={min_score}: a cosine lies in -1..1")
    if modality is not None and (not modality or set(modality) - set(MODALITIES)):
        raise ConfigError(f"modality={list(modality)!r}: choose one or more of {', '.join(MODALITIES)}, or None for all")


def hits(index: Index, found: Sequence[Neighbour]) -> tuple[Hit, ...]:
    """Look up what was found; an item that another process removed in the meantime is left out."""
    places: dict[str, list[Row]] = {}
    for row in index.rows([neighbour.key for neighbour in found]):
        places.setdefault(row.place.key, []).append(row)
    return tuple(hit_of(neighbour.score, places[neighbour.key]) for neighbour in found if neighbour.key in places)


def hit_of(score: float, rows: Sequence[Row]) -> Hit:
    """Make the Hit of an item from its rows, of which the first is shown."""
    row = rows[0]
    tcot = tcot_of(row)
    frames = row.frame_times_s
    numbers = tcot.evidence.key_frames if tcot else ()
    return Hit(
        key=row.place.key,
        score=score,
        path=row.place.path,
        other_paths=tuple(dict.fromkeys(other.place.path for other in rows[1:] if other.place.path != row.place.path)),
        modality=row.modality,
        modified_s=row.place.stamp.mtime_ns / 1e9,
        page=row.place.page,
        start_s=row.start_s,
        end_s=row.end_s,
        tcot=tcot,
        tcot_failure=row.tcot_failure,
        verification=Verification.model_validate_json(row.verification) if row.verification else None,
        key_frame_times_s=tuple(frames[number - 1] if 1 <= number <= len(frames) else None for number in numbers),
        answer=row.answer,
        excerpt=row.text[:EXCERPT_CHARS],
    )


def tcot_of(row: Row) -> TCoT | None:
    """Return the T-CoT of a row, None if it has none."""
    outcome = parse(row.tcot_text) if row.tcot_text else None
    return outcome if isinstance(outcome, TCoT) else None
