"""The T-CoT (traceability chain of thought): its parsed form, how it is written and how it is read.

Written form (paper, §3.1)::

    <thinking> A red star, top left. {"bbox_2d": [[60, 80, 320, 340]]} </thinking>
    <rethink> One object; the box covers it. </rethink>
    <answer> a red star at the top left </answer>

Model output is untrusted. `parse` never raises: it returns a `TCoT`, or a `ParseFailure` that says what was wrong.
"""

import json
import math
import re
from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, field_validator

SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,64}\|>|<emb>|</?(?:tool_call|tool_response|think)>")
"""Added tokens of the Qwen3-VL family and ours: never allowed to reach a chat template from text."""

_LOOKALIKES = {"<": "‹", "[": "⟦", "{": "⦃", "＜": "‹"}
"""What the first character of a special token becomes; no normalisation makes it the same again."""

MAX_CHARS = 20_000
"""Longer model output is a failure: nothing useful is that long."""

Box = tuple[int, int, int, int]


def special_tokens(added: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of a tokenizer's added tokens beside `SPECIAL_TOKEN`."""
    escaped = [re.escape(token) for token in sorted(added, key=len, reverse=True)]
    return re.compile("|".join([SPECIAL_TOKEN.pattern, *escaped]))


def neutralise(text: str, special: re.Pattern[str] = SPECIAL_TOKEN) -> str:
    """Return the text with every special token broken up, so that a tokenizer reads plain characters."""
    while special.search(text):
        text = special.sub(lambda match: _broken(match.group()), text)
    return text


def _broken(token: str) -> str:
    first, rest = token[0], token[1:]
    return _LOOKALIKES[first] + rest if first in _LOOKALIKES else f"{first} {rest}" if rest else " "


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Evidence(_Row):
    """What a T-CoT points at."""

    boxes: tuple[Box, ...] = ()
    """x1 y1 x2 y2, relative to the picture, 0..1000."""
    key_frames: tuple[int, ...] = ()
    """1-based frame numbers."""
    keywords: tuple[str, ...] = ()
    """Words or phrases that stand in the text."""

    @field_validator("keywords")
    @classmethod
    def _clean(cls, keywords: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean for keyword in keywords if (clean := _plain(keyword)))

    def __bool__(self) -> bool:
        return bool(self.boxes or self.key_frames or self.keywords)


class TCoT(_Row):
    """A parsed T-CoT. Text fields hold no tags, no special tokens and single spaces; thinking holds no braces."""

    thinking: str
    evidence: Evidence = Evidence()
    rethink: str
    answer: str

    @field_validator("rethink", "answer")
    @classmethod
    def _clean(cls, text: str) -> str:
        return _plain(text)

    @field_validator("thinking")
    @classmethod
    def _clean_thinking(cls, text: str) -> str:
        return _plain(text.translate(_NO_BRACES))


class FailureReason(StrEnum):
    """Why a text is not a T-CoT."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    """The text stops before the answer is closed."""
    MISSING_THINKING = "missing_thinking"
    MISSING_RETHINK = "missing_rethink"
    MISSING_ANSWER = "missing_answer"
    BAD_EVIDENCE = "bad_evidence"
    """There is something like evidence, but it cannot be read."""


class ParseFailure(_Row):
    """Model output that is not a T-CoT, kept as it was."""

    reason: FailureReason
    text: str

    def __bool__(self) -> bool:
        return False


def count_words(text: str) -> int:
    """Count words between white space: the measure of length where no tokenizer is given."""
    return len(text.split())


_TAG = re.compile(r"</?\s*(?:thinking|rethink(?:ing)?|answer)\s*>", re.IGNORECASE)
_OPENERS = {
    "thinking": re.compile(r"<\s*thinking\s*>", re.IGNORECASE),
    "rethink": re.compile(r"<\s*rethink(?:ing)?\s*>", re.IGNORECASE),
    "answer": re.compile(r"<\s*answer\s*>", re.IGNORECASE),
}
_MISSING = {
    "thinking": FailureReason.MISSING_THINKING,
    "rethink": FailureReason.MISSING_RETHINK,
    "answer": FailureReason.MISSING_ANSWER,
}
_EVIDENCE_KEYS = ("bbox_2d", "key_frames", "text_keywords")
_NO_BRACES = str.maketrans("{}", "()")


def _plain(text: str) -> str:
    while _TAG.search(text):
        text = _TAG.sub(" ", text)
    return " ".join(neutralise(text).split())


def render(tcot: TCoT) -> str:
    """Write a T-CoT in its one canonical form; `parse(render(x)) == x` if the answer is not empty."""
    return "\n".join(render_parts(tcot))


def render_parts(tcot: TCoT) -> tuple[str, str]:
    """Write a T-CoT in two parts, cut behind `</thinking>`, where the Embedder is shown crops and key frames."""
    thinking = " ".join(filter(None, [tcot.thinking, *render_evidence(tcot.evidence)]))
    return f"<thinking> {thinking} </thinking>", f"<rethink> {tcot.rethink} </rethink>\n<answer> {tcot.answer} </answer>"


def render_evidence(evidence: Evidence) -> list[str]:
    """Write each kind of evidence that is present as one JSON object."""
    kinds = zip(_EVIDENCE_KEYS, (evidence.boxes, evidence.key_frames, evidence.keywords), strict=True)
    return [json.dumps({key: values}, ensure_ascii=False) for key, values in kinds if values]


def parse(text: str) -> TCoT | ParseFailure:
    """Read model output as a T-CoT. Tolerates flat boxes, empty lists and unclosed inner sections; never raises."""
    if not text.strip():
        return ParseFailure(reason=FailureReason.EMPTY, text=text)
    if len(text) > MAX_CHARS:
        return ParseFailure(reason=FailureReason.TOO_LONG, text=text[:MAX_CHARS])
    sections: dict[str, str] = {}
    position = 0
    for name, opener in _OPENERS.items():
        start = opener.search(text, position)
        if start is None:
            truncated = bool(sections) and not text.rstrip().endswith(">")
            return ParseFailure(reason=FailureReason.TRUNCATED if truncated else _MISSING[name], text=text)
        end = _TAG.search(text, start.end())
        if end is None:
            return ParseFailure(reason=FailureReason.TRUNCATED, text=text)
        sections[name] = text[start.end() : end.start()]
        position = end.start()
    if not _plain(sections["answer"]):
        return ParseFailure(reason=FailureReason.MISSING_ANSWER, text=text)
    evidence, thinking = _split_evidence(sections["thinking"])
    if evidence is None:
        return ParseFailure(reason=FailureReason.BAD_EVIDENCE, text=text)
    return TCoT(thinking=thinking, evidence=evidence, rethink=sections["rethink"], answer=sections["answer"])


def _split_evidence(thinking: str) -> tuple[Evidence | None, str]:
    """Return the evidence objects of a thinking section, merged (None if one is unreadable), and the text around them."""
    found: dict[str, list] = {key: [] for key in _EVIDENCE_KEYS}
    text, position = [], 0
    decoder = json.JSONDecoder()
    while (brace := thinking.find("{", position)) >= 0:
        text.append(thinking[position:brace])
        position = brace
        try:
            value, end = decoder.raw_decode(thinking, brace)
        except (ValueError, RecursionError):
            if re.match(r"""\{\s*["']?(?:bbox_2d|key_frames|text_keywords)""", thinking[brace:]):
                return None, ""
            text.append("(")
            position = brace + 1
            continue
        if value.keys() & set(_EVIDENCE_KEYS):
            try:
                found["bbox_2d"] += _boxes(value.get("bbox_2d", []))
                found["key_frames"] += [_whole(frame) for frame in _list(value.get("key_frames", []))]
                found["text_keywords"] += [_string(word) for word in _list(value.get("text_keywords", []))]
            except ValueError:
                return None, ""
        else:
            text.append(thinking[brace:end])
        position = end
    text.append(thinking[position:])
    evidence = Evidence(boxes=found["bbox_2d"], key_frames=found["key_frames"], keywords=found["text_keywords"])
    return evidence, "".join(text)


def _boxes(value: object) -> list[Box]:
    values = _list(value)
    if values and not isinstance(values[0], list):
        values = [values]
    boxes = []
    for box in values:
        x1, y1, x2, y2 = (_whole(number) for number in _list(box))
        boxes.append((x1, y1, x2, y2))
    return boxes


def _list(value: object) -> list:
    if not isinstance(value, list):
        raise ValueError("expected a list")
    return value


def _whole(value: object) -> int:
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        number = float(value)
        if math.isfinite(number) and abs(number) < 1e9:
            return round(number)
    raise ValueError("expected a number")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value
