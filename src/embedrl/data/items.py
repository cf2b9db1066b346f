"""The one way to make an Item from content: its prompt role and its standard instruction."""

from collections.abc import Iterable
from pathlib import Path

import PIL.Image

from embedrl.data.sample import Item, Role
from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Content, Image, Page, Part, Text, Video
from embedrl.media.decode import is_document, read_text
from embedrl.media.image import from_pillow
from embedrl.media.kinds import MEDIA, MediaKind
from embedrl.media.store import Limits, limits_in_force, media_kind
from embedrl.media.text import load_text

DESCRIBE = {kind: f"Describe the {medium.word}." for kind, medium in MEDIA.items()}
"""Instructions of candidates, by kind of part."""
FIND = {kind: f"Find the {medium.word} that fits the text." for kind, medium in MEDIA.items()}
"""Instructions of text queries, by the kind that is searched."""
CAPTION = {kind: f"Find a caption for the {medium.word}." for kind, medium in MEDIA.items() if kind != "text"}
"""Instructions of queries without text, by kind of part."""
ANSWER = {kind: f"Answer the question about the {medium.word}." for kind, medium in MEDIA.items() if kind != "text"}
"""Instructions of questions about a visual part, by its kind."""
CHANGE = "Find the picture after this change."
"""Instruction of composed queries: an image or page with text."""
MOMENT = "Find the moment that is named."
"""Instruction of moment retrieval: a video with text."""


Piece = Part | str | Path | PIL.Image.Image
Input = Piece | list[Piece] | tuple[Piece, ...]
"""Content of an item: a text (always, for a str), a file (a Path), decoded pixels, typed parts, or a sequence of these."""


def as_content(value: Input) -> Content:
    """Convert to typed parts, in order; a PDF file becomes its first page.

    Raises MediaError for a file or Pillow image that cannot be used, ConfigError for a value of another type.
    """
    if isinstance(value, list | tuple):
        return tuple(_part(piece) for piece in value)
    return (_part(value),)


def _part(value: Piece) -> Part:
    match value:
        case str():
            return Text(text=value)
        case PIL.Image.Image():
            return Image(pixels=from_pillow(value))
        case Path():
            match media_kind(value, limits_in_force()):
                case "image":
                    return Image(path=value)
                case "video":
                    return Video(path=value)
                case "page":
                    return Page(path=value)
                case "text":
                    return Text(text=_text(value, limits_in_force()))
            raise MediaError(f"{str(value)!r}: is no image, video, PDF or text file that is read")
        case Text() | Image() | Video() | Page():
            return value
    raise ConfigError(
        f"content of type {type(value).__name__}: give a str, a Path, a Pillow image (PIL.Image.open(io.BytesIO(data)) of bytes, "
        "PIL.Image.fromarray(pixels) of an array), a part (embedrl.Text, Image, Video, Page), or a list of these"
    )


def _text(path: Path, limits: Limits) -> str:
    """Read a text, or a document as text, that is an item as a whole."""
    if not is_document(path, limits):
        return load_text(path, limits)
    text = read_text(path, limits)
    if len(text) > limits.max_text_chars:
        raise MediaError(f"{str(path)!r}: is longer than max_text_chars={limits.max_text_chars}; divide it")
    return text


def query(content: Input, instruction: str | None = None, *, looking_for: MediaKind = "image") -> Item:
    """Make the Item of a query; `looking_for` is the kind of part that is searched: text, image, video or page.

    `instruction=None` uses the standard instruction of the task, "" uses none. Raises ConfigError for an empty query, MediaError for a
    file that cannot be used.
    """
    if looking_for not in list(MEDIA):
        raise ConfigError(f"looking_for={looking_for!r}: choose from {', '.join(MEDIA)}")
    content = _some(content, "query")
    kind = kind_of(content)
    if kind == "text":
        role = Role.QUERY_TEXT_TO_VIDEO if looking_for == "video" else Role.QUERY_TEXT_TO_IMAGE
    else:
        role = Role.QUERY_VIDEO if kind == "video" else Role.QUERY_IMAGE
    return Item(content=content, instruction=_query_instruction(content, looking_for) if instruction is None else instruction, role=role)


def candidate(content: Input, instruction: str | None = None) -> Item:
    """Make the Item of a target or candidate. `instruction=None` uses the standard instruction, "" uses none.

    Raises ConfigError for an empty candidate, MediaError for a file that cannot be used.
    """
    content = _some(content, "candidate")
    kind = kind_of(content)
    role = Role.TARGET_TEXT if kind == "text" else Role.TARGET_VIDEO if kind == "video" else Role.TARGET_IMAGE
    return Item(content=content, instruction=DESCRIBE[kind] if instruction is None else instruction, role=role)


def _some(value: Input, name: str) -> Content:
    content = as_content(value)
    if all(isinstance(part, Text) and not part.text.strip() for part in content):
        raise ConfigError(f"the {name} is empty: give some text, an image, a video or a page")
    return content


def require_items(values: Iterable[object]) -> None:
    """Raise ConfigError for a value that is no Item, and for one Item that stands in the place of several."""
    if isinstance(values, Item | str):
        raise ConfigError(f"one item of type {type(values).__name__}: give a list of Items, as in [embedrl.query(…)]")
    for value in values:
        if not isinstance(value, Item):
            raise ConfigError(f"an item of type {type(value).__name__}: make Items with embedrl.query(…) and embedrl.candidate(…)")


def kind_of(content: Content) -> MediaKind:
    """Return the kind of the first visual part (image, video or page), or "text"."""
    return next((part.kind for part in content if not isinstance(part, Text)), "text")


def _query_instruction(content: Content, looking_for: MediaKind) -> str:
    kind = kind_of(content)
    if kind == "text":
        return FIND[looking_for]
    if not any(isinstance(part, Text) for part in content):
        return CAPTION[kind]
    return MOMENT if kind == "video" else CHANGE
