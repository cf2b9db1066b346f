"""Verification of evidence against its medium, and drawing."""

import re
import unicodedata
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from embedrl.data.crops import box_holds, clamped, iou, pixels
from embedrl.data.evidence_kinds import EVIDENCE_KINDS, Evidence, Medium, Verification
from embedrl.data.plain_text import neutralise
from embedrl.data.sample import Item
from embedrl.media.content import Image, Page, Text, Video

__all__ = [
    "Evidence",
    "Verification",
    "about",
    "box_holds",
    "draw_boxes",
    "iou",
    "mark_keywords",
    "verify",
]

_HOLDS, _DOUBTFUL = (225, 60, 120), (140, 140, 140)


def verify(evidence: Evidence, item: Item, num_frames: int | None) -> Verification:
    """Verify evidence against an item. `num_frames` is the number of frames shown of its video (None: no video)."""
    visuals = [part for part in item.content if not isinstance(part, Text)]
    shown, text = (num_frames or 0) if isinstance(item.visual, Video) else 0, _folded(item.text)

    def medium(number: int) -> Medium:
        has_image = 1 <= number <= len(visuals) and isinstance(visuals[number - 1], Image | Page)
        return Medium(has_image=has_image, num_frames=shown, text=text, fold=_folded)

    return Verification(
        num_unread=evidence.num_unread,
        **{kind.name: tuple(kind.holds(piece, medium(number)) for piece, number in kind.located(evidence)) for kind in EVIDENCE_KINDS},
    )


def about(evidence: Evidence, number: int) -> Evidence:
    """Return the evidence about one visual part of an item (1-based), renumbered as if it were the first."""
    kept = {kind.name: [piece for piece, part in kind.located(evidence) if part == number] for kind in EVIDENCE_KINDS}
    return Evidence.model_validate({**kept, "num_frames": evidence.num_frames})


def _folded(text: str) -> str:
    # Keywords were neutralised when the T-CoT was read, so the text must be, too.
    return " ".join(unicodedata.normalize("NFC", neutralise(text)).casefold().split())


def mark_keywords(text: str, keywords: Sequence[str]) -> list[tuple[str, bool]]:
    """Split a text into (piece, is_keyword), where `verify` finds the keywords; the pieces concatenate to the text."""
    folded, spans = _folded_spans(text)
    marks = [False] * len(text)
    for keyword in filter(None, map(_folded, keywords)):
        for match in re.finditer(re.escape(keyword), folded):
            start, end = spans[match.start()][0], spans[match.end() - 1][1]
            marks[start:end] = [True] * (end - start)
    cuts = [0, *(index for index in range(1, len(text)) if marks[index] != marks[index - 1]), len(text)]
    return [(text[start:end], marks[start]) for start, end in pairwise(cuts) if start < end]


def _folded_spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return `_folded(text)`, and for each of its characters the (start, end) that it stands for in the text."""
    clean = neutralise(text)  # of the same length: it exchanges single characters
    starts: list[int] = []
    for place, char in enumerate(clean):
        if not starts or _begins(clean[starts[-1] : place], char):
            starts.append(place)
    folded: list[str] = []
    spans: list[tuple[int, int]] = []
    for start, end in pairwise([*starts, len(clean)]):
        for char in unicodedata.normalize("NFC", clean[start:end]).casefold():
            if not char.isspace():
                folded.append(char)
                spans.append((start, end))
            elif folded and folded[-1] != " ":
                folded.append(" ")
                spans.append((start, end))
            elif folded:
                spans[-1] = spans[-1][0], end
    return "".join(folded).rstrip(), spans


def _begins(before: str, char: str) -> bool:
    """Return whether a character begins anew: NFC joins it to none before."""
    if char.isascii():
        return True
    nfc = partial(unicodedata.normalize, "NFC")
    return not unicodedata.combining(char) and nfc(before + char) == nfc(before) + nfc(char)


def draw_boxes(image: PIL.Image.Image, evidence: Evidence, verification: Verification | None = None) -> PIL.Image.Image:
    """Draw numbered boxes on an RGB copy; invalid ones dashed and grey.

    Without a verification, a box holds if it lies inside the image.
    """
    drawn = image.convert("RGB").copy()
    draw = PIL.ImageDraw.Draw(drawn)
    width = max(1, round(max(image.size) / 200))
    font = PIL.ImageFont.load_default(max(11, 5 * width))
    holding = verification.boxes if verification else [box_holds(box) for box in evidence.boxes]
    for number, (box, holds) in enumerate(zip(evidence.boxes, holding, strict=True), 1):
        x1, y1, x2, y2 = clamped(box)
        left, top, right, bottom = pixels((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), image.size)
        colour = _HOLDS if holds else _DOUBTFUL
        _outline(draw, (left, top, right - 1, bottom - 1), colour, width, dash=0 if holds else 4 * width)
        text_box = draw.textbbox((0, 0), str(number), font=font)
        label = text_box[2] + 2 * width, text_box[3] + 2 * width
        at = max(0, min(left, image.width - label[0])), max(0, min(top, image.height - label[1]))
        draw.rectangle((at[0], at[1], at[0] + label[0], at[1] + label[1]), fill=colour)
        draw.text((at[0] + width, at[1] + width), str(number), fill="white", font=font)
    return drawn


def _outline(
    draw: PIL.ImageDraw.ImageDraw, corners: tuple[int, int, int, int], colour: tuple[int, int, int], width: int, dash: int
) -> None:
    """Draw a rectangle outline; with `dash`, dashes and gaps of that many pixels."""
    left, top, right, bottom = corners
    if not dash:
        draw.rectangle(corners, outline=colour, width=width)
        return
    for start in range(left, right + 1, 2 * dash):
        end = min(start + dash - 1, right)
        draw.rectangle((start, top, end, min(top + width - 1, bottom)), fill=colour)
        draw.rectangle((start, max(bottom - width + 1, top), end, bottom), fill=colour)
    for start in range(top, bottom + 1, 2 * dash):
        end = min(start + dash - 1, bottom)
        draw.rectangle((left, start, min(left + width - 1, right), end), fill=colour)
        draw.rectangle((max(right - width + 1, left), start, right, end), fill=colour)
