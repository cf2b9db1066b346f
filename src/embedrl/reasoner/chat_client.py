"""What is sent to a chat server and what comes back: requests with their pictures inside, answers that are checked.

Answers are untrusted: `read` and `read_reply` never raise.
"""

import base64
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import PIL.Image
from pydantic import BaseModel, Field, ValidationError

from embedrl.errors import ConfigError
from embedrl.media.image import to_rgb
from embedrl.reasoner.prompts import Prompt

API_KEY = "EMBEDRL_API_KEY"
"""Environment variable with the key that a server asks for, if it asks for one. It is read at each use and kept nowhere."""

_SHOWN_CHARS = 300

M = TypeVar("M", bound=BaseModel)


class ChatFailureReason(StrEnum):
    """Why a request has no answer."""

    TRANSPORT = "transport"
    """The server was not reached, was too slow, hung up, or answered 429 or 5xx, each time it was tried."""
    REFUSED = "refused"
    """The server does not take this request (4xx)."""
    MALFORMED = "malformed"
    """The answer is not JSON, or not a chat completion."""
    EMPTY = "empty"
    """The model wrote nothing."""


@dataclass(frozen=True)
class ChatFailure:
    """A request without an answer."""

    reason: ChatFailureReason
    text: str
    about_item: bool = field(default=False, compare=False)
    """Whether the server does not take this request, and may well take others."""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish_reason: str | None
    """As the server says: "stop"; "length" for a text that was cut at `max_tokens`."""
    num_prompt_tokens: int | None
    num_completion_tokens: int | None
    """None where the server does not count."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Model(BaseModel):
    id: str


class Models(BaseModel):
    """The answer to the question which models a server has."""

    data: list[_Model]


def read(content: bytes, shape: type[M]) -> M | ChatFailure:
    """Return the JSON content of an answer, or a MALFORMED failure if it has another shape."""
    try:
        return shape.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        text = f"{place}: {first['msg']}" if place else first["msg"]
        return ChatFailure(ChatFailureReason.MALFORMED, short(f"{text} in {content.decode('utf-8', 'replace')!r}"))


def read_reply(content: bytes) -> Reply | ChatFailure:
    """Return the first choice of a chat completion, or a failure: MALFORMED, or EMPTY for blank text."""
    completion = read(content, _Completion)
    if isinstance(completion, ChatFailure):
        return completion
    choice, usage = completion.choices[0], completion.usage or _Usage()
    text = choice.message.content or ""
    if not text.strip():
        return ChatFailure(ChatFailureReason.EMPTY, f"the model wrote nothing (finish_reason={choice.finish_reason!r})")
    return Reply(text, choice.finish_reason, usage.prompt_tokens, usage.completion_tokens)


def write_body(prompt: Prompt, settings: dict[str, Any]) -> bytes:
    """Return the JSON of a request, pictures inside; text that UTF-8 cannot hold (lone surrogates) becomes question marks."""
    num_parts = sum(part["type"] == "image" for message in prompt.messages for part in message["content"])
    assert num_parts == len(prompt.images), f"{num_parts} image parts, {len(prompt.images)} images"
    images = iter(prompt.images)
    messages = [{"role": message["role"], "content": [_part(part, images) for part in message["content"]]} for message in prompt.messages]
    return json.dumps(settings | {"messages": messages}, ensure_ascii=False).encode("utf-8", "replace")


def _part(part: dict[str, Any], images: Iterator[PIL.Image.Image]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    assert part["type"] == "image"
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(_png(next(images))).decode()}"}}


def _png(image: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    to_rgb(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def api_key() -> str:
    """Return the key in the environment, empty if there is none. Raises ConfigError, without showing it, if no header can carry it."""
    key = os.environ.get(API_KEY, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise ConfigError(f"{API_KEY}: holds blanks or characters beyond ASCII, which no HTTP header can carry")
    return key


def short(text: str) -> str:
    """Return a remark of a server on one line, without the key that it may repeat."""
    if key := api_key():
        text = text.replace(key, "***")
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[:_SHOWN_CHARS] + "…"
