"""Endpoints compatible with OpenAI's embeddings, chat completions and models, and the usual rerank."""

import base64
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.data import items as make
from embedrl.data.protocols import Reasons
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, count_words, render
from embedrl.media.content import Content, Text
from embedrl.media.kinds import MediaKind
from embedrl.server.bodies import BoundedRoute
from embedrl.server.budget import REQUEST_PIXELS
from embedrl.server.openai_messages import (
    MAX_IMAGES,
    CleanText,
    Messages,
    TextPart,
    read_content,
    read_media,
    read_prompt,
)
from embedrl.server.problem import Problem
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service
from embedrl.server.shared_models import Chat, Writes

MAX_INPUTS = 256
MAX_TOKENS = 4_096
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "A completion, or its pieces."}
}


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class EmbeddingsRequest(_Shape):
    """What to embed: `input`, or chat `messages` that make one item."""

    model: str | None = None
    input: CleanText | Annotated[list[CleanText], Field(min_length=1, max_length=MAX_INPUTS)] | None = None
    messages: Messages | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: Literal["query", "document"] = "document"
    """Whether this looks for something, or is to be found. Not in OpenAI's API."""
    instruction: Annotated[CleanText, Field(max_length=2000)] | None = None
    """Replaces the standard instruction. Not in OpenAI's API."""
    think: bool = False
    """Let the Reasoner write a T-CoT first, which the vector then holds. Not in OpenAI's API."""

    @model_validator(mode="after")
    def _one_input(self) -> "EmbeddingsRequest":
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages")
        return self


class ChatRequest(_Shape):
    """A chat with the Reasoner."""

    model: str | None = None
    messages: Messages
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    n: Literal[1] = 1
    stream: bool = False
    quoted_text: CleanText = ""
    """Ours: the text that keywords of a T-CoT have to quote; empty: they are not held to any."""


class RerankDocument(_Shape):
    """A candidate: words, a picture, or both."""

    text: CleanText | None = None
    image: str | None = None
    """`data:image/png;base64,…`"""

    @model_validator(mode="after")
    def _something(self) -> "RerankDocument":
        if not self.text and not self.image:
            raise ValueError("give text, an image, or both")
        return self


class RerankRequest(_Shape):
    """A query, and candidates to sort."""

    model: str | None = None
    query: CleanText | RerankDocument
    documents: Annotated[list[CleanText | RerankDocument], Field(min_length=1, max_length=MAX_INPUTS)]
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False
    think: bool = False
    """Let the Reasoner see query and candidates first."""


class Embedding(_Shape):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Unit length; in base64, little-endian float32."""


class Usage(_Shape):
    """Not counted by every model: 0 where it is not."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int | None = None


class Embeddings(_Shape):
    """The vectors, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage = Usage()


class Ranked(_Shape):
    """A candidate with its score."""

    index: int
    relevance_score: float
    """Cosine to the query, -1..1."""
    document: dict[str, Any] | None = None


class Rerank(_Shape):
    """The candidates, best first."""

    id: str
    model: str
    results: list[Ranked]
    usage: Usage = Usage()


class Model(_Shape):
    """A model of this server."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "embedrl"
    embedrl: dict[str, Any] | None = None
    """Of a Reasoner with loaded weights: the prompts, pixel budget, length of answers and pixels of a token that it was trained on."""


class ModelList(_Shape):
    """The models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]


class _Reply(_Shape):
    role: Literal["assistant"] = "assistant"
    content: str


class _Choice(_Shape):
    index: Literal[0] = 0
    message: _Reply
    finish_reason: Literal["stop", "length"]


class Completion(_Shape):
    """What the Reasoner wrote."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[_Choice]
    usage: Usage


def compatible_routes(service: Service) -> APIRouter:
    """Make the routes over a service."""
    router = APIRouter(prefix="/v1", tags=["compatible"], route_class=BoundedRoute)

    def reasoner(model: str | None) -> ServedIndex:
        for library in service.libraries:
            if library.reasoner is not None and model in (None, "", library.id, library.label):
                return library
        raise Problem(404, "model: there is no such Reasoner here; /v1/models lists what there is", "model_not_found")

    def need_embedder(model: str | None) -> None:
        if model not in (None, "", service.embedder_label):
            raise Problem(404, "model: there is no such Embedder here; /v1/models lists what there is", "model_not_found")

    @router.get("/models")
    async def models() -> ModelList:
        """List the models."""
        asked = {library.label: _asked(library.reasoner.model) for library in service.libraries if library.reasoner}
        names = dict.fromkeys([*asked, service.embedder_label])
        return ModelList(data=[Model(id=name, embedrl=asked.get(name)) for name in names])

    @router.post("/embeddings")
    async def embeddings(asked: EmbeddingsRequest) -> Embeddings:
        """Embed texts, or messages with pictures."""
        need_embedder(asked.model)
        library = service.library()
        if asked.dimensions not in (None, library.embedder.dim):
            raise Problem(400, f"dimensions: this model has {library.embedder.dim}", "bad_dimensions")

        def work() -> np.ndarray:
            contents: list[Content] = (
                [read_content(service, asked.messages)]
                if asked.messages is not None
                else [(Text(text=text),) for text in ([asked.input] if isinstance(asked.input, str) else asked.input or ())]
            )
            query = asked.input_type == "query"
            return _embed(library, [_item(content, asked.instruction, query=query) for content in contents], think=asked.think)

        vectors = await service.work(work)
        data = [Embedding(index=index, embedding=_encoded(vector, asked.encoding_format)) for index, vector in enumerate(vectors)]
        return Embeddings(data=data, model=service.embedder_label)

    @router.post("/chat/completions", response_model=Completion, responses=_STREAM)
    async def chat(asked: ChatRequest) -> Completion | Response:
        """Let the Reasoner answer."""
        library = reasoner(asked.model)
        completion = await service.work(lambda: _chat(service, library, asked))
        if asked.stream:
            return StreamingResponse(_pieces(completion), media_type="text/event-stream")
        return completion

    @router.post("/rerank")
    async def rerank(asked: RerankRequest) -> Rerank:
        """Sort candidates by their cosine to a query."""
        need_embedder(asked.model)
        library = service.library()

        num_media = sum(isinstance(each, RerankDocument) and bool(each.image) for each in (asked.query, *asked.documents))
        if num_media > MAX_IMAGES:
            raise Problem(413, f"documents: {num_media} pictures; give at most {MAX_IMAGES} in all", "too_large")

        def work() -> np.ndarray:
            share = REQUEST_PIXELS // max(1, num_media)
            documents = [_item(_content(service, document, share), None, query=False) for document in asked.documents]
            wanted = make.kind_of(documents[0].content)
            items = [_item(_content(service, asked.query, share), None, query=True, looking_for=wanted), *documents]
            vectors = _embed(library, items, think=asked.think)
            return vectors[1:] @ vectors[0]

        scores = np.round((await service.work(work)).astype(np.float64), 6)
        order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: asked.top_n]
        results = [
            Ranked(
                index=index,
                relevance_score=float(scores[index]),
                document={"text": _words(asked.documents[index])} if asked.return_documents else None,
            )
            for index in order
        ]
        return Rerank(id=f"rerank-{uuid.uuid4().hex}", model=service.embedder_label, results=results)

    return router


def _item(content: Content, instruction: str | None, *, query: bool, looking_for: MediaKind = "image") -> Item:
    """Make an item of what was sent, as search or indexing would."""
    if all(isinstance(part, Text) and not part.text for part in content):
        raise Problem(400, "input: a text is empty", "empty_input")
    return make.query(content, instruction, looking_for=looking_for) if query else make.candidate(content, instruction)


def _content(service: Service, given: str | RerankDocument, share: int) -> Content:
    if isinstance(given, str):
        return (Text(text=given),)
    words = (Text(text=given.text),) if given.text else ()
    return (read_media(service, given.image, share), *words) if given.image else words


def _words(given: str | RerankDocument) -> str:
    return given if isinstance(given, str) else given.text or ""


def _embed(library: ServedIndex, items: Sequence[Item], *, think: bool) -> np.ndarray:
    if think and library.reasoner is None:
        raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
    outcomes = library.reasoner.reason(items) if think and library.reasoner else [None] * len(items)
    return library.embedder.embed(items, [outcome if isinstance(outcome, TCoT) else None for outcome in outcomes])


def _asked(reasoner: Reasons) -> dict[str, Any] | None:
    """Return how a Reasoner is asked, for clients that make its prompts themselves."""
    settings = getattr(reasoner, "settings", None)
    return (
        None
        if settings is None
        else {
            **settings.model_dump(mode="json", include={"prompts", "budget", "max_new_tokens"}),
            "factor": getattr(reasoner, "factor", 32),
        }
    )


def _encoded(vector: np.ndarray, encoding: str) -> list[float] | str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else vector.tolist()


def _chat(service: Service, library: ServedIndex, asked: ChatRequest) -> Completion:
    """Answer a chat; a Reasoner that writes T-CoTs only writes one of the last user message."""
    assert library.reasoner is not None
    model, limit = library.reasoner.model, asked.max_completion_tokens or asked.max_tokens
    own_limit = (_asked(model) or {}).get("max_new_tokens")
    finish: Literal["stop", "length"] = "stop"
    if isinstance(model, Writes):
        chat = Chat(replace(read_prompt(service, asked.messages), text=asked.quoted_text), limit, asked.temperature)
        [text] = library.reasoner.worker.ask([chat])
        assert isinstance(text, str)
        num_written = model.num_tokens(text)
        limits = [tokens for tokens in (limit, own_limit) if tokens is not None]
        finish = "length" if limits and num_written >= min(limits) else "stop"
    else:
        last = next((message for message in reversed(asked.messages) if message.role == "user"), None)
        item = make.query(read_content(service, [last] if last else []))
        outcome = library.reasoner.reason([item])[0]
        text = render(outcome) if isinstance(outcome, TCoT) else outcome.text
        num_written = count_words(text)
    num_asked = sum(count_words(part.text) for message in asked.messages for part in message.parts if isinstance(part, TextPart))
    return Completion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=library.label,
        choices=[_Choice(message=_Reply(content=text), finish_reason=finish)],
        usage=Usage(prompt_tokens=num_asked, completion_tokens=num_written, total_tokens=num_asked + num_written),
    )


def _pieces(completion: Completion) -> Iterator[bytes]:
    """Send a completion as the two pieces that a streaming client expects at least."""
    choice = completion.choices[0]
    head = {"id": completion.id, "object": "chat.completion.chunk", "created": completion.created, "model": completion.model}
    for delta, finish in ({"role": "assistant", "content": choice.message.content}, None), ({}, choice.finish_reason):
        piece = head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        yield f"data: {json.dumps(piece)}\n\n".encode()
    yield b"data: [DONE]\n\n"
