"""Requests and answers of OpenAI-compatible chat servers: requests with images inside, validated answers.

Answers are untrusted: `read_reply` never raises.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import PIL.Image
from pydantic import BaseModel, Field

from embedrl.models.server_answers import ServerFailure, ServerFailureReason, data_url, read, short
from embedrl.reasoner.prompts import Prompt

LENGTH = "length"
"""The `finish_reason` of an answer that was cut at the limit of tokens."""


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish_reason: str | None
    """Finish reason of the server: "stop", or "length" (`LENGTH`) for output cut at `max_tokens`."""
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


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_reply(content: bytes) -> Reply | ServerFailure:
    """Return the first choice of a chat completion, or a failure: MALFORMED, or EMPTY for blank text."""
    completion = read(content, _Completion)
    if isinstance(completion, ServerFailure):
        return completion
    choice, usage = completion.choices[0], completion.usage or _Usage()
    text = choice.message.written()
    if not text.strip():
        if choice.message.refusal or choice.finish_reason == "content_filter":
            why = choice.message.refusal or "the server's filter took the answer (finish_reason='content_filter')"
            return ServerFailure(ServerFailureReason.REFUSED, short(why), about_item=True)
        why = f"the model wrote nothing (finish_reason={choice.finish_reason!r})"
        return ServerFailure(ServerFailureReason.EMPTY, why, is_cut=choice.finish_reason == LENGTH)
    return Reply(text, choice.finish_reason, usage.prompt_tokens, usage.completion_tokens)


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
