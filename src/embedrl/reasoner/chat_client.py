"""HTTP client of OpenAI-compatible chat servers: requests with images inside, validated answers.

Answers are untrusted: `read` and `read_reply` never raise.
"""

import base64
import io
import json
import os
import re
import zlib
from collections.abc import AsyncIterator, Iterator
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

LENGTH = "length"
"""The `finish_reason` of an answer that was cut at the limit of tokens."""

MAX_ANSWER_BYTES = 4 * 2**20
"""Longest answer of a server that is read, whatever it says of its length."""

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
    is_cut: bool = field(default=False, compare=False)
    """Whether the limit of tokens came before the first word of the answer, as it does for a model that thinks long."""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish_reason: str | None
    """As the server says: "stop"; "length" (`LENGTH`) for a text that was cut at `max_tokens`."""
    num_prompt_tokens: int | None
    num_completion_tokens: int | None
    """None where the server does not count."""


class _Part(BaseModel):
    type: str = "text"
    text: str | None = None


class _Message(BaseModel):
    content: str | list[_Part | str] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None

    def written(self) -> str:
        """Return the answer: the content (parts that are no text are thoughts), or else what was filed as thinking but ends a T-CoT.

        Servers that part thinking from the answer take the whole text for thinking when its end is not marked. A draft does not count.
        """
        if isinstance(self.content, list):
            parts = [_Part(text=part) if isinstance(part, str) else part for part in self.content]
            content = "".join(part.text or "" for part in parts if part.type in ("text", "output_text"))
        else:
            content = self.content or ""
        _, ends, answer = content.rpartition("</think>")
        if content.strip():
            return (answer if ends else content).partition("<think>")[0]  # one that is not closed was cut in its thinking
        thinking = (self.reasoning_content or self.reasoning or "").strip()
        return thinking if re.search(r"</\s*answer\s*>$", thinking, re.IGNORECASE) else ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _MaybeError(BaseModel):
    """What an error in a body of status 200 looks like: in place of the choices, or in the first of them."""

    error: Any = None
    choices: Any = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Model(BaseModel):
    id: str
    embedrl: dict[str, Any] | None = None
    """How this project's Reasoner is asked, where our own server tells."""


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
    text = choice.message.written()
    if not text.strip():
        if choice.message.refusal or choice.finish_reason == "content_filter":
            why = choice.message.refusal or "the server's filter took the answer (finish_reason='content_filter')"
            return ChatFailure(ChatFailureReason.REFUSED, short(why), about_item=True)
        why = f"the model wrote nothing (finish_reason={choice.finish_reason!r})"
        return ChatFailure(ChatFailureReason.EMPTY, why, is_cut=choice.finish_reason == LENGTH)
    return Reply(text, choice.finish_reason, usage.prompt_tokens, usage.completion_tokens)


async def read_bounded(chunks: AsyncIterator[bytes], encoding: str) -> bytes | ChatFailure:
    """Read the raw body of an answer as long as it has no more than `MAX_ANSWER_BYTES`, packed and unpacked."""
    too_long = ChatFailure(ChatFailureReason.MALFORMED, f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
    packed = bytearray()
    async for chunk in chunks:
        packed += chunk
        if len(packed) > MAX_ANSWER_BYTES:
            return too_long
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return bytes(packed)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return ChatFailure(ChatFailureReason.MALFORMED, short(f"an answer packed as {encoding!r}, where gzip was asked for"))
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
    try:
        body = unpacker.decompress(bytes(packed), MAX_ANSWER_BYTES + 1)
    except zlib.error as error:
        return ChatFailure(ChatFailureReason.MALFORMED, f"an answer that cannot be unpacked ({error})")
    return too_long if len(body) > MAX_ANSWER_BYTES else body


def error_inside(content: bytes) -> tuple[int | None, str] | None:
    """Return (status, text) of an error that came with status 200; None if there is none."""
    if b'"error"' not in content:
        return None
    answer = read(content, _MaybeError)
    if isinstance(answer, ChatFailure):
        return None
    first = answer.choices[0] if isinstance(answer.choices, list) and answer.choices else None
    error = answer.error or (first.get("error") if isinstance(first, dict) else None)
    if not error:
        return None
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    status = int(code) if isinstance(code, int | str) and re.fullmatch(r"[1-5]\d\d", str(code)) else None
    return status, short(str(text or error))


def write_body(prompt: Prompt, settings: dict[str, Any], *, is_ours: bool = False) -> bytes:
    """Return the JSON of a request, pictures inside; text that UTF-8 cannot hold (lone surrogates) becomes question marks."""
    num_parts = sum(part["type"] == "image" for message in prompt.messages for part in message["content"])
    assert num_parts == len(prompt.images), f"{num_parts} image parts, {len(prompt.images)} images"
    images = iter(prompt.images)
    messages = [{"role": message["role"], "content": [_part(part, images) for part in message["content"]]} for message in prompt.messages]
    quoted = {"quoted_text": prompt.text} if is_ours and prompt.text else {}  # what keywords quote, which our own server asks for
    return json.dumps(settings | quoted | {"messages": messages}, ensure_ascii=False).encode("utf-8", "replace")


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
