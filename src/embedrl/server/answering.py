"""Answering searches: the query's T-CoT, its vector, the nearest items, as they are sent."""

import time
from collections.abc import Sequence

import numpy as np

from embedrl.data.evidence import verify
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.index.exact import Neighbour
from embedrl.index.filter import matching_keys
from embedrl.index.search import find, hits, query_item
from embedrl.media.content import Frames, Video
from embedrl.server.problem import Problem
from embedrl.server.query import MAX_RANK, Query, Sort
from embedrl.server.schemas import (
    HitShown,
    Listing,
    QueryShown,
    RankChange,
    ReasonedAnswer,
    SearchAnswer,
    Seconds,
    show_evidence,
    show_tcot,
)
from embedrl.server.served_index import ServedIndex

Outcome = TCoT | ParseFailure
MAX_TRIES = 3
"""A search that an index changed under is done again so often."""


def run(library: ServedIndex, query: Query, *, think: bool) -> SearchAnswer:
    """Answer a query whose file is decoded. Blocks. Raises Problem."""
    started = time.perf_counter()
    if not query.content:
        return _only_words(library, query, think=think, started=started)
    if think and library.reasoner is None:
        raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
    item = query_item(query.content, query.modality)
    outcome = library.reasoner.reason([item])[0] if think and library.reasoner else None
    reasoned = time.perf_counter()
    tcot = outcome if isinstance(outcome, TCoT) else None
    vector = library.embedder.embed([item], [tcot])[0]
    embedded = time.perf_counter()
    by_score = query.sort == "score"
    for _ in range(MAX_TRIES):
        version = library.index.version
        shown, num_found = _look_up(library, query, vector, think=think, by_score=by_score)
        if library.index.version == version:
            break  # else a write came in between, and what was found may be gone
    shown = _sorted(shown, query.sort)
    page = shown[: query.limit] if by_score else shown[query.offset : query.offset + query.limit]
    more = (num_found > query.limit if by_score else len(shown) > query.offset + query.limit) and query.offset + query.limit < MAX_RANK
    done = time.perf_counter()
    return SearchAnswer(
        hits=page,
        total=None if by_score else len(shown),
        offset=query.offset,
        more=more,
        think=think,
        reasoner=library.id,
        query=_show_query(item, outcome),
        seconds=Seconds(reason=reasoned - started, embed=embedded - reasoned, search=done - embedded, total=done - started),
    )


def _look_up(library: ServedIndex, query: Query, vector: np.ndarray, *, think: bool, by_score: bool) -> tuple[tuple[HitShown, ...], int]:
    """Return the nearest items of a page (one more, if there is a next page), or all that can be sorted; and how many were found."""
    catalogue = library.catalogue
    if not catalogue.places:
        return (), 0
    found = find(
        library.index,
        vector,
        think=think,
        top=query.limit + 1 if by_score else MAX_RANK,
        skip=query.offset if by_score else 0,
        min_score=query.min_score,
        modality=query.modality,
        exclude_keys=catalogue.barred,
        where=query.where,
        shown_as=library.shown,
    )
    return library.show_hits(found), len(found)


def compare(plain: SearchAnswer, reasoned: SearchAnswer) -> ReasonedAnswer:
    """Return the reasoned result with what moved since the plain one."""
    before, now = ({hit.key: rank for rank, hit in enumerate(answer.hits, answer.offset + 1)} for answer in (plain, reasoned))
    changes = tuple(
        RankChange(key=key, before=before.get(key), now=now.get(key)) for key in {**now, **before} if before.get(key) != now.get(key)
    )
    return ReasonedAnswer(**dict(reasoned), changes=changes)


def listing(library: ServedIndex, query: Query) -> Listing:
    """Return items that pass the filters of a query, without comparing anything."""
    catalogue = library.catalogue
    if not catalogue.places:
        return Listing(items=(), total=0, offset=query.offset, more=False)
    passing = matching_keys(library.index, query.where, library.shown)
    keys = [key for key in catalogue.places if passing is None or key in passing]
    if query.modality and keys:  # the vectors know their modalities: all are equally near to nothing
        nothing = np.zeros(library.index.dim, np.float32)
        keys = [each.key for each in library.index.nearest(nothing, "plain", len(keys), modality=query.modality, only_keys=keys)]
    first = {key: catalogue.places[key][0] for key in keys}
    if query.sort == "name":
        keys.sort(key=lambda key: (library.shown(first[key].path).casefold(), first[key].page or 0))
    else:
        sign = 1 if query.sort == "oldest" else -1
        keys.sort(key=lambda key: (sign * first[key].stamp.mtime_ns, first[key].path, first[key].page or 0))
    page = keys[query.offset : query.offset + query.limit]
    shown = library.show_hits(hits(library.index, [Neighbour(key, 0.0) for key in page]))
    end = query.offset + query.limit
    return Listing(items=shown, total=len(keys), offset=query.offset, more=end < min(len(keys), MAX_RANK))


def _only_words(library: ServedIndex, query: Query, *, think: bool, started: float) -> SearchAnswer:
    found = listing(library, query)
    seconds = time.perf_counter() - started
    return SearchAnswer(
        hits=found.items,
        total=found.total,
        offset=found.offset,
        more=found.more,
        think=think,
        reasoner=library.id,
        seconds=Seconds(search=seconds, total=seconds),
    )


def _sorted(shown: Sequence[HitShown], sort: Sort) -> tuple[HitShown, ...]:
    match sort:
        case "newest":
            return tuple(sorted(shown, key=lambda hit: -hit.modified_s))
        case "oldest":
            return tuple(sorted(shown, key=lambda hit: hit.modified_s))
        case "name":
            return tuple(sorted(shown, key=lambda hit: (hit.path.casefold(), hit.page or 0)))
    return tuple(shown)


def _show_query(item: Item, outcome: Outcome | None) -> QueryShown:
    if not isinstance(outcome, TCoT):
        return QueryShown(failure=outcome.reason.value if outcome is not None else None)
    frames = item.visual.frames if isinstance(item.visual, Video) else None
    times = frames.times_s if isinstance(frames, Frames) else ()
    numbers = outcome.evidence.key_frames
    shown = show_evidence(
        outcome.evidence,
        verify(outcome.evidence, item, len(times) or None),
        tuple(times[number - 1] if 1 <= number <= len(times) else None for number in numbers),
    )
    return QueryShown(tcot=show_tcot(outcome), evidence=shown)
