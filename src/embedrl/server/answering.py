"""Answer searches: from index results to response schemas."""

import time
from pathlib import Path

from embedrl.data.evidence import verify
from embedrl.data.protocols import Gates
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, Reason, recommend
from embedrl.index.search import SearchResult, search
from embedrl.media.content import Frames, Video
from embedrl.server.problem import Problem
from embedrl.server.query import within_ranks
from embedrl.server.schemas import (
    MAX_RANK,
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
from embedrl.server.shared_models import SharedReranker


def answer(library: ServedIndex, query: Query, reranker: SharedReranker | None = None, gate: Gates | None = None) -> SearchAnswer:
    """Run a search whose media are decoded. Blocks. Raises Problem."""
    started = time.perf_counter()
    if query.content and query.use_tcot:
        library.need_reasoner()
    if query.rerank and reranker is None:
        raise Problem(422, "rerank: this server has no reranker; leave it out, or start it with --reranker", "no_reranker")
    page = within_ranks(query) if query.content else query
    result = SearchResult(hits=())
    if page is not None:
        result = search(library.index, page, library.embedder, library.reasoner, reranker=reranker, gate=gate, view=library.view)
    return SearchAnswer(
        hits=library.show_hits(result.hits),
        total=result.total,
        offset=query.offset,
        more=result.more and (not query.content or query.end < MAX_RANK),
        think=result.used_tcot,
        reasoner=library.id,
        gate=result.gate,
        fused_words=result.fused_words,
        reranker=reranker.label if reranker is not None and result.reranker else "",
        query=_show_query(library, query, result),
        seconds=Seconds(
            reason=result.timings.reason_s,
            embed=result.timings.embed_s,
            search=result.timings.search_s,
            total=time.perf_counter() - started,
        ),
    )


def compare(plain: SearchAnswer, reasoned: SearchAnswer) -> ReasonedAnswer:
    """Return the reasoned result with its rank changes from the plain one."""
    before, now = ({hit.key: rank for rank, hit in enumerate(answer.hits, answer.offset + 1)} for answer in (plain, reasoned))
    changes = tuple(
        RankChange(key=key, before=before.get(key), now=now.get(key)) for key in {**now, **before} if before.get(key) != now.get(key)
    )
    return ReasonedAnswer(**dict(reasoned), changes=changes)


def listing(library: ServedIndex, query: Query) -> Listing:
    """List the items that pass the filters of a query without content."""
    result = search(library.index, query, view=library.view)
    return Listing(items=library.show_hits(result.hits), total=result.total or 0, offset=query.offset, more=result.more)


def similar(library: ServedIndex, examples: Examples) -> SearchAnswer:
    """Recommend from examples, with reasons. Raises Problem 404 for an example that is not served."""
    for key in (*examples.liked, *examples.disliked):
        library.places(key)
    page = within_ranks(examples)
    if page is None:
        return SearchAnswer(hits=(), total=None, offset=examples.offset, more=False, think=False, reasoner=library.id)
    result = recommend(library.index, page, view=library.view)
    reasons = {item.hit.key: item.reason for item in result.items}
    return SearchAnswer(
        hits=tuple(
            hit.model_copy(update={"reason": _why(library, reasons[hit.key]), "shared": reasons[hit.key].shared})
            for hit in library.show_hits(item.hit for item in result.items)
        ),
        total=None,
        offset=examples.offset,
        more=result.more and examples.end < MAX_RANK,
        think=result.used_tcot,
        reasoner=library.id,
    )


def _why(library: ServedIndex, reason: Reason) -> str:
    return reason.say(Path(library.shown(library.places(reason.key)[0].path)).name)


def _show_query(library: ServedIndex, query: Query, result: SearchResult) -> QueryShown:
    medium = query.medium_key or ""
    key = library.index.keys_by_medium([medium] if medium else []).get(medium, medium)
    key = key if key in library.catalogue.places else None
    if result.query_tcot is None:
        return QueryShown(failure=result.query_tcot_failure, key=key)
    evidence, item = result.query_tcot.evidence, query.item
    frames = item.visual.frames if isinstance(item.visual, Video) else None
    times = frames.times_s if isinstance(frames, Frames) else ()
    shown = show_evidence(
        result.query_tcot,
        verify(evidence, item, len(times) or None),
        tuple(times[number - 1] if 1 <= number <= len(times) else None for number in evidence.key_frames),
    )
    return QueryShown(tcot=show_tcot(result.query_tcot), evidence=shown, key=key)
