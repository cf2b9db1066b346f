"""Requests for vectors, in the shapes that servers of embeddings take, and their answers.

- `messages`: the Embedder's own chat messages, one item a request (vLLM's pooling, `embedrl serve`). The server writes the prompt.
- `prompts`: a prompt with a marker for each image beside the images (llama.cpp).
- `texts`: plain texts, several a request (Ollama, text-embeddings-inference, OpenAI). Images have no place in it.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from embedrl.embedder.inputs import EMB, EmbedderInput, metadata, render_text
from embedrl.errors import ModelError
from embedrl.models.server_answers import ServerFailure, ServerFailureReason, base64_png, data_url, read

ShapeName = Literal["messages", "prompts", "texts"]
MARKER = "<__media__>"
"""Where an image stands in a prompt for llama.cpp, unless its /props name another marker."""
TEXTS_AT_ONCE = 16
"""Texts of one request; an answer stays far below the limit of `read_bounded`."""
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_FPS = 1000
"""Frames are counted in milliseconds, so that a number of a frame says its time (`embedder.inputs.metadata`)."""


@dataclass(frozen=True)
class RequestShape:
    """How a server is asked for vectors."""

    name: ShapeName
    takes_images: bool
    num_at_once: int
    """Inputs of one request."""


SHAPES: dict[ShapeName, RequestShape] = {
    "messages": RequestShape("messages", takes_images=True, num_at_once=1),
    "prompts": RequestShape("prompts", takes_images=True, num_at_once=1),
    "texts": RequestShape("texts", takes_images=False, num_at_once=TEXTS_AT_ONCE),
}


def write_request(
    shape: RequestShape, inputs: Sequence[EmbedderInput], settings: dict[str, Any], *, processor: Any = None, marker: str = MARKER
) -> bytes:
    """Return the JSON of a request for the vectors of some inputs. Raises ModelError for two videos in one item, whose times have no place.

    `processor` renders prompts and texts with the chat template of the model that is served; without it they are joined line by line.
    """
    match shape.name:
        case "messages":
            [built] = inputs
            body = _messages(built)
        case "prompts":
            body = {"input": [_marked(built, processor, marker) for built in inputs]}
        case "texts":
            body = {"input": [_rendered(built, processor) for built in inputs]}
    return json.dumps({"encoding_format": "float"} | settings | body, ensure_ascii=False).encode("utf-8", "replace")


def _messages(built: EmbedderInput) -> dict[str, Any]:
    images, videos = iter(built.images), iter(built.videos)
    parts = []
    for part in built.parts:
        match part["type"]:
            case "image":
                parts.append({"type": "image_url", "image_url": {"url": data_url(next(images))}})
            case "video":
                frames = ",".join(map(base64_png, next(videos).images))
                parts.append({"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}})
            case _:
                parts.append(part)
    body: dict[str, Any] = {
        "messages": [*built.messages[:-1], {"role": "user", "content": parts}],
        "add_generation_prompt": True,
    }
    if built.end != EMB:
        body["add_special_tokens"] = True  # the tokenizer itself ends the text with the token whose state is the vector
    if len(built.videos) > 1:
        raise ModelError("an item with several videos: a request has a place for the times of one")
    if built.videos:
        numbers = list(metadata(built.videos[0]).frames_indices or ())
        body["media_io_kwargs"] = {
            "video": {
                "num_frames": len(numbers),
                "fps": _FPS,
                "frames_indices": numbers,
                "total_num_frames": max(len(numbers), numbers[-1] + 1),
                "do_sample_frames": False,
            }
        }
    return body


def _marked(built: EmbedderInput, processor: Any, marker: str) -> dict[str, Any]:
    """Return a prompt of llama.cpp. The frames of a video are images one after the other."""
    images, videos = iter(built.images), iter(built.videos)
    parts: list[dict[str, Any]] = []
    shown = []
    for part in built.parts:
        if part["type"] == "text":
            parts.append({**part, "text": part["text"].replace(marker, " ")})
            continue
        seen = [next(images)] if part["type"] == "image" else list(next(videos).images)
        shown += seen
        parts += [{"type": "image"}] * len(seen)
    if processor is None:
        prompt = _joined([_system(built), *(part.get("text", marker) for part in parts)])
    else:
        stills = replace(built, messages=[*built.messages[:-1], {"role": "user", "content": parts}], images=tuple(shown), videos=())
        prompt = render_text(processor, stills).replace(_IMAGE, marker)
    return {"prompt_string": prompt, **({"multimodal_data": [base64_png(image) for image in shown]} if shown else {})}


def _rendered(built: EmbedderInput, processor: Any) -> str:
    """Return the text of an input. Images are not in it."""
    if processor is None:
        return _joined([_system(built), *(part["text"] for part in built.parts if part["type"] == "text")])
    texts = [part for part in built.parts if part["type"] == "text"]
    return render_text(processor, replace(built, messages=[*built.messages[:-1], {"role": "user", "content": texts}]))


def _system(built: EmbedderInput) -> str:
    return "".join(part["text"] for message in built.messages[:-1] for part in message["content"])


def _joined(pieces: Sequence[str]) -> str:
    return "\n".join(piece.strip("\n") for piece in pieces if piece.strip())


class _Row(BaseModel):
    index: int | None = None
    embedding: list[float] | str


class _Embeddings(BaseModel):
    data: list[_Row]


def read_vectors(content: bytes, num_inputs: int) -> np.ndarray | ServerFailure:
    """Return the vectors of an answer, float32 (N, D), of unit length, in the order of the inputs, or a MALFORMED failure. Never raises."""
    answer = read(content, _Embeddings)
    if isinstance(answer, ServerFailure):
        return answer
    numbers = {row.index for row in answer.data}
    if 1 < len(numbers) < len(answer.data):
        return _malformed(f"{len(answer.data)} vectors of only {len(numbers)} numbers: it is not clear which is whose")
    rows = sorted(enumerate(answer.data), key=lambda pair: pair[0] if pair[1].index is None else pair[1].index)
    vectors = [_vector(row.embedding) for _, row in rows]
    sizes = {0 if vector is None else vector.size for vector in vectors}
    if len(vectors) != num_inputs:
        return _malformed(f"{len(vectors)} vectors for {num_inputs} inputs")
    if len(sizes) != 1 or 0 in sizes:
        return _malformed(f"vectors of {', '.join(map(str, sorted(sizes)))} numbers")
    stacked = np.stack([vector for vector in vectors if vector is not None])
    if not np.isfinite(stacked).all():
        return _malformed("a vector that holds NaN or infinite numbers")
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    if not norms.all():
        return _malformed("a vector of zeros")
    return (stacked / norms).astype(np.float32)


def _vector(value: list[float] | str) -> np.ndarray | None:
    """Return numbers as they are, or of base64 (little-endian float32); None for what is neither."""
    if not isinstance(value, str):
        return np.asarray(value, np.float64)
    try:
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float64)
    except (binascii.Error, ValueError):
        return None


def _malformed(text: str) -> ServerFailure:
    return ServerFailure(ServerFailureReason.MALFORMED, text)
