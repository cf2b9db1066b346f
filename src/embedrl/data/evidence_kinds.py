"""Table of the kinds of evidence: parsing, verification, wording, drawing and metrics of each.

Another kind is a field of `Evidence` and of `Verification`, a row of `EVIDENCE_KINDS`, and what shows it on the page.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from embedrl.data.crops import Box, box_holds, crop, iou
from embedrl.data.plain_text import plain
from embedrl.media.content import Frames

Piece = Any
"""One box, frame number or keyword."""
Visual = PIL.Image.Image | Frames
_WHOLE = (0, 0, 1, 1)
"""The whole image in fractions; as thousandths it would be next to nothing."""
MIN_IOU = 0.5
"""IoU from which a box matches a true one."""
MAX_TOLD_CHARS = 60
_FOUR_NUMBERS = re.compile(r"[\s\[(]*" + r"[\s,;，、；]+".join([r"[-+]?\d{1,9}(?:\.\d{1,9})?"] * 4) + r"[\s\])]*")
_FRAME_NUMBER = re.compile(r"\s*(?:frame|image)\s*#?(\d{1,9})\s*", re.IGNORECASE)
"""A frame as the prompt labels it."""


class Evidence(BaseModel):
    """Evidence of a T-CoT: boxes, key frames, keywords."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    boxes: tuple[Box, ...] = ()
    """x1 y1 x2 y2, relative to the image, 0..1000. 0 0 1 1 is the whole image: a model that writes fractions means it."""
    box_images: tuple[int, ...] = Field(default=(), exclude_if=lambda images: not images)
    """For each box, the 1-based number of the visual part it lies in; empty: all lie in the first."""
    key_frames: tuple[int, ...] = ()
    """1-based frame numbers."""
    keywords: tuple[str, ...] = ()
    """Words or phrases of the text."""
    num_frames: int | None = Field(default=None, exclude_if=lambda num_frames: num_frames is None)
    """Number of frames (at most) that the key frames are counted in; None if not known. Not part of the text."""
    num_unread: int = Field(default=0, exclude_if=lambda num_unread: not num_unread)
    """Number of pieces that could not be parsed. Not part of the text."""

    @field_validator("boxes")
    @classmethod
    def _whole(cls, boxes: tuple[Box, ...]) -> tuple[Box, ...]:
        return tuple((0, 0, 1000, 1000) if box == _WHOLE else box for box in boxes)

    @field_validator("keywords")
    @classmethod
    def _clean(cls, keywords: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean for keyword in keywords if (clean := plain(keyword)))

    @field_validator("box_images")
    @classmethod
    def _one_for_each_box(cls, images: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if images and len(images) != len(info.data.get("boxes", ())):
            raise ValueError("give one image for each box, or none at all")
        return images if set(images) - {1} else ()

    def __bool__(self) -> bool:
        return any(kind.pieces(self) for kind in EVIDENCE_KINDS)


class Verification(BaseModel):
    """Validity of each piece of evidence for its medium."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    boxes: tuple[bool, ...] = ()
    """The box lies inside an image and is not empty."""
    key_frames: tuple[bool, ...] = ()
    """The video has such a frame."""
    keywords: tuple[bool, ...] = ()
    """The words occur in the item's text, ignoring case and white space."""
    num_unread: int = Field(default=0, exclude_if=lambda num_unread: not num_unread)
    """Number of pieces that could not be parsed."""

    @property
    def valid(self) -> bool:
        """Whether all pieces are valid and could be parsed; True without evidence."""
        return not self.num_unread and all(holds for kind in EVIDENCE_KINDS for holds in getattr(self, kind.name))


class Medium(NamedTuple):
    """Facts of an item that evidence is verified against."""

    has_image: bool
    """Whether the visual part of the piece is an image or page."""
    num_frames: int
    """Number of frames shown of its video; 0 without one."""
    text: str
    """Its text, normalised by `fold`."""
    fold: Callable[[str], str]


class Object(list):
    """A JSON object as a list of (key, value), since keys may repeat."""


class Literal(str):
    """A JSON number as written, of any length."""


@dataclass
class Notes:
    """Repairs and losses of parsing."""

    repaired: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def drop(self, key: str, value: object) -> None:
        """Note a piece that cannot be parsed."""
        text = str(dict(value) if isinstance(value, Object) else value)
        self.dropped.append(f"{key}: {text if len(text) <= MAX_TOLD_CHARS else text[:MAX_TOLD_CHARS] + '…'}")


class EvidenceFigure(NamedTuple):
    """One metric of one kind of evidence."""

    label: str
    """Name in a report."""
    score: Callable[[Sequence[Piece], Sequence[Piece]], float | None]
    """(pieces, true pieces) -> 0..1, or None if undefined."""


@dataclass(frozen=True, eq=False)
class EvidenceKind:
    """One kind of evidence."""

    name: str
    """Field of `Evidence` and of `Verification`."""
    key: str
    """Key in JSON."""
    spelling: str
    """Regular expression of the spellings of the key."""
    noun: str
    """Word for a piece."""
    holding: str
    """Label of a piece that passes the check; it names the check and promises no more."""
    failing: str
    """Label of a piece that fails."""
    split: Callable[[list[Any], Notes], list[Any]]
    """Split a JSON value into values of single pieces."""
    read: Callable[[object, Notes], Piece]
    """Parse one piece. Raises ValueError."""
    holds: Callable[[Piece, Medium], bool]
    tell: Callable[[Piece], str]
    """A piece in words."""
    refer: Callable[[Piece, int], str]
    """A piece in words for readers who see it drawn, by its 1-based number."""
    image: Callable[[Visual, Piece], PIL.Image.Image | None] | None
    """The image of a piece that the Embedder sees, None for an invalid piece; None for kinds without images."""
    meets: Callable[[Piece, Piece], bool]
    """Whether a piece matches a true one."""
    figures: dict[str, EvidenceFigure]
    """Metrics by name."""

    def say(self, holds: bool) -> str:
        """Return the label of a checked piece, for page, command line and report alike."""
        return self.holding if holds else self.failing

    def pieces(self, evidence: Evidence) -> tuple[Piece, ...]:
        """Return the pieces of this kind."""
        return getattr(evidence, self.name)

    def located(self, evidence: Evidence) -> list[tuple[Piece, int]]:
        """Return (piece, 1-based number of its visual part)."""
        pieces = self.pieces(evidence)
        images = evidence.box_images if self.name == "boxes" and evidence.box_images else (1,) * len(pieces)
        return list(zip(pieces, images, strict=True))

    def checked(self, evidence: Evidence, verification: Verification | None) -> list[tuple[Piece, bool]]:
        """Return (piece, is_valid); without a verification none is valid."""
        pieces = self.pieces(evidence)
        states = getattr(verification, self.name) if verification else (False,) * len(pieces)
        return list(zip(pieces, states, strict=True))

    def read_all(self, value: object, notes: Notes) -> list[Piece]:
        """Parse a JSON value as pieces of this kind; repairs and dropped pieces are noted."""
        if isinstance(value, list) and not isinstance(value, Object):
            values = self.split(value, notes)
        else:
            values = [value]
            if value is not None:
                notes.repaired.append(f"{self.key}: not a list")
        pieces = []
        for piece in values:
            if piece is None:
                notes.repaired.append(f"{self.key}: null")
                continue
            try:
                pieces.append(self.read(piece, notes))
            except ValueError:
                notes.drop(self.key, piece)
        return pieces


def _split(values: list[Any], notes: Notes, depth: int = 1) -> list[Any]:
    """Return a list of values, without redundant nesting."""
    while len(values) == 1 and _depth(values) > depth:
        notes.repaired.append("a list in a list")
        values = values[0]
    return values


def _depth(value: object) -> int:
    depth = 0
    while isinstance(value, list) and not isinstance(value, Object):
        depth, value = depth + 1, value[0] if value else None
    return depth


def _split_boxes(values: list[Any], notes: Notes) -> list[Any]:
    values = _split(values, notes, depth=2)
    if values and all(isinstance(piece, str) and _FOUR_NUMBERS.fullmatch(piece) for piece in values):
        return values  # boxes in quotes
    if not any(isinstance(piece, list) for piece in values):
        return [values] if values else []  # one box, flat
    return [values] if _is_two_corners(values) else values


def _is_two_corners(value: object) -> TypeGuard[list[list[object]]]:
    """Return whether a value is [[x1, y1], [x2, y2]]."""
    if not isinstance(value, list) or isinstance(value, Object) or len(value) != 2:
        return False
    return all(isinstance(corner, list) and len(corner) == 2 and _depth(corner) == 1 for corner in value)


_CORNERS = ("x1", "y1", "x2", "y2")


def _read_box(value: object, notes: Notes) -> Box:
    if isinstance(value, Object) and sorted(key for key, _ in value) == sorted(_CORNERS):
        notes.repaired.append("a box with named corners")
        value = [dict(value)[name] for name in _CORNERS]
    if isinstance(value, str) and _FOUR_NUMBERS.fullmatch(value):
        notes.repaired.append("a box in quotes")
        value = [Literal(number) for number in re.findall(r"[-+.\w]+", value)]
    if _is_two_corners(value):
        notes.repaired.append("a box as two corners")
        value = [number for corner in value for number in corner]
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError("expected four numbers")
    numbers = [_number(number, notes) for number in value]
    has_fractions = any("." in str(number) for number in value) or any(number % 1 for number in numbers)
    if tuple(numbers) == _WHOLE or (
        has_fractions and all(-1 < number < 2 for number in numbers)
    ):  # some reach over the border; 0.0 to 1.0 is the whole image
        notes.repaired.append("a box in fractions of the image")
        numbers = [number * 1000 for number in numbers]
    x1, y1, x2, y2 = map(round, numbers)
    return x1, y1, x2, y2


def _read_frame(value: object, notes: Notes) -> int:
    """Parse a frame number. A number with a fraction is a time, and of no frame."""
    if isinstance(value, str) and (label := _FRAME_NUMBER.fullmatch(value)):
        notes.repaired.append(f"a frame with its label: {value!r}")
        value = Literal(label[1])
    number = _number(value, notes)
    if number % 1:
        raise ValueError("expected a whole number")
    return int(number)


def _number(value: object, notes: Notes) -> float:
    if not isinstance(value, str):
        raise ValueError("expected a number")
    number = float(value)
    if not math.isfinite(number) or abs(number) >= 1e9:
        raise ValueError("expected a number of pixels or frames")
    if not isinstance(value, Literal):
        notes.repaired.append(f"a number in quotes: {value[:MAX_TOLD_CHARS]!r}")
    return number


def _read_keyword(value: object, notes: Notes) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    if isinstance(value, Literal):
        notes.repaired.append(f"a number among keywords: {value[:MAX_TOLD_CHARS]}")
    return str(value)


def _same_words(keyword: str, other: str) -> bool:
    return keyword.casefold() == other.casefold()


def _share(kind_meets: Callable[[Piece, Piece], bool]) -> Callable[[Sequence[Piece], Sequence[Piece]], float | None]:
    """Return the share of the first pieces that match one of the second; None without any."""

    def share(pieces: Sequence[Piece], others: Sequence[Piece]) -> float | None:
        return sum(any(kind_meets(piece, other) for other in others) for piece in pieces) / len(pieces) if pieces else None

    return share


def _box_meets(box: Box, other: Box) -> bool:
    return iou(box, other) >= MIN_IOU


def _box_image(visual: Visual, box: Box) -> PIL.Image.Image | None:
    return None if isinstance(visual, Frames) else crop(visual, box)


def _frame_image(visual: Visual, number: int) -> PIL.Image.Image | None:
    return visual.images[number - 1] if isinstance(visual, Frames) and 1 <= number <= len(visual.images) else None


def _f1(pieces: Sequence[Piece], truth: Sequence[Piece]) -> float | None:
    numbers, true_numbers = set(pieces), set(truth)
    return 2 * len(numbers & true_numbers) / (len(numbers) + len(true_numbers)) if numbers or true_numbers else None


EVIDENCE_KINDS = (
    EvidenceKind(
        name="boxes",
        key="bbox_2d",
        spelling=r"bbox(?:\\?[_ -]?2d)?",
        noun="box",
        holding="inside the picture",
        failing="not inside the picture",
        split=_split_boxes,
        read=_read_box,
        holds=lambda box, medium: medium.has_image and box_holds(box),
        tell=lambda box: f"box {' '.join(map(str, box))}",
        meets=_box_meets,
        refer=lambda box, number: f"box {number}",
        image=_box_image,
        figures={
            "box_iou50": EvidenceFigure("boxes right", _share(_box_meets)),
            "box_recall": EvidenceFigure("boxes found", lambda pieces, truth: _share(_box_meets)(truth, pieces)),
        },
    ),
    EvidenceKind(
        name="key_frames",
        key="key_frames",
        spelling=r"key\\?[_ -]?frames?",
        noun="frame",
        holding="frame exists",
        failing="no such frame",
        split=_split,
        read=_read_frame,
        holds=lambda number, medium: 1 <= number <= medium.num_frames,
        tell=lambda number: f"frame {number}",
        meets=lambda number, other: number == other,
        refer=lambda frame, number: f"frame {frame}",
        image=_frame_image,
        figures={"key_frame_f1": EvidenceFigure("key frames (F1)", _f1)},
    ),
    EvidenceKind(
        name="keywords",
        key="text_keywords",
        spelling=r"text\\?[_ -]?keywords?",
        noun="keyword",
        holding="quoted",
        failing="not quoted",
        split=_split,
        read=_read_keyword,
        holds=lambda keyword, medium: bool(medium.fold(keyword)) and medium.fold(keyword) in medium.text,
        tell=lambda keyword: f'"{keyword}"',
        meets=lambda keyword, other: keyword == other,
        refer=lambda keyword, number: f"the word {keyword!r}",
        image=None,
        figures={"keyword_precision": EvidenceFigure("keywords right", _share(_same_words))},
    ),
)
"""Kinds of evidence, in the order of writing, listing and drawing."""

KEY = re.compile("|".join(f"(?P<{kind.name}>{kind.spelling})" for kind in EVIDENCE_KINDS), re.IGNORECASE)
"""Pattern of any evidence key in any spelling; the matched group names the kind."""
