"""What a T-CoT points at: cutting it out, checking it against the medium, and drawing it for a person."""

from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
from pydantic import BaseModel, ConfigDict

from embedrl.data.sample import Item
from embedrl.data.tcot import Box, Evidence
from embedrl.media.content import Frames, Image, Page, Video

MIN_SIDE = 10
"""Boxes with a shorter side, in 1/1000 of the picture, are not cut out."""
MAX_ASPECT = 50


class Verification(BaseModel):
    """For each piece of evidence, whether it holds for the medium."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    boxes: tuple[bool, ...] = ()
    """Inside the picture, not empty, and there is a picture."""
    key_frames: tuple[bool, ...] = ()
    """The video has such a frame."""
    keywords: tuple[bool, ...] = ()
    """The words occur in the item's text, whatever the case and white space."""

    @property
    def valid(self) -> bool:
        """Whether everything holds. True for a T-CoT that points at nothing."""
        return all(self.boxes) and all(self.key_frames) and all(self.keywords)


def box_holds(box: Box) -> bool:
    """Say whether a box lies inside 0..1000 and is not empty."""
    x1, y1, x2, y2 = box
    return 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000


def verify(evidence: Evidence, item: Item, num_frames: int | None) -> Verification:
    """Check evidence against an item. `num_frames` is how many frames its video shows (None: it has no video)."""
    picture, video = isinstance(item.visual, Image | Page), isinstance(item.visual, Video)
    text = _folded(item.text)
    return Verification(
        boxes=tuple(picture and box_holds(box) for box in evidence.boxes),
        key_frames=tuple(video and 1 <= frame <= (num_frames or 0) for frame in evidence.key_frames),
        keywords=tuple(bool(_folded(word)) and _folded(word) in text for word in evidence.keywords),
    )


def verified(evidence: Evidence, verification: Verification) -> Evidence:
    """Keep only what holds."""
    return Evidence(
        boxes=_kept(evidence.boxes, verification.boxes),
        key_frames=_kept(evidence.key_frames, verification.key_frames),
        keywords=_kept(evidence.keywords, verification.keywords),
    )


def _kept(values: Sequence, holds: Sequence[bool]) -> tuple:
    return tuple(value for value, ok in zip(values, holds, strict=True) if ok)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def crops(image: PIL.Image.Image, evidence: Evidence) -> list[PIL.Image.Image]:
    """Cut out the boxes of a picture, in order. Boxes that do not hold, slivers and extreme strips are left out."""
    found = []
    for box in evidence.boxes:
        x1, y1, x2, y2 = box
        if not box_holds(box) or min(x2 - x1, y2 - y1) < MIN_SIDE:
            continue
        corners = _pixels(box, image.size)
        width, height = corners[2] - corners[0], corners[3] - corners[1]
        if max(width, height) <= MAX_ASPECT * min(width, height):
            found.append(image.crop(corners))
    return found


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the corners in pixels; never empty."""
    width, height = size
    x1, x2 = (round(value * width / 1000) for value in box[0::2])
    y1, y2 = (round(value * height / 1000) for value in box[1::2])
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def key_frames(frames: Frames, evidence: Evidence) -> list[tuple[int, PIL.Image.Image, float]]:
    """Return (1-based number, picture, time in seconds) of each key frame that exists, once, in the order given."""
    numbers = dict.fromkeys(number for number in evidence.key_frames if 1 <= number <= len(frames.images))
    return [(number, frames.images[number - 1], frames.times_s[number - 1]) for number in numbers]


def iou(first: Box, second: Box) -> float:
    """Return intersection over union of two boxes, 0..1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0


def mark_keywords(text: str, keywords: Sequence[str]) -> list[tuple[str, bool]]:
    """Split a text into (piece, is a keyword) for display. Longer keywords win; the pieces join to the text again."""
    lowered = text.casefold() if len(text.casefold()) == len(text) else text.lower()
    marks = [False] * len(text)
    for word in sorted({word.casefold() for word in keywords if word}, key=len, reverse=True):
        start = lowered.find(word)
        while start >= 0 and len(lowered) == len(text):
            marks[start : start + len(word)] = [True] * len(word)
            start = lowered.find(word, start + len(word))
    pieces: list[tuple[str, bool]] = []
    for char, marked in zip(text, marks, strict=True):
        if pieces and pieces[-1][1] == marked:
            pieces[-1] = (pieces[-1][0] + char, marked)
        else:
            pieces.append((char, marked))
    return pieces


def draw_boxes(image: PIL.Image.Image, evidence: Evidence, verification: Verification | None = None) -> PIL.Image.Image:
    """Return a copy with numbered outlines; grey ones did not hold."""
    drawn = image.convert("RGB").copy()
    draw = PIL.ImageDraw.Draw(drawn)
    width = max(2, round(max(image.size) / 200))
    for index, box in enumerate(evidence.boxes):
        holds = verification.boxes[index] if verification else box_holds(box)
        x1, y1, x2, y2 = (min(max(value, 0), 1000) for value in box)
        corners = _pixels((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), image.size)
        colour = (225, 60, 120) if holds else (140, 140, 140)
        draw.rectangle((corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline=colour, width=width)
        draw.text((corners[0] + width + 1, corners[1] + width), str(index + 1), fill=colour)
    return drawn
