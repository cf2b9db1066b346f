"""Routes that find: search, search as a stream, what is similar, what is there."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi import Query as Parameter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from embedrl import log
from embedrl.errors import ConfigError
from embedrl.index.recommend import MAX_EXAMPLES, Reason, recommend
from embedrl.index.row import Modality
from embedrl.server import answering
from embedrl.server.bodies import BoundedRoute
from embedrl.server.problem import Problem
from embedrl.server.query import MAX_RANK, Query, check_page, read_modalities, read_query, read_where
from embedrl.server.schemas import Listing, SearchAnswer
from embedrl.server.served_index import KEY, ServedIndex
from embedrl.server.service import Service

ALIVE_S = 1.0
"""A stream says so often that it still waits."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events: plain, reasoned, error, done."}
}

Key = Annotated[str, Field(pattern=KEY)]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Examples = Annotated[dict[Key, Weight], Field(max_length=MAX_EXAMPLES)] | Annotated[list[Key], Field(max_length=MAX_EXAMPLES)]


class Similar(BaseModel):
    """What to recommend from."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    liked: Examples
    """Keys, or keys with weights above 0."""
    disliked: Examples = Field(default_factory=list)
    diversity: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """0: the nearest; towards 1: ever more different from each other."""
    modality: list[Modality] | None = None
    under: str | None = Field(default=None, max_length=1000)
    since: str | None = Field(default=None, max_length=40)
    until: str | None = Field(default=None, max_length=40)
    words: str | None = Field(default=None, max_length=500)
    min_score: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    offset: int = Field(default=0, ge=0, le=MAX_RANK)
    limit: int = Field(default=24, ge=1, le=100)
    think: bool | None = None
    reasoner: str | None = Field(default=None, max_length=40)


def search_routes(service: Service) -> APIRouter:
    """Make the routes over a service."""
    router = APIRouter(prefix="/api", tags=["search"], route_class=BoundedRoute)

    def thinks(query: Query) -> bool:
        """Say whether a query is reasoned about: as it asks, or if there is a Reasoner."""
        return service.library(query.reasoner).reasoner is not None if query.think is None else query.think

    def ready(query: Query) -> Query:
        if query.file is None:
            return query
        return query.with_file(service.decode(query.file, num_frames=service.library(query.reasoner).num_frames))

    @router.post("/search")
    async def search(query: Annotated[Query, Depends(read_query)]) -> SearchAnswer:
        """Search with words, an image, a video, or words about one of these."""
        library, think = service.library(query.reasoner), thinks(query)
        return await service.work(lambda: answering.run(library, ready(query), think=think))

    @router.post("/search/stream", response_class=StreamingResponse, responses=_EVENTS)
    async def search_stream(query: Annotated[Query, Depends(read_query)]) -> StreamingResponse:
        """Search, and get the plain result at once, the reasoned one when it is there."""
        library, think = service.library(query.reasoner), thinks(query)
        if think and library.reasoner is None:
            raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
        decoded = await service.work(lambda: ready(query))
        plain = await service.work(lambda: answering.run(library, decoded, think=False))

        async def events() -> AsyncIterator[bytes]:
            yield _event("plain", plain.model_dump(mode="json"))
            if think:
                try:
                    reasoned = asyncio.ensure_future(service.work(lambda: answering.run(library, decoded, think=True)))
                    async for alive in _waiting(reasoned):
                        yield alive
                    yield _event("reasoned", answering.compare(plain, reasoned.result()).model_dump(mode="json"))
                except Problem as problem:
                    yield _event("error", problem.body)
                except Exception as error:  # boundary: the answer has begun, so the stream has to say it
                    log.error(f"search: {type(error).__name__}: {error}")
                    yield _event("error", Problem(500, "something went wrong here; the server's log says what").body)
            yield _event("done", {})

        return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @router.post("/similar")
    async def similar(asked: Similar) -> SearchAnswer:
        """Recommend what is like some items and unlike others, with the reason."""
        check_page(asked.offset, asked.limit)
        query = Query(
            content=(),
            modality=read_modalities(asked.modality),
            where=read_where(asked.under, asked.since, asked.until, asked.words),
            min_score=asked.min_score,
            sort="score",
            offset=asked.offset,
            limit=asked.limit,
            think=asked.think,
            reasoner=asked.reasoner,
        )
        think = thinks(query)
        return await service.work(lambda: _recommend(service, query, asked, think=think))

    @router.get("/items")
    async def items(
        modality: Annotated[list[Modality] | None, Parameter()] = None,
        under: Annotated[str | None, Parameter(max_length=1000)] = None,
        since: Annotated[str | None, Parameter(max_length=40)] = None,
        until: Annotated[str | None, Parameter(max_length=40)] = None,
        words: Annotated[str | None, Parameter(max_length=500)] = None,
        sort: Literal["newest", "oldest", "name"] = "newest",
        offset: Annotated[int, Parameter(ge=0, le=MAX_RANK)] = 0,
        limit: Annotated[int, Parameter(ge=1, le=100)] = 24,
        reasoner: Annotated[str | None, Parameter(max_length=40)] = None,
    ) -> Listing:
        """List what is there."""
        check_page(offset, limit)
        query = Query(
            content=(),
            modality=read_modalities(modality),
            where=read_where(under, since, until, words),
            min_score=None,
            sort=sort,
            offset=offset,
            limit=limit,
            think=False,
            reasoner=reasoner,
        )
        library = service.library(reasoner)
        return await service.work(lambda: answering.listing(library, query))

    return router


def _recommend(service: Service, query: Query, asked: Similar, *, think: bool) -> SearchAnswer:
    library = service.library(query.reasoner)
    liked, disliked = (given if isinstance(given, dict) else dict.fromkeys(given, 1.0) for given in (asked.liked, asked.disliked))
    for key in (*liked, *disliked):
        library.places(key)
    end = query.offset + query.limit
    try:
        found = recommend(
            library.index,
            liked,
            disliked,
            think=think,
            top=end + 1,
            diversity=asked.diversity,
            min_score=query.min_score,
            modality=query.modality,
            where=query.where,
            shown_as=library.shown,
        )
    except ConfigError as error:
        raise Problem(422, service.roots.without_paths(str(error)), "bad_examples") from error
    page = found[query.offset : end]
    reasons = {each.hit.key: each.reason for each in page}
    shown = [
        hit.model_copy(update={"reason": _why(library, reasons[hit.key]), "shared": reasons[hit.key].shared})
        for hit in library.show_hits(each.hit for each in page)
    ]
    return SearchAnswer(
        hits=tuple(shown), total=None, offset=query.offset, more=len(found) > end and end < MAX_RANK, think=think, reasoner=library.id
    )


def _why(library: ServedIndex, reason: Reason) -> str:
    return reason.say(Path(library.shown(library.places(reason.key)[0].path)).name)


async def _waiting(work: Awaitable[Any]) -> AsyncIterator[bytes]:
    """Say now and then that the work goes on, until it is done."""
    future = asyncio.ensure_future(work)
    while not (await asyncio.wait([future], timeout=ALIVE_S))[0]:
        yield b": waiting\n\n"


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
