"""Client of /v1/rerank servers (ours, vLLM, Jina, Cohere, text-embeddings-inference)."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from embedrl.data.protocols import Side
from embedrl.errors import ModelError
from embedrl.media.content import Frames
from embedrl.media.decode import load_visual
from embedrl.media.resize import PAPER_BUDGET, Reduce
from embedrl.models.model_server import ModelServer
from embedrl.models.server_answers import ServerFailure, read
from embedrl.models.server_name import NOT_OF_CLIENT, read_server_name


class _Ranked(BaseModel):
    index: int = Field(ge=0)
    relevance_score: float = Field(allow_inf_nan=False)


class _Answer(BaseModel):
    results: list[_Ranked]


class RemoteReranker:
    """A server that reranks. Fulfils `Reranks`; a candidate with an image is sent as one, in the shape that our own server takes."""

    def __init__(self, name: str, **options: Any) -> None:
        """Take `http://host:8000/v1#model?timeout_s=60` and options of `ModelServer`; without a model, the server chooses."""
        asked = read_server_name(name.removesuffix("/rerank"))
        client: dict[str, Any] = {key: value for key, value in asked.client.items() if key not in NOT_OF_CLIENT}
        client = {"extra": asked.extra, **client, **options}
        self.server = ModelServer(asked.url, asked.model, **client)
        self.fingerprint = f"rerank-{self.server.url}#{self.server.model}"

    def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
        """Return the server's score of each candidate; None for one that it leaves out. Raises ModelError, and MediaError for a file."""
        documents = [_document(candidate) for candidate in candidates]
        settings = {name: value for name, value in self.server.extra.items() if value is not None}
        model = {"model": self.server.model} if self.server.model else {}
        body = {**settings, **model, "query": _document(query), "documents": documents, "top_n": len(documents)}
        content = self.server.fetch("/rerank", body)
        answer = content if isinstance(content, ServerFailure) else read(content, _Answer)
        if isinstance(answer, ServerFailure):
            raise ModelError(f"the reranker {self.server.url} did not answer ({answer.reason}: {answer.text})")
        scores: list[float | None] = [None] * len(candidates)
        for ranked in answer.results:
            if ranked.index >= len(candidates):
                raise ModelError(f"the reranker {self.server.url} ranked document {ranked.index} of {len(candidates)}")
            scores[ranked.index] = ranked.relevance_score
        return scores


def _document(side: Side) -> str | dict[str, str]:
    """Return what is sent of a side: its text and the answer of its T-CoT, and the image, the page, or the middle frame of a clip."""
    item, tcot = side
    text = " ".join(filter(None, [item.text, tcot.answer if tcot else ""]))
    if item.visual is None:
        return text
    seen = load_visual(item.visual, num_frames=PAPER_BUDGET.num_frames, scale=Reduce(max_pixels=PAPER_BUDGET.image.max_pixels))
    image = seen.images[len(seen.images) // 2] if isinstance(seen, Frames) else seen
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    image = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"text": text, "image": image} if text else {"image": image}
