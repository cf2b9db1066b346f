"""Search routes: search, streamed search, recommendation, listing."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi import Query as Parameter
from fastapi.responses import StreamingResponse
from pydantic import Field

from embedrl import log
from embedrl.data import items
from embedrl.errors import ConfigError
from embedrl.index.query import Query, ResultUnit
from embedrl.index.recommend import MAX_EXAMPLES, Examples
from embedrl.media.content import Image, Video
from embedrl.server import answering, images
from embedrl.server.bodies import BoundedRoute
from embedrl.server.problem import Problem, internal_problem
from embedrl.server.query import KEY, MAX_OFFSET, Conditions, Narrowed, SearchRequest, read_query
from embedrl.server.schemas import MAX_PAGE, Listing, SearchAnswer
from embedrl.server.scratch import scratch_folder
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service

ALIVE_S = 1.0
"""Seconds between keep-alive events of a stream."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events: plain, reasoned, error, done."}
}

Key = Annotated[str, Field(pattern=KEY)]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Weights = Annotated[dict[Key, Weight], Field(max_length=MAX_EXAMPLES)] | Annotated[list[Key], Field(max_length=MAX_EXAMPLES)]


class Similar(Narrowed):
    """Recommendation request."""

    liked: Weights
    """Keys, or keys with weights above 0."""
    disliked: Weights = Field(default_factory=list)
    diversity: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """Maximal marginal relevance: 0 for the nearest, towards 1 for more varied results."""
    min_score: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    unit: ResultUnit = "file"
    """One hit per file (its best unit), or one per page, scene and passage."""
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    limit: int = Field(default=24, ge=1, le=MAX_PAGE)
    think: bool | None = None
    reasoner: str | None = Field(default=None, max_length=40)

    def examples(self, *, has_reasoner: bool) -> Examples:
        """Return the examples to recommend from. Raises ConfigError for what cannot be met, and Problem."""
        liked, disliked = (
            examples if isinstance(examples, dict) else dict.fromkeys(examples, 1.0) for examples in (self.liked, self.disliked)
        )
        return Examples(
            liked=liked,
            disliked=disliked,
            diversity=self.diversity,
            filter=self.filter(),
            min_score=self.min_score,
            unit=self.unit,
            use_tcot=has_reasoner if self.think is None else self.think,
            offset=self.offset,
            limit=self.limit,
        )


class Listed(Conditions):
    """Listing request."""

    sort: Literal["newest", "oldest", "name"] = "newest"
    unit: ResultUnit = "file"
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    limit: int = Field(default=24, ge=1, le=MAX_PAGE)
    reasoner: str | None = Field(default=None, max_length=40)


def search_routes(service: Service) -> APIRouter:
    """Create the router of a service."""
    router = APIRouter(prefix="/api", tags=["search"], route_class=BoundedRoute)

    def choose_index(request: SearchRequest) -> tuple[ServedIndex, bool]:
        """Return the index to search, and whether to write a T-CoT: as requested, by default if there is a Reasoner."""
        library = service.library(request.reasoner)
        return library, library.reasoner is not None if request.use_tcot is None else request.use_tcot

    def decoded(request: SearchRequest, library: ServedIndex) -> Query:
        if request.key is not None:
            return request.with_part(images.medium(service, library, request.key), request.key)
        return request.query if request.file is None else _with_file(service, request, library)

    @router.post("/search")
    async def search(request: Annotated[SearchRequest, Depends(read_query)]) -> SearchAnswer:
        """Search by text, image, video or an item of the index, optionally with text about it."""
        library, think = choose_index(request)
        gate = request.gate(service.gate, service.is_gated)
        return await service.work(
            lambda: answering.answer(
                library, replace(decoded(request, library), use_tcot=think, match=request.match), service.reranker, gate
            )
        )

    @router.post("/search/stream", response_class=StreamingResponse, responses=_EVENTS)
    async def search_stream(request: Annotated[SearchRequest, Depends(read_query)]) -> StreamingResponse:
        """Search as a stream: the plain result first, then the reasoned one."""
        library, think = choose_index(request)
        if think:
            library.need_reasoner()
        gate = request.gate(service.gate, service.is_gated)
        query, reranker = await service.work(lambda: decoded(request, library)), service.reranker
        query = replace(query, match=request.match)
        plain = await service.work(
            lambda: answering.answer(library, replace(query, use_tcot=False, rerank=0 if think else query.rerank), reranker)
        )

        def reason() -> SearchAnswer:
            return answering.answer(library, replace(query, use_tcot=True), reranker, gate)

        events = _events(service, plain, reason if think else None)
        return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @router.post("/similar")
    async def similar(request: Similar) -> SearchAnswer:
        """Recommend items similar to some and dissimilar to others, with reasons."""
        library = service.library(request.reasoner)
        try:
            examples = request.examples(has_reasoner=library.reasoner is not None)
            return await service.work(lambda: answering.similar(library, examples))
        except ConfigError as error:
            raise Problem(422, service.roots.without_paths(str(error)), "bad_examples") from error

    @router.get("/items")
    async def items(request: Annotated[Listed, Parameter()]) -> Listing:
        """List items."""
        query = Query(filter=request.filter(), sort=request.sort, unit=request.unit, offset=request.offset, limit=request.limit)
        library = service.library(request.reasoner)
        return await service.work(lambda: answering.listing(library, query))

    return router


def _with_file(service: Service, request: SearchRequest, library: ServedIndex) -> Query:
    """Decode the file of a search in a child process. Raises Problem 415."""
    assert request.file is not None
    with scratch_folder() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            shutil.copyfileobj(request.file.file, file)
        decoded = service.decode_file(path, num_frames=library.num_frames)
        medium = Video(path=path) if decoded.kind == "video" else Image(path=path)
        return request.with_file(decoded, items.candidate((medium,)).key)


async def _events(service: Service, plain: SearchAnswer, reason: Callable[[], SearchAnswer] | None) -> AsyncIterator[bytes]:
    """Yield the events of a streamed search: the plain answer, then that of `reason`, if there is one to give."""
    yield _event("plain", plain.model_dump(mode="json"))
    if reason is not None:
        try:
            reasoned = asyncio.ensure_future(service.work(reason))
            async for keep_alive in _keep_alive_events(reasoned):
                yield keep_alive
            yield _event("reasoned", answering.compare(plain, reasoned.result()).model_dump(mode="json"))
        except Problem as problem:
            yield _event("error", problem.body("/api/search/stream"))
        except Exception as error:  # boundary: the answer has begun, so the stream has to say it
            log.error(f"search: {type(error).__name__}: {error}")
            yield _event("error", internal_problem().body("/api/search/stream"))
    yield _event("done", {})


async def _keep_alive_events(work: Awaitable[Any]) -> AsyncIterator[bytes]:
    """Yield keep-alive events until the work is done."""
    future = asyncio.ensure_future(work)
    while not (await asyncio.wait([future], timeout=ALIVE_S))[0]:
        yield b": waiting\n\n"


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
