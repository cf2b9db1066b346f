"""Tolerant parser of evidence JSON inside a text: repairs unambiguous deviations, lists the rest.

Strict JSON is tried first. What it refuses is read once more with single and curly quotes, trailing or missing commas, bare keys, Python's
words and a missing end of the outermost object. Nothing raises, and nothing takes more than a few passes over the text.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from embedrl.data.evidence_kinds import EVIDENCE_KINDS, KEY, MAX_TOLD_CHARS, Literal, Notes, Object
from embedrl.data.plain_text import plain

MAX_DEPTH = 32
"""Deeper JSON is not evidence."""
MAX_STRING = 400
"""Longer strings are read as strict JSON only."""

IMAGE_KEY = "image"
"""Key beside boxes with the 1-based number of the image they lie in."""

_IMAGE_NUMBER = re.compile(r"\s*(?:(?:image|picture|page)\s*#?\s*)?([0-9]{1,3})(?:\.0)?\s*", re.IGNORECASE)
"""An image as the prompt labels it, or its number alone."""
_NO_PLACE = -1

_START = re.compile(r"[{｛]|[\[［](?=\s*[{｛])")
_NAMED = rf"(?:{KEY.pattern})(?:[^\w\s\[\]]|quot){{0,6}}\s*"
_KEY_WRITTEN = re.compile(rf"{_NAMED}[:=：\[]", re.IGNORECASE)
_BARE = re.compile(rf"{_NAMED}[:=：]\s*(?:-\s+)?[「\[［{{｛(\"'“‘&]", re.IGNORECASE)
"""Anything like evidence, with or without braces."""
_SPACE = re.compile(r"\s*")
_COMMAS = re.compile(r"\s*[,;，、]?\s*")
_COLON = re.compile(r"\s*[:=：]?\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORDS = {"null": None, "none": None, "true": True, "false": False}
_QUOTES = {
    **dict.fromkeys('"“”„', re.compile(r'((?:\\.|[^\\])*?)["“”„](?=\s*[,:;，、：=\[\]})］｝）]|\s*$)', re.DOTALL)),
    **dict.fromkeys("「『", re.compile(r"([^「」『』]*)[」』]")),
    **dict.fromkeys("'‘’‚", re.compile(r"((?:\\.|[^\\])*?)['‘’‚](?=\s*[,:;，、：=\[\]})］｝）]|\s*$)", re.DOTALL)),
}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_OPENERS, _OBJECT_END = "{｛", "}｝"
_CLOSERS = {"[": "]］", "［": "]］", "(": ")）", "（": ")）"}


@dataclass
class EvidenceText:
    """Evidence of a text, and the text around it."""

    pieces: dict[str, list[Any]] = field(default_factory=lambda: {kind.name: [] for kind in EVIDENCE_KINDS})
    """Kind -> pieces, in order of appearance."""
    box_images: list[int] = field(default_factory=list)
    """1-based number of the visual part of each box."""
    text: str = ""
    """The text around the evidence, with the labels inside it."""
    notes: Notes = field(default_factory=Notes)
    is_lost: bool = False
    """Whether the text is only evidence that cannot be parsed."""


def read_evidence(text: str) -> EvidenceText:
    """Extract all evidence from a text, at any position and nesting depth."""
    result = EvidenceText()
    parts: list[str] = []
    position, unread_from = 0, None
    key = KEY.search(text)
    while key and (start := _START.search(text, position)):
        if key.start() < start.start():
            key = KEY.search(text, start.start())
            continue
        parts.append(text[position : start.start()])
        decoded = _decode(text, start.start(), result.notes)
        if decoded is None:
            if unread_from is None and start.group() in _OPENERS:
                unread_from = len(parts)
            parts.append("(" if start.group() in _OPENERS else start.group())
            position = start.start() + 1
            continue
        value, position, is_whole = decoded
        is_evidence = key.start() < position and _collect(value, result)
        if is_evidence:
            parts.append(" ".join(("", *_labels(value), "")))
        else:
            parts.append(text[start.start() : position])
        if not is_whole and unread_from is None:
            unread_from = len(parts)
    parts.append(text[position:])
    result.text = "".join(parts)
    before, behind = "".join(parts[:unread_from]), "".join(parts[unread_from:]) if unread_from is not None else ""
    unread = max(_unread(_KEY_WRITTEN, behind), _unread(_BARE, result.text), key=len)
    for piece in unread:
        result.notes.drop("unreadable", piece)
    if unread_from is not None:
        result.is_lost = bool(result.notes.dropped) and not any(result.pieces.values()) and not before.strip()
    return result


def _unread(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return the starts of evidence left in a text whose parsable evidence was removed."""
    text = plain(text)
    return [text[match.start() : match.start() + 2 * MAX_TOLD_CHARS] for match in pattern.finditer(text)]


def has_evidence(text: str) -> bool:
    """Return whether a text contains anything like evidence."""
    return bool(_unread(_BARE, text))


def _collect(value: object, result: EvidenceText) -> bool:
    """Collect all evidence keys of a JSON value recursively, in order; return whether there was one."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    is_evidence = False
    while waiting:
        value, image = waiting.pop()
        if isinstance(value, tuple):
            key, value = value
            if (match := KEY.fullmatch(key.strip())) and match.lastgroup:
                [kind] = (kind for kind in EVIDENCE_KINDS if kind.name == match.lastgroup)
                if key != kind.key:
                    result.notes.repaired.append(f"{kind.key}: written {key!r}")
                pieces = kind.read_all(value, result.notes)
                if kind.name == "boxes":
                    for box in pieces if image == _NO_PLACE else ():
                        result.notes.drop(f"{kind.key} in an image without a number", box)
                    pieces = [] if image == _NO_PLACE else pieces
                    result.box_images += [image] * len(pieces)
                result.pieces[kind.name] += pieces
                is_evidence = True
                continue
        if isinstance(value, Object):
            named = [_place(number, result.notes) for key, number in value if key == IMAGE_KEY]
            image = next((place for place in named if place is not None), image)
        if isinstance(value, list):
            waiting += ((part, image) for part in reversed(value))
    return is_evidence


def _place(value: object, notes: Notes) -> int | None:
    """Parse the number of an image; None for words, which describe it, and `_NO_PLACE` for what is no number of any image."""
    if not isinstance(value, str):
        is_number = isinstance(value, bool) or (isinstance(value, list) and any(isinstance(part, Literal) for part in value))
        return _NO_PLACE if is_number else None
    number = _IMAGE_NUMBER.fullmatch(value)
    if number is None:
        return _NO_PLACE if isinstance(value, Literal) else None
    if not isinstance(value, Literal) or value != number[1]:
        notes.repaired.append(f"{IMAGE_KEY}: written {value!r}")
    return int(number[1])


def _labels(value: object) -> list[str]:
    """Return the texts of labels beside evidence."""
    waiting: list[Any] = [value]
    labels = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            key, value = value
            if key == "label" and isinstance(value, str):
                labels.append(str(value))
        if isinstance(value, list):
            waiting += reversed(value)
    return labels


_STRICT = json.JSONDecoder(object_pairs_hook=Object, parse_int=Literal, parse_float=Literal, parse_constant=Literal, strict=False)


def _decode(text: str, start: int, notes: Notes) -> tuple[object, int, bool] | None:
    """Return (JSON value, its end, whether it is complete) at a position; None if there is none."""
    try:
        return *_STRICT.raw_decode(text, start), True
    except (ValueError, RecursionError):
        pass
    try:
        value, end = _value(text, start, 0)
    except ValueError:
        return None
    is_whole = text[end - 1] in "}]｝］"
    if KEY.search(text, start, end):
        notes.repaired.append("JSON")
    elif not is_whole:
        return None
    return value, end, is_whole


def _value(text: str, start: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    first = text[start : start + 1]
    if first and first in _OPENERS:
        return _object(text, start + 1, depth)
    if first and first in _CLOSERS:
        return _array(text, start + 1, _CLOSERS[first], depth)
    if first and first in _QUOTES:
        return _string(text, start)
    if number := _NUMBER.match(text, start):
        return Literal(number.group()), number.end()
    word = _NAME.match(text, start)
    if word and word.group().lower() in _WORDS:
        return _WORDS[word.group().lower()], word.end()
    if word and word.group().lower() in ("nan", "infinity", "inf"):
        return Literal(word.group()), word.end()
    raise ValueError("no value")


def _array(text: str, position: int, closers: str, depth: int) -> tuple[list[Any], int]:
    values = []
    position = _end_of(_SPACE, text, position)
    while not text.startswith(tuple(closers), position):
        value, position = _value(text, position, depth + 1)
        values.append(value)
        position = _end_of(_COMMAS, text, position)
    return values, position + 1


def _object(text: str, position: int, depth: int) -> tuple[Object, int]:
    pairs = Object()
    position = _end_of(_SPACE, text, position)
    while not text.startswith(tuple(_OBJECT_END), position):
        end = position
        try:
            key, position = _string(text, position) if text[position : position + 1] in _QUOTES else _bare_key(text, position)
            value, position = _value(text, _end_of(_COLON, text, position), depth + 1)
        except ValueError:
            if pairs and depth == 0:  # what is behind the last whole pair is text again
                return pairs, end
            raise
        pairs.append((key, value))
        position = _end_of(_COMMAS, text, position)
    return pairs, position + 1


def _bare_key(text: str, position: int) -> tuple[str, int]:
    name = _NAME.match(text, position)
    if name is None:
        raise ValueError("no key")
    return name.group(), name.end()


def _string(text: str, position: int) -> tuple[str, int]:
    """Parse a string in quotes of any kind; an inner quote ends it only before JSON punctuation."""
    limit = position + 1 + MAX_STRING
    match = _QUOTES[text[position]].match(text, position + 1, limit)
    if match is None or match.end() == limit < len(text):
        raise ValueError("no end of a string")
    return _ESCAPE.sub(_unescaped, match.group(1)), match.end()


def _unescaped(match: re.Match[str]) -> str:
    escaped = match.group(1)
    return chr(int(escaped[1:], 16)) if len(escaped) == 5 else _ESCAPED.get(escaped, escaped)


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    assert match is not None
    return match.end()
