"""OpenAI-compatible endpoints (embeddings, chat completions, models) and the rerank of Jina and Cohere (v1)."""

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
from embedrl.data.tcot import ParseFailure, TCoT, count_words, render, tcot_or_none
from embedrl.data.vectors import embed_unit, shortened
from embedrl.media.content import Content, Text
from embedrl.media.kinds import MediaKind
from embedrl.server.bodies import BoundedRoute
from embedrl.server.budget import REQUEST_PIXELS
from embedrl.server.embedder_prompt import read_embedder_prompt
from embedrl.server.openai_messages import (
    MAX_IMAGES,
    TextPart,
    as_data_url,
    read_content,
    read_media,
    read_prompt,
)
from embedrl.server.openai_schemas import (
    ChatRequest,
    Completion,
    Document,
    Embedding,
    Embeddings,
    EmbeddingsRequest,
    Model,
    ModelList,
    Ranked,
    Rerank,
    RerankRequest,
    Usage,
    _Choice,
    _Reply,
)
from embedrl.server.problem import Problem
from embedrl.server.query import clean
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service
from embedrl.server.shared_models import Chat, Writes

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "A completion, or its pieces."}
}


def compatible_routes(service: Service) -> APIRouter:
    """Create the router of a service."""
    router = APIRouter(prefix="/v1", tags=["compatible"], route_class=BoundedRoute)

    def reasoner(model: str | None) -> ServedIndex:
        for library in service.libraries:
            if library.reasoner is not None and model in (None, "", library.id, library.label):
                return library
        raise Problem(404, "model: there is no such Reasoner here; /v1/models lists what there is", "model_not_found")

    @router.get("/models")
    async def models() -> ModelList:
        """List the models."""
        reasoner_prompts = {library.label: _prompt_settings(library.reasoner.model) for library in service.libraries if library.reasoner}
        names = dict.fromkeys([*reasoner_prompts, service.embedder_label])
        prompt = service.library().embedder.prompt_settings
        embedder_prompts = {service.embedder_label: prompt.model_dump(mode="json")} if prompt else {}
        return ModelList(data=[Model(id=name, embedrl=reasoner_prompts.get(name), embeds=embedder_prompts.get(name)) for name in names])

    @router.get("/models/{model:path}")
    async def model(model: Annotated[str, PathParameter(max_length=200)]) -> Model:
        """Return one model."""
        for known in (await models()).data:
            if known.id == model:
                return known
        raise Problem(404, "model: there is no such model here; /v1/models lists what there is", "model_not_found")

    @router.post("/embeddings")
    async def embeddings(request: EmbeddingsRequest) -> Embeddings:
        """Embed texts and images, or chat messages with images."""
        return await embed_inputs(service, request)

    @router.post("/chat/completions", response_model=Completion, responses=_STREAM)
    async def chat(request: ChatRequest) -> Completion | Response:
        """Chat completion of the Reasoner."""
        library = reasoner(request.model)
        request.check()
        completion = await service.work(lambda: _chat(service, library, request))
        if request.stream:
            with_usage = request.stream_options is not None and request.stream_options.include_usage
            return StreamingResponse(_stream_chunks(completion, with_usage=with_usage), media_type="text/event-stream")
        return completion

    @router.post("/rerank")
    async def rerank(request: RerankRequest) -> Rerank:
        """Rerank documents by the reranker's score, or by cosine to the query without one; `model` names which was used."""
        return await rerank_documents(service, request)

    return router


def _need_embedder(service: Service, model: str | None) -> None:
    if model not in (None, "", service.embedder_label):
        raise Problem(404, "model: there is no such Embedder here; /v1/models lists what there is", "model_not_found")


async def embed_inputs(service: Service, request: EmbeddingsRequest) -> Embeddings:
    """Embed the inputs of a request. Raises Problem."""
    _need_embedder(service, request.model)
    library = service.library()
    if request.dimensions is not None and not 1 <= request.dimensions <= library.embedder.dim:
        raise Problem(400, f"dimensions={request.dimensions}: give 1 to {library.embedder.dim}", "bad_dimensions")
    share = _pixels_of_each(request.inputs, "input")

    def work() -> Embeddings:
        if request.add_generation_prompt:
            vector = library.embedder.embed_prompt(read_embedder_prompt(service, library.embedder, request))
            return Embeddings(data=[Embedding(index=0, embedding=_encoded(vector, request.encoding))], model=service.embedder_label)
        contents: list[Content] = (
            [read_content(service, request.messages)]
            if request.messages is not None
            else [_content(service, element, share, f"input.{position}") for position, element in enumerate(request.inputs)]
        )
        query = request.is_query
        items = [_item(content, request.instruction, f"input.{position}", query=query) for position, content in enumerate(contents)]
        vectors, failures = _embed(library, items, think=request.think, max_batch=service.settings.max_batch)
        vectors = shortened(vectors, request.dimensions)
        data = [
            Embedding(index=index, embedding=_encoded(vector, request.encoding), tcot_failure=failure)
            for index, (vector, failure) in enumerate(zip(vectors, failures, strict=True))
        ]
        return Embeddings(data=data, model=service.embedder_label, usage=_usage(library, items))

    return await service.work(work)


async def rerank_documents(service: Service, request: RerankRequest) -> Rerank:
    """Rerank the documents of a request. Raises Problem."""
    if service.reranker is None or request.model != service.reranker.label:
        _need_embedder(service, request.model)
    library = service.library()
    share = _pixels_of_each((request.query, *request.documents), "documents")

    def work() -> Rerank:
        contents = [
            _content(service, document, share, f"documents.{position}", request.rank_fields)
            for position, document in enumerate(request.documents)
        ]
        documents = [_item(content, None, f"documents.{position}", query=False) for position, content in enumerate(contents)]
        looking_for = make.kind_of(documents[0].content)
        items = [_item(_content(service, request.query, share, "query"), None, "query", query=True, looking_for=looking_for), *documents]
        _check_lengths(library, documents, request.max_tokens_per_doc)
        scores, think = (_cosine_scores if service.reranker is None else _reranker_scores)(service, library, items, request)
        order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: request.top_n]
        results = [
            Ranked(
                index=index,
                relevance_score=float(scores[index]),
                document=_echo(request.documents[index]) if request.return_documents else None,
            )
            for index in order
        ]
        usage = _usage(library, items)
        name = service.embedder_label if service.reranker is None else service.reranker.label
        return Rerank(id=f"rerank-{uuid.uuid4().hex}", model=name, results=results, think=think, usage=usage)

    return await service.work(work)


def _cosine_scores(service: Service, library: ServedIndex, items: Sequence[Item], request: RerankRequest) -> tuple[list[float], bool]:
    """Return the cosine of the first item (the query) to all others, and whether T-CoTs were used."""
    vectors, failures = _embed(library, items, think=request.think, max_batch=service.settings.max_batch)
    think = request.think and not any(failures)
    if request.think and not think:  # vectors with T-CoTs and without are never compared
        vectors, _ = _embed(library, items, think=False, max_batch=service.settings.max_batch)
    return np.round((vectors[1:] @ vectors[0]).astype(np.float64), 6).tolist(), think


def _reranker_scores(service: Service, library: ServedIndex, items: Sequence[Item], request: RerankRequest) -> tuple[list[float], bool]:
    """Return the reranker's scores of all items after the first (the query). Raises Problem 422 for one it cannot score."""
    assert service.reranker is not None
    outcomes = library.need_reasoner().reason(items) if request.think else [None] * len(items)
    sides = [(item, tcot_or_none(outcome)) for item, outcome in zip(items, outcomes, strict=True)]
    scores = service.reranker.rerank(sides[0], sides[1:])
    for position, score in enumerate(scores):
        if score is None:
            hint = "" if request.think else "; think=true lets it read T-CoTs"
            raise Problem(422, f"documents.{position}: the reranker cannot score it with this query{hint}", "not_scored")
    return [score for score in scores if score is not None], request.think


def _item(content: Content, instruction: str | None, field: str, *, query: bool, looking_for: MediaKind = "image") -> Item:
    """Build an Item from a request field, with the prompt role of search or indexing."""
    if all(isinstance(part, Text) and not part.text for part in content):
        raise Problem(400, f"{field}: the text is empty", "empty_input")
    return make.query(content, instruction, looking_for=looking_for) if query else make.candidate(content, instruction)


def _pixels_of_each(documents: Sequence[str | Document], field: str) -> int:
    """Return how many pixels each image may have. Raises Problem 413 for too many images."""
    num_images = sum(isinstance(document, Document) and bool(document.image) for document in documents)
    if num_images > MAX_IMAGES:
        raise Problem(413, f"{field}: {num_images} images; give at most {MAX_IMAGES} in all", "too_large")
    return REQUEST_PIXELS // max(1, num_images)


def _content(service: Service, document: str | Document, share: int, field: str, rank_fields: Sequence[str] = ()) -> Content:
    """Read a document; its text is that of `rank_fields`, in their order, if there are any. Raises Problem."""
    if isinstance(document, str):
        return (Text(text=document),)
    if missing := [name for name in rank_fields if name not in document.fields]:
        raise Problem(422, f"{field}: has no {missing[0]!r}, which rank_fields names", "no_such_field")
    text = "\n".join(document.fields[name] for name in rank_fields if name != "image") if rank_fields else document.text
    words = (Text(text=clean(text)),) if text else ()
    if document.image and (not rank_fields or "image" in rank_fields):
        return (read_media(service, as_data_url(document.image), share, f"{field}.image"), *words)
    if not words:
        raise Problem(422, f"{field}: give text, an image, or both, or rank_fields that name what holds the text", "empty_input")
    return words


def _check_lengths(library: ServedIndex, items: Sequence[Item], max_tokens: int | None) -> None:
    if max_tokens is None:
        return
    for position, item in enumerate(items):
        if (num_tokens := library.embedder.num_tokens(item.text)) > max_tokens:
            raise Problem(422, f"max_tokens_per_doc={max_tokens}: documents.{position} has {num_tokens}, and none is cut here", "too_long")


def _echo(document: str | Document) -> dict[str, Any]:
    """Echo a document as it was sent."""
    return {"text": document} if isinstance(document, str) else document.model_dump(exclude_none=True)


def _embed(library: ServedIndex, items: Sequence[Item], *, think: bool, max_batch: int) -> tuple[np.ndarray, list[str | None]]:
    """Embed items; also return per item why a requested T-CoT is missing, or None.

    Large requests run in chunks, so that others can interleave.
    """
    reasoner = library.need_reasoner() if think else None
    vectors, failures = [], []
    for batch in split(list(items), max_batch):
        outcomes = reasoner.reason(batch) if reasoner else [None] * len(batch)
        vectors.append(embed_unit(library.embedder, batch, list(map(tcot_or_none, outcomes))))
        failures += [outcome.reason.value if isinstance(outcome, ParseFailure) else None for outcome in outcomes]
    return np.concatenate(vectors), failures


def _usage(library: ServedIndex, items: Sequence[Item]) -> Usage:
    num_tokens = sum(library.embedder.num_tokens(item.text) for item in items)
    return Usage(prompt_tokens=num_tokens, total_tokens=num_tokens)


def _prompt_settings(reasoner: Reasons) -> dict[str, Any] | None:
    """Return the prompt settings of a Reasoner, for clients that build its prompts themselves."""
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


def _chat(service: Service, library: ServedIndex, request: ChatRequest) -> Completion:
    """Answer a chat; a Reasoner without a chat mode writes a T-CoT of the last user message."""
    assert library.reasoner is not None
    model, limit = library.reasoner.model, request.limit
    own_limit = (_prompt_settings(model) or {}).get("max_new_tokens")
    finish: Literal["stop", "length"] = "stop"
    if isinstance(model, Writes):
        chat = Chat(replace(read_prompt(service, request.messages), text=request.quoted_text), limit, request.temperature)
        [text] = library.reasoner.worker.ask([chat])
        assert isinstance(text, str)
        num_completion_tokens = model.num_tokens(text)
        limits = [tokens for tokens in (limit, own_limit) if tokens is not None]
        finish = "length" if limits and num_completion_tokens >= min(limits) else "stop"
    else:
        last = next((message for message in reversed(request.messages) if message.role == "user"), None)
        item = make.query(read_content(service, [last] if last else []))
        outcome = library.reasoner.reason([item])[0]
        text = render(outcome) if isinstance(outcome, TCoT) else outcome.text
        num_completion_tokens = count_words(text)
    count = model.num_tokens if isinstance(model, Writes) else count_words
    if ends := [place for stop in request.stops if (place := text.find(stop)) >= 0]:
        text, finish = text[: min(ends)], "stop"
        num_completion_tokens = count(text)
    num_prompt_tokens = sum(count(part.text) for message in request.messages for part in message.parts if isinstance(part, TextPart))
    return Completion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=library.label,
        choices=[_Choice(message=_Reply(content=text), finish_reason=finish)],
        usage=Usage(
            prompt_tokens=num_prompt_tokens, completion_tokens=num_completion_tokens, total_tokens=num_prompt_tokens + num_completion_tokens
        ),
    )


def _stream_chunks(completion: Completion, *, with_usage: bool) -> Iterator[bytes]:
    """Stream a completion as server-sent events: content, finish reason, and usage if requested."""
    choice = completion.choices[0]
    head = {"id": completion.id, "object": "chat.completion.chunk", "created": completion.created, "model": completion.model}
    for delta, finish in ({"role": "assistant", "content": choice.message.content}, None), ({}, choice.finish_reason):
        chunk = head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | ({"usage": None} if with_usage else {})
        yield f"data: {json.dumps(chunk)}\n\n".encode()
    if with_usage:
        yield f"data: {json.dumps(head | {'choices': [], 'usage': completion.usage.model_dump(exclude_none=True)})}\n\n".encode()
    yield b"data: [DONE]\n\n"
