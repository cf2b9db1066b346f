"""HTML cards of one search: the query with its T-CoT, and the hits with their evidence drawn."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
from markupsafe import Markup

from embedrl.data.evidence import Verification, about, verify
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.sample import Item
from embedrl.data.tcot import Box, Evidence, TCoT
from embedrl.media.content import Frames, Page, Text, Video
from embedrl.media.decode import count_frames, load_visual
from embedrl.reports.templates import ENVIRONMENT, fragment

MAX_SIDE = {"image": 480, "page": 760, "frame": 240}
"""Images are embedded no larger than this, in pixels."""


@dataclass(frozen=True)
class Side:
    """An item in a report."""

    item: Item
    tcot: TCoT | None = None
    verification: Verification | None = None
    """Validity of the T-CoT's evidence; None if not verified."""
    name: str = ""
    """Path in the library."""
    score: float | None = None
    """Cosine to the query, for a hit."""
    is_right: bool = False
    """Whether it is the known target."""
    num_frames: int | None = None
    """How many frames of a video whoever wrote the T-CoT was shown, at most: its key frames count these. None: all."""


def checked_side(item: Item, tcot: TCoT | None, num_frames: int | None = None) -> Side:
    """Make a Side with verified evidence; `num_frames` is that of its Reasoner, unless the T-CoT records it.

    Raises MediaError.
    """
    if num_frames is None and tcot is not None:
        num_frames = tcot.evidence.num_frames
    shown = count_frames(item.visual, num_frames=num_frames) if tcot else None
    return Side(item, tcot, verify(tcot.evidence, item, shown) if tcot else None, num_frames=num_frames)


@dataclass(frozen=True)
class Search:
    """One query and its hits, best first."""

    title: str
    query: Side
    hits: tuple[Side, ...]


def search_card(search: Search) -> Markup:
    """Render one search."""
    kinds = {type(hit.item.visual) for hit in search.hits}
    return fragment(
        "cards",
        "search",
        title=search.title,
        query=search.query,
        query_content=content(search.query),
        hits=[(hit, content(hit)) for hit in search.hits],
        layout=" wide" if Video in kinds else " few" if kinds <= {Page, type(None)} else "",
        is_wide=isinstance(search.query.item.visual, Video),
    )


def _doubts(side: Side) -> list[str]:
    """List the invalid evidence."""
    if side.tcot is None or side.verification is None:
        return []
    return [
        f"{kind.refer(piece, number)}: {kind.say(holds)}"
        for kind in EVIDENCE_KINDS
        for number, (piece, holds) in enumerate(kind.checked(side.tcot.evidence, side.verification), 1)
        if not holds
    ]


ENVIRONMENT.filters["doubts"] = _doubts


def tcot_block(side: Side) -> Markup:
    """Render a T-CoT as its three parts, with its keywords marked."""
    return fragment("cards", "tcot", side=side)


def content(side: Side) -> Markup:
    """Render the parts of an item in their order, with the evidence that is about each."""
    evidence = side.tcot.evidence if side.tcot else Evidence()
    visuals = [part for part in side.item.content if not isinstance(part, Text)]
    doubtful = {box for box, ok in zip(evidence.boxes, side.verification.boxes, strict=True) if not ok} if side.verification else set()
    parts: list[tuple[str, Any]] = []
    for part in side.item.content:
        if isinstance(part, Text):
            parts.append(("text", part.text))
            continue
        own = about(evidence, next(number for number, visual in enumerate(visuals, 1) if visual is part))
        if isinstance(seen := load_visual(part, num_frames=side.num_frames), Frames):
            frames = [
                {**_image(image, "frame"), "time_s": time_s, "is_key": number in own.key_frames}
                for number, (image, time_s) in enumerate(zip(seen.images, seen.times_s, strict=True), 1)
            ]
            parts.append(("frames", frames))
        else:
            boxes = [(box, "box unsure" if box in doubtful else "box") for box in own.boxes]
            parts.append(("image", _image(seen, part.kind, boxes)))
    return fragment("cards", "content", parts=parts, keywords=evidence.keywords, is_hit=side.score is not None)


def _image(image: PIL.Image.Image, kind: str, boxes: Sequence[tuple[Box, str]] = ()) -> dict[str, Any]:
    alt = f"{kind}, {len(boxes)} boxes drawn" if boxes else kind
    return {"alt": alt, "source": _data_uri(image, MAX_SIDE[kind]), "boxes": boxes}


def _data_uri(image: PIL.Image.Image, max_side: int) -> str:
    image = image.convert("RGB")
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
