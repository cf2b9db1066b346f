"""Requests and answers of OpenAI-compatible chat servers: requests with images inside, validated answers.

Answers are untrusted: `read_reply` never raises.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import PIL.Image
from pydantic import BaseModel, BeforeValidator, Field

from embedrl.models.server_answers import ServerFailure, ServerFailureReason, data_url, read, short
from embedrl.reasoner.prompts import Prompt

LENGTH = "length"
"""The `finish_reason` of an answer that was cut at the limit of tokens."""
_CUT = frozenset({LENGTH, "max_tokens", "max_output_tokens", "model_length"})
"""What servers call it."""
_TAKEN = ("content_filter", "sensitive", "safety")
"""How the `finish_reason` of an answer begins that a filter took."""
_BROKEN = frozenset({"error", "abort", "aborted", "cancelled", "network_error"})
"""`finish_reason` of an answer that the server broke off."""


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish_reason: str | None
    """Finish reason of the server: "stop", or "length" (`LENGTH`) for output cut at `max_tokens`."""
    num_prompt_tokens: int | None
    num_completion_tokens: int | None
    """None where the server does not count."""


def _if(kind: type) -> BeforeValidator:
    """A field beside the answer that must not cost the answer: None where it is of another kind."""
    return BeforeValidator(lambda value: value if isinstance(value, kind) else None)


_Beside = Annotated[str | None, _if(str)]


class _Part(BaseModel):
    type: _Beside = "text"
    text: str | None = None


def _listed(content: object) -> object:
    """Return parts as a list without gaps."""
    parts = [content] if isinstance(content, dict) else content
    return [part for part in parts if part is not None] if isinstance(parts, list) else parts


class _Message(BaseModel):
    content: Annotated[str | list[_Part | str] | None, BeforeValidator(_listed)] = None
    reasoning: _Beside = None
    reasoning_content: _Beside = None
    refusal: _Beside = None

    def written(self) -> str:
        """Return the answer: the content (parts that are no text are thoughts), or else what was filed as thinking but ends a T-CoT.

        Servers that part thinking from the answer take the whole text for thinking when its end is not marked. A draft does not count.
        """
        if isinstance(self.content, list):
            parts = [_Part(text=part) if isinstance(part, str) else part for part in self.content]
            content = "".join(part.text or "" for part in parts if part.type in (None, "text", "output_text"))
        else:
            content = self.content or ""
        _, ends, answer = content.rpartition("</think>")
        if content.strip():
            return (answer if ends else content).partition("<think>")[0]  # one that is not closed was cut in its thinking
        thinking = (self.reasoning_content or self.reasoning or "").strip()
        return thinking if re.search(r"</\s*answer\s*>$", thinking, re.IGNORECASE) else ""


class _Choice(BaseModel):
    message: _Message
    finish_reason: _Beside = None


class _Usage(BaseModel):
    prompt_tokens: Annotated[int | None, _if(int)] = None
    completion_tokens: Annotated[int | None, _if(int)] = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage | None, _if(dict)] = None


def read_reply(content: bytes) -> Reply | ServerFailure:
    """Return the first choice of a chat completion, or a failure: MALFORMED, or EMPTY for blank text."""
    completion = read(content, _Completion)
    if isinstance(completion, ServerFailure):
        return completion
    choice, usage = completion.choices[0], completion.usage or _Usage()
    text, finish = choice.message.written(), (choice.finish_reason or "").lower()
    if finish.startswith(_TAKEN):
        why = choice.message.refusal or f"the server's filter took the answer (finish_reason={choice.finish_reason!r})"
        return ServerFailure(ServerFailureReason.REFUSED, short(why), about_item=True)
    if finish in _BROKEN:
        return ServerFailure(ServerFailureReason.TRANSPORT, f"the server broke off its answer (finish_reason={choice.finish_reason!r})")
    if not text.strip():
        if choice.message.refusal:
            return ServerFailure(ServerFailureReason.REFUSED, short(choice.message.refusal), about_item=True)
        why = f"the model wrote nothing (finish_reason={choice.finish_reason!r})"
        return ServerFailure(ServerFailureReason.EMPTY, why, is_cut=finish in _CUT)
    return Reply(text, LENGTH if finish in _CUT else choice.finish_reason, usage.prompt_tokens, usage.completion_tokens)


def write_body(prompt: Prompt, settings: dict[str, Any], *, is_ours: bool = False) -> bytes:
    """Serialise a request as JSON with inline images; lone surrogates become question marks."""
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
    return {"type": "image_url", "image_url": {"url": data_url(next(images))}}
