"""Pairs from rows of public datasets: placeholders removed, roles derived from the kinds of parts."""

import re
from collections.abc import Iterable

from embedrl.data import items
from embedrl.data.sample import Pair
from embedrl.data.sources.row import ProblemKind, RowError
from embedrl.media.content import Content, Image, Page, Text, Video

_PLACEHOLDER = re.compile(r"<\|(?:(?:image|video)(?:_\d{1,4}|_pad)?|vision_start|vision_end)\|>|<(?:image|video)>")


def plain(text: str | None) -> str:
    """Remove media placeholders of other projects from a text: `<|image_1|>`, `<image>`, `<video>` …"""
    return " ".join(filter(None, (piece.strip() for piece in _PLACEHOLDER.split(text or ""))))


def side(text: str | None, *seen: Image | Video | Page) -> Content:
    """Return the content of one side: visual parts, then the text if not empty."""
    words = plain(text)
    return (*seen, Text(text=words)) if words else seen


def make_pair(
    task: str,
    query: Content,
    target: Content,
    *,
    instructions: tuple[str, str] = ("", ""),
    negatives: Iterable[Content] = (),
) -> Pair:
    """Make a Pair; the roles follow from the kinds of parts. `instructions` are the query's and the target's.

    Raises RowError for an empty side.
    """
    for name, content in (("query", query), ("target", target)):
        if not content:
            raise RowError(ProblemKind.EMPTY, f"the {name} has neither text nor a medium")
    return Pair(
        task=task,
        query=items.query(query, plain(instructions[0]), looking_for=items.kind_of(target)),
        target=items.candidate(target, plain(instructions[1])),
        negatives=tuple(items.candidate(content, plain(instructions[1])) for content in negatives),
    )
