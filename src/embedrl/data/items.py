"""One side of a pair as data sets write it: words with the placeholders of other projects, and what is seen."""

import re
from collections.abc import Iterable

from embedrl.data.sample import Item, Pair, Role
from embedrl.data.sources.row import ProblemKind, RowError
from embedrl.media.content import Content, Image, Page, Text, Video

DESCRIBE = {
    "image": "Describe the picture.",
    "video": "Describe the clip.",
    "page": "Describe the page.",
    "text": "Describe the text.",
}
"""For candidates, by kind of part."""
FIND = {
    "image": "Find the picture that fits the text.",
    "video": "Find the clip that fits the text.",
    "page": "Find the page that fits the text.",
    "text": "Find the text that fits the text.",
}
"""For text queries, by what is wanted."""
CAPTION = {
    "image": "Find a caption for the picture.",
    "video": "Find a caption for the clip.",
    "page": "Find a caption for the page.",
}
"""For queries that are one visual part."""
ANSWER = {
    "image": "Answer the question about the picture.",
    "video": "Answer the question about the clip.",
    "page": "Answer the question about the page.",
}
"""For queries that are a question about a visual part, by its kind."""
CHANGE = "Find the picture after this change."
"""For a picture or page with text."""
MOMENT = "Find the moment that is named."
"""For a video with text."""


def query_instruction(content: Content, wanted: str = "image") -> str:
    """Return the instruction of a query from its parts and the kind of part it looks for."""
    visual = next((part for part in content if not isinstance(part, Text)), None)
    if visual is None:
        return FIND[wanted]
    if not any(isinstance(part, Text) for part in content):
        return CAPTION[visual.kind]
    return MOMENT if visual.kind == "video" else CHANGE


_PLACEHOLDER = re.compile(r"<\|(?:(?:image|video)(?:_\d{1,4}|_pad)?|vision_start|vision_end)\|>|<(?:image|video)>")


def plain(text: str | None) -> str:
    """Return a text without the marks that other projects put where a picture goes: `<|image_1|>`, `<image>`, `<video>` …"""
    return " ".join(filter(None, (piece.strip() for piece in _PLACEHOLDER.split(text or ""))))


def side(text: str | None, *seen: Image | Video | Page) -> Content:
    """Return what one side consists of: visual parts, then the text if there is any."""
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
        query=query_item(query, instructions[0], _kind(target)),
        target=target_item(target, instructions[1]),
        negatives=tuple(target_item(content, instructions[1]) for content in negatives),
    )


def query_item(content: Content, instruction: str, wanted: str) -> Item:
    """Make the Item of a query; `wanted` is the kind of part it looks for ("text" for a text)."""
    return Item(content=content, instruction=plain(instruction), role=_query_role(_kind(content), wanted))


def target_item(content: Content, instruction: str) -> Item:
    """Make the Item of a target or a candidate."""
    roles = {"text": Role.TARGET_TEXT, "video": Role.TARGET_VIDEO, "image": Role.TARGET_IMAGE, "page": Role.TARGET_IMAGE}
    return Item(content=content, instruction=plain(instruction), role=roles[_kind(content)])


def _query_role(kind: str, wanted: str) -> Role:
    if kind == "text":
        return Role.QUERY_TEXT_TO_VIDEO if wanted == "video" else Role.QUERY_TEXT_TO_IMAGE
    return Role.QUERY_VIDEO if kind == "video" else Role.QUERY_IMAGE


def _kind(content: Content) -> str:
    """Return the kind of the first visual part, or "text"."""
    return next((part.kind for part in content if not isinstance(part, Text)), "text")
