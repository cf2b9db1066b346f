"""Endpoints in the shapes of Cohere (v2) and of text-embeddings-inference: each translates to `/v1/embeddings` or `/v1/rerank` and back.

Sources: docs.cohere.com/v2/reference/rerank and /embed; the OpenAPI document of huggingface/text-embeddings-inference.
"""

import base64
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.server.bodies import BoundedRoute
from embedrl.server.openai import embed_inputs, rerank_documents
from embedrl.server.openai_messages import CleanText
from embedrl.server.openai_schemas import MAX_DOCUMENTS, MAX_INPUTS, Document, Embeddings, EmbeddingsRequest, Rerank, RerankRequest
from embedrl.server.problem import Problem, error_responses
from embedrl.server.service import Service

Documents = Annotated[list[CleanText], Field(min_length=1, max_length=MAX_DOCUMENTS)]
Inputs = Annotated[list[CleanText], Field(min_length=1, max_length=MAX_INPUTS)]


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class _Translated(Protocol):
    """A request in a client's own shape."""

    def common(self) -> Any:
        """Return the request in our shape."""
        ...

    def answer(self, result: Any) -> Any:
        """Return our answer in the client's shape."""
        ...

    def fields(self) -> dict[str, str]:
        """Return fields of ours -> their names in the client's shape, for messages."""
        ...


class CohereMeta(_Shape):
    """What was counted."""

    api_version: dict[str, str] = {"version": "2"}
    tokens: dict[str, int]


class CohereRanked(_Shape):
    """A document with its score."""

    index: int
    relevance_score: float
    """As the reranker gave it; without one, the cosine to the query, -1..1."""


class CohereReranked(_Shape):
    """Documents in order of score."""

    id: str
    results: list[CohereRanked]
    meta: CohereMeta


class CohereRerank(_Shape):
    """Rerank request of Cohere, version 2."""

    model: str | None = None
    query: CleanText
    documents: Documents
    top_n: int | None = Field(default=None, ge=1)
    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    """A longer document is refused, since none is cut."""
    relevant_spans: None = None
    """Not supported: leave it out."""
    priority: int | None = None
    """All requests are alike here."""

    def common(self) -> RerankRequest:
        """Return the request in our shape."""
        return RerankRequest(
            model=self.model,
            query=self.query,
            documents=list(self.documents),
            top_n=self.top_n,
            max_tokens_per_doc=self.max_tokens_per_doc,
        )

    def answer(self, result: Rerank) -> CohereReranked:
        """Return our answer in the client's shape."""
        ranked = [CohereRanked(index=row.index, relevance_score=row.relevance_score) for row in result.results]
        return CohereReranked(id=result.id, results=ranked, meta=CohereMeta(tokens={"input_tokens": result.usage.prompt_tokens}))

    def fields(self) -> dict[str, str]:
        """Return nothing: the names are the same."""
        return {}


class CoherePart(_Shape):
    """A text or an image of an input."""

    type: Literal["text", "image_url"]
    text: CleanText | None = None
    image_url: dict[str, str] | None = None
    """`{"url": "data:image/png;base64,…"}`"""

    @model_validator(mode="after")
    def _whole(self) -> "CoherePart":
        if (self.text if self.type == "text" else (self.image_url or {}).get("url")) is None:
            raise ValueError(f"give {'text' if self.type == 'text' else 'image_url.url'}")
        return self


class CohereInput(_Shape):
    """One item of texts and at most one image."""

    content: Annotated[list[CoherePart], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _one_image(self) -> "CohereInput":
        if sum(part.type == "image_url" for part in self.content) > 1:
            raise ValueError("give at most one image in an input")
        self.document()
        return self

    def document(self) -> Document:
        """Return the item in our shape."""
        texts = [part.text for part in self.content if part.type == "text" and part.text]
        images = [part.image_url["url"] for part in self.content if part.type == "image_url" and part.image_url]
        return Document(text="\n".join(texts) or None, image=images[0] if images else None)


class CohereEmbedded(_Shape):
    """Embeddings by type, in the order of the inputs."""

    response_type: Literal["embeddings_by_type"] = "embeddings_by_type"
    id: str
    embeddings: dict[Literal["float", "base64"], list[list[float]] | list[str]]
    """Unit length; in base64, little-endian float32."""
    texts: list[str] | None = None
    meta: CohereMeta


class CohereEmbed(_Shape):
    """Embed request of Cohere, version 2."""

    model: str | None = None
    texts: Inputs | None = None
    images: Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)] | None = None
    """`data:image/png;base64,…`"""
    inputs: Annotated[list[CohereInput], Field(min_length=1, max_length=MAX_INPUTS)] | None = None
    input_type: Literal["search_document", "search_query", "classification", "clustering", "image"] = "search_document"
    embedding_types: Annotated[list[Literal["float", "base64"]], Field(min_length=1, max_length=2)] = ["float"]
    output_dimension: int | None = None
    truncate: Literal["END"] | None = None
    """A text is cut at its end where it is longer than the Embedder reads."""
    priority: int | None = None
    """All requests are alike here."""

    @model_validator(mode="after")
    def _one_kind(self) -> "CohereEmbed":
        if sum(value is not None for value in (self.texts, self.images, self.inputs)) != 1:
            raise ValueError("give one of texts, images and inputs")
        if not all(self.images or (True,)):
            raise ValueError("images: one is empty")
        return self

    def common(self) -> EmbeddingsRequest:
        """Return the request in our shape."""
        documents = [Document(image=image) for image in self.images or ()] or [document.document() for document in self.inputs or ()]
        return EmbeddingsRequest(
            model=self.model,
            input=list(self.texts or documents),
            dimensions=self.output_dimension,
            input_type="query" if self.input_type == "search_query" else "document",
        )

    def answer(self, result: Embeddings) -> CohereEmbedded:
        """Return our answer in the client's shape."""
        vectors = [row.embedding for row in result.data]
        by_type = {"float": vectors, "base64": [base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() for vector in vectors]}
        return CohereEmbedded(
            id=f"embed-{uuid.uuid4().hex}",
            embeddings={kind: by_type[kind] for kind in self.embedding_types},
            texts=self.texts,
            meta=CohereMeta(tokens={"input_tokens": result.usage.prompt_tokens}),
        )

    def fields(self) -> dict[str, str]:
        """Return our names -> theirs."""
        kind = next(name for name in ("texts", "images", "inputs") if getattr(self, name) is not None)
        return {"input": kind, "dimensions": "output_dimension"}


class TEIRanked(_Shape):
    """A text with its score."""

    index: int
    score: float
    """As the reranker gave it; without one, the cosine to the query, -1..1."""
    text: str | None = None


class TEIRerank(_Shape):
    """Rerank request of text-embeddings-inference."""

    query: CleanText
    texts: Documents
    raw_scores: bool = False
    """Scores are the reranker's own either way; none is squashed."""
    return_text: bool = False
    truncate: bool = False
    """A text is cut at its end where it is longer than the model reads."""
    truncation_direction: Literal["Right", "right"] = "Right"

    def common(self) -> RerankRequest:
        """Return the request in our shape."""
        return RerankRequest(query=self.query, documents=list(self.texts))

    def answer(self, result: Rerank) -> list[TEIRanked]:
        """Return our answer in the client's shape."""
        texts = self.texts if self.return_text else [None] * len(self.texts)
        return [TEIRanked(index=row.index, score=row.relevance_score, text=texts[row.index]) for row in result.results]

    def fields(self) -> dict[str, str]:
        """Return our names -> theirs."""
        return {"documents": "texts"}


class TEIEmbed(_Shape):
    """Embed request of text-embeddings-inference."""

    inputs: CleanText | Inputs
    normalize: Literal[True] = True
    """Vectors have unit length."""
    prompt_name: Literal["query", "document", "passage"] | None = None
    """Whether the texts look for something, or are to be found (the default)."""
    truncate: bool = False
    """A text is cut at its end where it is longer than the Embedder reads."""
    truncation_direction: Literal["Right", "right"] = "Right"
    dimensions: int | None = None

    def common(self) -> EmbeddingsRequest:
        """Return the request in our shape."""
        kind: Literal["query", "document"] = "query" if self.prompt_name == "query" else "document"
        texts = [self.inputs] if isinstance(self.inputs, str) else list(self.inputs)
        return EmbeddingsRequest(input=list(texts), dimensions=self.dimensions, input_type=kind)

    def answer(self, result: Embeddings) -> list[list[float]]:
        """Return our answer in the client's shape."""
        return [row.embedding for row in result.data if isinstance(row.embedding, list)]

    def fields(self) -> dict[str, str]:
        """Return our names -> theirs."""
        return {"input": "inputs"}


@dataclass(frozen=True)
class Endpoint:
    """A path in the shape of another server."""

    path: str
    request: type[_Translated]
    response: Any
    run: Callable[[Service, Any], Awaitable[Any]]
    summary: str


ENDPOINTS = (
    Endpoint("/v2/rerank", CohereRerank, CohereReranked, rerank_documents, "Rerank, in the shape of Cohere (v2)."),
    Endpoint("/v2/embed", CohereEmbed, CohereEmbedded, embed_inputs, "Embed, in the shape of Cohere (v2)."),
    Endpoint("/rerank", TEIRerank, list[TEIRanked], rerank_documents, "Rerank, in the shape of text-embeddings-inference."),
    Endpoint("/embed", TEIEmbed, list[list[float]], embed_inputs, "Embed, in the shape of text-embeddings-inference."),
)


def dialect_routes(service: Service) -> APIRouter:
    """Create the router of a service."""
    router = APIRouter(tags=["compatible"], route_class=BoundedRoute)
    for endpoint in ENDPOINTS:
        router.add_api_route(
            endpoint.path,
            _handler(service, endpoint),
            methods=["POST"],
            response_model=endpoint.response,
            response_model_exclude_none=True,
            summary=endpoint.summary,
            responses=error_responses(endpoint.path),
        )
    return router


def _handler(service: Service, endpoint: Endpoint) -> Callable[..., Awaitable[Any]]:
    """Return a handler that FastAPI sees as one of the endpoint's request."""

    async def handle(request: _Translated) -> Any:
        try:
            return request.answer(await endpoint.run(service, request.common()))
        except Problem as problem:
            names = request.fields()
            message = re.sub(r"^[a-z_]+(?=[.:=])", lambda word: names.get(word.group(), word.group()), problem.message)
            raise Problem(problem.status, message, problem.code, retry_after_s=problem.retry_after_s) from problem

    parameter = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=endpoint.request)
    vars(handle)["__signature__"] = Signature([parameter])
    handle.__name__ = re.sub(r"\W+", "_", endpoint.path).strip("_")
    handle.__doc__ = endpoint.summary
    return handle
