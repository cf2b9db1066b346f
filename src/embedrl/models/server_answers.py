"""Answers of OpenAI-compatible servers: bounded, validated, and failures in the place of what is not there.

Answers are untrusted: `read` never raises.
"""

import base64
import io
import json
import os
import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import PIL.Image
from pydantic import BaseModel, ValidationError

from embedrl.errors import ConfigError
from embedrl.media.content import well_formed
from embedrl.media.image import to_rgb

API_KEY = "EMBEDRL_API_KEY"
"""Environment variable with the key that a server asks for, if it asks for one. It is read at each use and kept nowhere."""

MAX_ANSWER_BYTES = 4 * 2**20
"""Longest answer of a server that is read, whatever it says of its length."""
_MAX_MEMBERS = 1_000
"""Of gzip: to unpack one copies all that follow."""

_SHOWN_CHARS = 300

M = TypeVar("M", bound=BaseModel)


class ServerFailureReason(StrEnum):
    """Why a request has no answer."""

    TRANSPORT = "transport"
    """Connection error, timeout, 429 or 5xx at every attempt."""
    REFUSED = "refused"
    """The server rejected this request (4xx)."""
    MALFORMED = "malformed"
    """The answer is not JSON, or not a chat completion."""
    EMPTY = "empty"
    """The model wrote nothing."""


@dataclass(frozen=True)
class ServerFailure:
    """A request without an answer."""

    reason: ServerFailureReason
    text: str
    about_item: bool = field(default=False, compare=False)
    """Whether the server rejected this item and may accept others."""
    is_cut: bool = field(default=False, compare=False)
    """Whether the token limit was reached before the answer began, as with long thinking."""

    def __bool__(self) -> bool:
        return False


class _MaybeError(BaseModel):
    """What an error in a body of status 200 looks like: in place of the choices, or in the first of them."""

    error: Any = None
    choices: Any = None


class _Model(BaseModel):
    id: str
    embedrl: dict[str, Any] | None = None
    """How this project's Reasoner is asked, where our own server tells."""
    embeds: dict[str, Any] | None = None
    """How inputs of its Embedder are built, likewise."""


class Models(BaseModel):
    """The answer to the question which models a server has."""

    data: list[_Model]


def read(content: bytes, shape: type[M]) -> M | ServerFailure:
    """Return the JSON content of an answer, or a MALFORMED failure if it has another shape."""
    try:
        return shape.model_validate_json(_mended(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        text = f"{place}: {first['msg']}" if place else first["msg"]
        return ServerFailure(ServerFailureReason.MALFORMED, short(f"{text} in {content.decode('utf-8', 'replace')!r}"))


def _mended(content: bytes) -> str:
    """Decode JSON without its byte order mark, with U+FFFD for bytes that are no UTF-8 and for escaped halves of characters."""
    text = content.decode("utf-8-sig", "replace")
    if "\\ud" not in text.lower():
        return text
    try:
        return well_formed(json.dumps(json.loads(text), ensure_ascii=False))
    except (ValueError, RecursionError):
        return text


async def read_bounded(chunks: AsyncIterator[bytes], encoding: str) -> bytes | ServerFailure:
    """Read a response body of at most `MAX_ANSWER_BYTES`, both compressed and decompressed."""
    too_long = ServerFailure(ServerFailureReason.MALFORMED, f"an answer of more than {MAX_ANSWER_BYTES:,} bytes")
    packed = bytearray()
    async for chunk in chunks:
        packed += chunk
        if len(packed) > MAX_ANSWER_BYTES:
            return too_long
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return bytes(packed)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return ServerFailure(ServerFailureReason.MALFORMED, short(f"an answer packed as {encoding!r}, where gzip was asked for"))
    body, rest = bytearray(), bytes(packed)
    try:
        for _ in range(_MAX_MEMBERS):
            if not rest or len(body) > MAX_ANSWER_BYTES:
                break
            has_header = encoding != "deflate" or (rest[0] & 0x0F == 8 and int.from_bytes(rest[:2]) % 31 == 0)
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32 if has_header else -zlib.MAX_WBITS)  # gzip or zlib, by its header
            body += unpacker.decompress(rest, MAX_ANSWER_BYTES + 1 - len(body))
            rest = unpacker.unused_data if unpacker.unused_data.startswith(b"\x1f\x8b") else b""  # the next member (RFC 1952, 2.2)
        else:
            return ServerFailure(ServerFailureReason.MALFORMED, f"an answer in {_MAX_MEMBERS:,} gzip members or more")
    except zlib.error as error:
        return ServerFailure(ServerFailureReason.MALFORMED, f"an answer that cannot be unpacked ({error})")
    return too_long if len(body) > MAX_ANSWER_BYTES else bytes(body)


def error_inside(content: bytes) -> tuple[int | None, str] | None:
    """Return (status, text) of an error that came with status 200; None if there is none."""
    if b'"error"' not in content:
        return None
    answer = read(content, _MaybeError)
    if isinstance(answer, ServerFailure):
        return None
    first = answer.choices[0] if isinstance(answer.choices, list) and answer.choices else None
    error = answer.error or (first.get("error") if isinstance(first, dict) else None)
    if not error:
        return None
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    status = int(code) if isinstance(code, int | str) and re.fullmatch(r"[1-5]\d\d", str(code)) else None
    return status, short(str(text or error))


def data_url(image: PIL.Image.Image) -> str:
    """Return an image as a lossless data URL."""
    return f"data:image/png;base64,{base64_png(image)}"


def base64_png(image: PIL.Image.Image) -> str:
    """Return an image as PNG in base64."""
    return base64.b64encode(_png(image)).decode()


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
    """Return a server's error text on one line, with the API key redacted."""
    if key := api_key():
        text = text.replace(key, "***")
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[:_SHOWN_CHARS] + "…"
