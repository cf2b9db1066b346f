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
from fastapi import Path as PathParameter
from fastapi.responses import Response, StreamingResponse

from embedrl.concurrency import split
from embedrl.data import items as make
from embedrl.data.protocols import Reasons
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT, count_words, render
from embedrl.data.vectors import shortened
from embedrl.media.content import Content, Text
from embedrl.media.kinds import MediaKind
from embedrl.server.bodies import BoundedRoute
from embedrl.server.budget import REQUEST_PIXELS
from embedrl.server.embedder_prompt import read_embedder_prompt
from embedrl.server.openai_messages import (
    MAX_IMAGES,
    TextPart,
    read_content,
    read_media,
    read_prompt,
)
from embedrl.server.openai_schemas import (
    ChatRequest,
    Completion,
    Embedding,
    Embeddings,
    EmbeddingsRequest,
    Model,
    ModelList,
    Ranked,
    Rerank,
    RerankDocument,
    RerankRequest,
    Usage,
    _Choice,
    _Reply,
)
from embedrl.server.problem import Problem
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service
from embedrl.server.shared_models import Chat, Writes

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "A completion, or its pieces."}
}


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
        prompt = service.library().embedder.prompt_settings
        embeds = {service.embedder_label: prompt.model_dump(mode="json")} if prompt else {}
        return ModelList(data=[Model(id=name, embedrl=asked.get(name), embeds=embeds.get(name)) for name in names])

    @router.get("/models/{model:path}")
    async def model(model: Annotated[str, PathParameter(max_length=200)]) -> Model:
        """Return one model."""
        for known in (await models()).data:
            if known.id == model:
                return known
        raise Problem(404, "model: there is no such model here; /v1/models lists what there is", "model_not_found")

    @router.post("/embeddings")
    async def embeddings(asked: EmbeddingsRequest) -> Embeddings:
        """Embed texts, or messages with pictures."""
        need_embedder(asked.model)
        library = service.library()
        if asked.dimensions is not None and not 1 <= asked.dimensions <= library.embedder.dim:
            raise Problem(400, f"dimensions={asked.dimensions}: give 1 to {library.embedder.dim}", "bad_dimensions")

        def work() -> Embeddings:
            if asked.add_generation_prompt:
                vector = library.embedder.embed_prompt(read_embedder_prompt(service, library.embedder, asked))
                return Embeddings(
                    data=[Embedding(index=0, embedding=_encoded(vector, asked.encoding_format))], model=service.embedder_label
                )
            contents: list[Content] = (
                [read_content(service, asked.messages)]
                if asked.messages is not None
                else [(Text(text=text),) for text in ([asked.input] if isinstance(asked.input, str) else asked.input or ())]
            )
            query = asked.input_type == "query"
            items = [_item(content, asked.instruction, f"input.{place}", query=query) for place, content in enumerate(contents)]
            vectors, failures = _embed(library, items, think=asked.think, at_once=service.settings.max_batch)
            vectors = shortened(vectors, asked.dimensions)
            data = [
                Embedding(index=index, embedding=_encoded(vector, asked.encoding_format), tcot_failure=failure)
                for index, (vector, failure) in enumerate(zip(vectors, failures, strict=True))
            ]
            return Embeddings(data=data, model=service.embedder_label, usage=_read(library, items))

        return await service.work(work)

    @router.post("/chat/completions", response_model=Completion, responses=_STREAM)
    async def chat(asked: ChatRequest) -> Completion | Response:
        """Let the Reasoner answer."""
        library = reasoner(asked.model)
        asked.check()
        completion = await service.work(lambda: _chat(service, library, asked))
        if asked.stream:
            with_usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(_pieces(completion, with_usage=with_usage), media_type="text/event-stream")
        return completion

    @router.post("/rerank")
    async def rerank(asked: RerankRequest) -> Rerank:
        """Sort candidates by the score of the reranker, or without one by their cosine to a query; the answer's `model` says which."""
        if service.reranker is None or asked.model != service.reranker.label:
            need_embedder(asked.model)
        library = service.library()

        num_media = sum(isinstance(document, RerankDocument) and bool(document.image) for document in (asked.query, *asked.documents))
        if num_media > MAX_IMAGES:
            raise Problem(413, f"documents: {num_media} pictures; give at most {MAX_IMAGES} in all", "too_large")

        def work() -> Rerank:
            share = REQUEST_PIXELS // max(1, num_media)
            contents = [_content(service, document, share) for document in asked.documents]
            documents = [_item(content, None, f"documents.{place}", query=False) for place, content in enumerate(contents)]
            wanted = make.kind_of(documents[0].content)
            items = [_item(_content(service, asked.query, share), None, "query", query=True, looking_for=wanted), *documents]
            scores, think = (_cosines if service.reranker is None else _reranked)(service, library, items, asked)
            order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: asked.top_n]
            results = [
                Ranked(
                    index=index,
                    relevance_score=float(scores[index]),
                    document=_sent(asked.documents[index]) if asked.return_documents else None,
                )
                for index in order
            ]
            usage = _read(library, items)
            name = service.embedder_label if service.reranker is None else service.reranker.label
            return Rerank(id=f"rerank-{uuid.uuid4().hex}", model=name, results=results, think=think, usage=usage)

        return await service.work(work)

    return router


def _cosines(service: Service, library: ServedIndex, items: Sequence[Item], asked: RerankRequest) -> tuple[list[float], bool]:
    """Return the cosine of the first item to each other one, and whether T-CoTs were compared."""
    vectors, failures = _embed(library, items, think=asked.think, at_once=service.settings.max_batch)
    think = asked.think and not any(failures)
    if asked.think and not think:  # vectors with T-CoTs and without are never compared
        vectors, _ = _embed(library, items, think=False, at_once=service.settings.max_batch)
    return np.round((vectors[1:] @ vectors[0]).astype(np.float64), 6).tolist(), think


def _reranked(service: Service, library: ServedIndex, items: Sequence[Item], asked: RerankRequest) -> tuple[list[float], bool]:
    """Return the reranker's score of each item but the first, the query. Raises Problem 422 for one that it cannot score."""
    assert service.reranker is not None
    if asked.think and library.reasoner is None:
        raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
    outcomes = library.reasoner.reason(items) if asked.think and library.reasoner else [None] * len(items)
    sides = [(item, outcome if isinstance(outcome, TCoT) else None) for item, outcome in zip(items, outcomes, strict=True)]
    scores = service.reranker.rerank(sides[0], sides[1:])
    for place, score in enumerate(scores):
        if score is None:
            hint = "" if asked.think else "; think=true lets it read T-CoTs"
            raise Problem(422, f"documents.{place}: the reranker cannot score it with this query{hint}", "not_scored")
    return [score for score in scores if score is not None], asked.think


def _item(content: Content, instruction: str | None, field: str, *, query: bool, looking_for: MediaKind = "image") -> Item:
    """Make an item of what was sent in a field, as search or indexing would."""
    if all(isinstance(part, Text) and not part.text for part in content):
        raise Problem(400, f"{field}: the text is empty", "empty_input")
    return make.query(content, instruction, looking_for=looking_for) if query else make.candidate(content, instruction)


def _content(service: Service, document: str | RerankDocument, share: int) -> Content:
    if isinstance(document, str):
        return (Text(text=document),)
    words = (Text(text=document.text),) if document.text else ()
    return (read_media(service, document.image, share), *words) if document.image else words


def _sent(document: str | RerankDocument) -> dict[str, Any]:
    """Return a document as it was sent."""
    return {"text": document} if isinstance(document, str) else document.model_dump(exclude_none=True)


def _embed(library: ServedIndex, items: Sequence[Item], *, think: bool, at_once: int) -> tuple[np.ndarray, list[str | None]]:
    """Embed items, and say of each why its vector holds no T-CoT although one was asked for; None where all is well.

    Of many, so many at once: other requests have their turn in between.
    """
    if think and library.reasoner is None:
        raise Problem(422, "think: this server has no Reasoner; leave it out, or set it to false", "no_reasoner")
    vectors, failures = [], []
    for batch in split(list(items), at_once):
        outcomes = library.reasoner.reason(batch) if think and library.reasoner else [None] * len(batch)
        vectors.append(library.embedder.embed(batch, [outcome if isinstance(outcome, TCoT) else None for outcome in outcomes]))
        failures += [outcome.reason.value if isinstance(outcome, ParseFailure) else None for outcome in outcomes]
    return np.concatenate(vectors), failures


def _read(library: ServedIndex, items: Sequence[Item]) -> Usage:
    num_read = sum(library.embedder.num_tokens(item.text) for item in items)
    return Usage(prompt_tokens=num_read, total_tokens=num_read)


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
    model, limit = library.reasoner.model, asked.limit
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
    count = model.num_tokens if isinstance(model, Writes) else count_words
    if ends := [place for stop in asked.stops if (place := text.find(stop)) >= 0]:
        text, finish = text[: min(ends)], "stop"
        num_written = count(text)
    num_asked = sum(count(part.text) for message in asked.messages for part in message.parts if isinstance(part, TextPart))
    return Completion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=library.label,
        choices=[_Choice(message=_Reply(content=text), finish_reason=finish)],
        usage=Usage(prompt_tokens=num_asked, completion_tokens=num_written, total_tokens=num_asked + num_written),
    )


def _pieces(completion: Completion, *, with_usage: bool) -> Iterator[bytes]:
    """Send a completion as the two pieces that a streaming client expects at least, and one that counts, if it is wanted."""
    choice = completion.choices[0]
    head = {"id": completion.id, "object": "chat.completion.chunk", "created": completion.created, "model": completion.model}
    for delta, finish in ({"role": "assistant", "content": choice.message.content}, None), ({}, choice.finish_reason):
        piece = head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | ({"usage": None} if with_usage else {})
        yield f"data: {json.dumps(piece)}\n\n".encode()
    if with_usage:
        yield f"data: {json.dumps(head | {'choices': [], 'usage': completion.usage.model_dump(exclude_none=True)})}\n\n".encode()
    yield b"data: [DONE]\n\n"
