"""Search routes: search, search as a stream, recommendation, listing."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi import Query as Parameter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from embedrl import log
from embedrl.data import items
from embedrl.errors import ConfigError
from embedrl.index.query import Query, ResultUnit
from embedrl.index.recommend import MAX_EXAMPLES, Examples
from embedrl.index.row import Modality
from embedrl.media.content import Image, Video
from embedrl.server import answering, pictures
from embedrl.server.bodies import BoundedRoute
from embedrl.server.problem import Problem
from embedrl.server.query import KEY, MAX_OFFSET, Asked, read_filter, read_query
from embedrl.server.schemas import Listing, SearchAnswer
from embedrl.server.scratch import scratch_folder
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service

ALIVE_S = 1.0
"""A stream says so often that it still waits."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events: plain, reasoned, error, done."}
}

Key = Annotated[str, Field(pattern=KEY)]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Weights = Annotated[dict[Key, Weight], Field(max_length=MAX_EXAMPLES)] | Annotated[list[Key], Field(max_length=MAX_EXAMPLES)]


class Similar(BaseModel):
    """What to recommend from."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    liked: Weights
    """Keys, or keys with weights above 0."""
    disliked: Weights = Field(default_factory=list)
    diversity: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """0: the nearest; towards 1: ever more different from each other."""
    modality: list[Modality] | None = None
    under: str | None = Field(default=None, max_length=1000)
    since: str | None = Field(default=None, max_length=40)
    until: str | None = Field(default=None, max_length=40)
    words: str | None = Field(default=None, max_length=500)
    camera: str | None = Field(default=None, max_length=200)
    area: str | None = Field(default=None, max_length=200)
    """LATITUDE,LONGITUDE,KM or SOUTH,WEST,NORTH,EAST."""
    min_score: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    unit: ResultUnit = "file"
    """A result is a file with its best unit, or each page, scene and passage."""
    offset: int = Field(default=0, ge=0, le=MAX_OFFSET)
    limit: int = Field(default=24, ge=1, le=100)
    think: bool | None = None
    reasoner: str | None = Field(default=None, max_length=40)


def search_routes(service: Service) -> APIRouter:
    """Make the routes over a service."""
    router = APIRouter(prefix="/api", tags=["search"], route_class=BoundedRoute)

    def chosen(asked: Asked) -> tuple[ServedIndex, bool]:
        """Return the index to search, and whether a T-CoT is to be written: as it is asked, or if there is a Reasoner."""
        library = service.library(asked.reasoner)
        return library, library.reasoner is not None if asked.use_tcot is None else asked.use_tcot

    def decoded(asked: Asked, library: ServedIndex) -> Query:
        if asked.key is not None:
            return asked.with_part(pictures.medium(service, library, asked.key), asked.key)
        return asked.query if asked.file is None else _with_file(service, asked, library)

    @router.post("/search")
    async def search(asked: Annotated[Asked, Depends(read_query)]) -> SearchAnswer:
        """Search with words, an image, a video, an item of the index, or words about one of these."""
        library, think = chosen(asked)
        return await service.work(
            lambda: answering.answer(
                library, replace(decoded(asked, library), use_tcot=think, match=asked.match), service.reranker, service.gate
            )
        )

    @router.post("/search/stream", response_class=StreamingResponse, responses=_EVENTS)
    async def search_stream(asked: Annotated[Asked, Depends(read_query)]) -> StreamingResponse:
        """Search, and get the plain result at once, the reasoned one when it is there."""
        library, think = chosen(asked)
        if think and library.reasoner is None:
            raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
        query, second = await service.work(lambda: decoded(asked, library)), service.reranker
        query = replace(query, match=asked.match)
        plain = await service.work(
            lambda: answering.answer(library, replace(query, use_tcot=False, rerank=0 if think else query.rerank), second)
        )

        async def events() -> AsyncIterator[bytes]:
            yield _event("plain", plain.model_dump(mode="json"))
            if think:
                try:
                    reasoned = asyncio.ensure_future(
                        service.work(lambda: answering.answer(library, replace(query, use_tcot=True), second, service.gate))
                    )
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
        library = service.library(asked.reasoner)
        liked, disliked = (
            examples if isinstance(examples, dict) else dict.fromkeys(examples, 1.0) for examples in (asked.liked, asked.disliked)
        )
        try:
            examples = Examples(
                liked=liked,
                disliked=disliked,
                diversity=asked.diversity,
                filter=read_filter(asked.modality, asked.under, asked.since, asked.until, asked.words, asked.camera, asked.area),
                min_score=asked.min_score,
                unit=asked.unit,
                use_tcot=library.reasoner is not None if asked.think is None else asked.think,
                offset=asked.offset,
                limit=asked.limit,
            )
            return await service.work(lambda: answering.similar(library, examples))
        except ConfigError as error:
            raise Problem(422, service.roots.without_paths(str(error)), "bad_examples") from error

    @router.get("/items")
    async def items(
        modality: Annotated[list[Modality] | None, Parameter()] = None,
        under: Annotated[str | None, Parameter(max_length=1000)] = None,
        since: Annotated[str | None, Parameter(max_length=40)] = None,
        until: Annotated[str | None, Parameter(max_length=40)] = None,
        words: Annotated[str | None, Parameter(max_length=500)] = None,
        camera: Annotated[str | None, Parameter(max_length=200)] = None,
        area: Annotated[str | None, Parameter(max_length=200)] = None,
        sort: Literal["newest", "oldest", "name"] = "newest",
        unit: ResultUnit = "file",
        offset: Annotated[int, Parameter(ge=0, le=MAX_OFFSET)] = 0,
        limit: Annotated[int, Parameter(ge=1, le=100)] = 24,
        reasoner: Annotated[str | None, Parameter(max_length=40)] = None,
    ) -> Listing:
        """List what is there."""
        query = Query(
            filter=read_filter(modality, under, since, until, words, camera, area), sort=sort, unit=unit, offset=offset, limit=limit
        )
        library = service.library(reasoner)
        return await service.work(lambda: answering.listing(library, query))

    return router


def _with_file(service: Service, asked: Asked, library: ServedIndex) -> Query:
    """Decode the file of a search in a child process. Raises Problem 415."""
    assert asked.file is not None
    with scratch_folder() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            shutil.copyfileobj(asked.file.file, file)
        decoded = service.decode_file(path, num_frames=library.num_frames)
        medium = Video(path=path) if decoded.kind == "video" else Image(path=path)
        return asked.with_file(decoded, items.candidate((medium,)).key)


async def _waiting(work: Awaitable[Any]) -> AsyncIterator[bytes]:
    """Say now and then that the work goes on, until it is done."""
    future = asyncio.ensure_future(work)
    while not (await asyncio.wait([future], timeout=ALIVE_S))[0]:
        yield b": waiting\n\n"


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
