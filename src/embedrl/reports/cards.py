"""One search as HTML: the query with its T-CoT, and the hits with the evidence drawn on them."""

import base64
import io
from collections.abc import Sequence, Set
from dataclasses import dataclass
from html import escape

import PIL.Image

from embedrl.data.evidence import Verification, mark_keywords, verify
from embedrl.data.sample import Item
from embedrl.data.tcot import Box, Evidence, TCoT
from embedrl.media.content import Frames, Page, Text, Video
from embedrl.media.decode import count_frames, load_visual

MAX_SIDE = {"image": 480, "page": 760, "frame": 240}
"""Pictures are embedded no larger than this, in pixels."""


@dataclass(frozen=True)
class Side:
    """An item as a report shows it."""

    item: Item
    tcot: TCoT | None = None
    verification: Verification | None = None
    """Which of the T-CoT's evidence holds; None where nothing was checked."""
    name: str = ""
    """Where the item lies in the library."""
    score: float | None = None
    """Cosine to the query, for a hit."""
    is_right: bool = False
    """Whether it is known to be the right answer."""


def checked_side(item: Item, tcot: TCoT | None) -> Side:
    """Make a Side whose evidence is checked against its item. Raises MediaError."""
    return Side(item, tcot, verify(tcot.evidence, item, count_frames(item.visual)) if tcot else None)


@dataclass(frozen=True)
class Search:
    """One query and what it found, best first."""

    title: str
    query: Side
    hits: tuple[Side, ...]


def search_card(search: Search) -> str:
    """Render one search."""
    wide = isinstance(search.query.item.visual, Video)
    kinds = {type(hit.item.visual) for hit in search.hits}
    layout = " wide" if Video in kinds else " few" if kinds <= {Page, type(None)} else ""
    hits = "".join(_hit(place, hit) for place, hit in enumerate(search.hits, 1)) or '<li class="meta">Nothing was found.</li>'
    return (
        f'<article class="case"><header><h3>{escape(search.title)}</h3></header>'
        f'<div class="query{" wide" if wide else ""}"><div>{content(search.query)}</div>{tcot_block(search.query)}</div>'
        f'<p class="label">Found, best first</p><ol class="hits{layout}">{hits}</ol></article>'
    )


def _hit(place: int, hit: Side) -> str:
    tick = '<span class="tick">✓ right</span>' if hit.is_right else ""
    score = "" if hit.score is None else f'<span class="score num" title="cosine to the query">{hit.score:.3f}</span>'
    says = f'<p class="says">{escape(hit.tcot.answer)}</p>' if hit.tcot and hit.item.visual else ""
    name = f'<p class="meta" title="{escape(hit.name)}">{escape(hit.name)}</p>' if hit.name else ""
    return (
        f'<li class="hit{" right" if hit.is_right else ""}"><header><span class="place">{place}</span>{tick}{score}</header>'
        f"{content(hit)}{says}{_badges(hit)}{name}</li>"
    )


def _badges(side: Side) -> str:
    """Name the evidence that does not hold."""
    if side.tcot is None or side.verification is None:
        return ""
    evidence, holds = side.tcot.evidence, side.verification
    doubts = [f"box {number}" for number, ok in enumerate(holds.boxes, 1) if not ok]
    doubts += [f"frame {frame}" for frame, ok in zip(evidence.key_frames, holds.key_frames, strict=True) if not ok]
    doubts += [f"the word {word!r}" for word, ok in zip(evidence.keywords, holds.keywords, strict=True) if not ok]
    return "".join(f'<span class="badge">not verified: {escape(doubt)}</span> ' for doubt in doubts)


def tcot_block(side: Side) -> str:
    """Render a T-CoT as its three parts, with its keywords marked."""
    if side.tcot is None:
        return '<p class="meta">No T-CoT: the item was embedded as it is.</p>'
    keywords = side.tcot.evidence.keywords
    parts = (("thinking", ""), ("rethink", ""), ("answer", ' class="answer"'))
    rows = "".join(f"<dt>{name}</dt><dd{style}>{_marked(getattr(side.tcot, name), keywords)}</dd>" for name, style in parts)
    return f'<div><dl class="tcot">{rows}</dl>{_badges(side)}</div>'


def content(side: Side) -> str:
    """Render the parts of an item in their order; only its first visual part carries evidence."""
    evidence = side.tcot.evidence if side.tcot else Evidence()
    doubtful = {box for box, ok in zip(evidence.boxes, side.verification.boxes, strict=True) if not ok} if side.verification else set()
    rendered = []
    for part in side.item.content:
        own = evidence if part is side.item.visual else Evidence()
        if isinstance(part, Text):
            rendered.append(f'<p class="{"text" if side.score is not None else "asked"}">{_marked(part.text, evidence.keywords)}</p>')
            continue
        seen = load_visual(part)
        if isinstance(seen, Frames):
            rendered.append(_strip(seen, own.key_frames))
        else:
            rendered.append(f"<figure>{_picture(seen, part.kind, own.boxes, doubtful)}</figure>")
    return "".join(rendered)


def _strip(frames: Frames, key_frames: Sequence[int]) -> str:
    """Render frames side by side; the key frames stand out."""
    figures = []
    for number, (image, time_s) in enumerate(zip(frames.images, frames.times_s, strict=True), 1):
        style = ' class="key"' if number in key_frames else ""
        figures.append(f"<figure{style}>{_picture(image, 'frame')}<figcaption>{time_s:.1f} s</figcaption></figure>")
    return f'<div class="strip">{"".join(figures)}</div>'


def _picture(image: PIL.Image.Image, kind: str, boxes: Sequence[Box] = (), doubtful: Set[Box] = frozenset()) -> str:
    rects = "".join(_rect(box, style) for box in boxes for style in ("halo", "box unsure" if box in doubtful else "box"))
    overlay = f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>' if rects else ""
    alt = f"{kind}, {len(boxes)} boxes drawn" if boxes else kind
    return f'<div class="picture"><img alt="{alt}" src="{_data_uri(image, MAX_SIDE[kind])}">{overlay}</div>'


def _rect(box: Box, style: str) -> str:
    x1, y1, x2, y2 = box
    return f'<rect class="{style}" x="{x1}" y="{y1}" width="{max(x2 - x1, 0)}" height="{max(y2 - y1, 0)}"/>'


def _data_uri(image: PIL.Image.Image, max_side: int) -> str:
    image = image.convert("RGB")
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _marked(text: str, keywords: Sequence[str]) -> str:
    return "".join(f"<mark>{escape(piece)}</mark>" if marked else escape(piece) for piece, marked in mark_keywords(text, keywords))
