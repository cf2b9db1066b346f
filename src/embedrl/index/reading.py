"""From an item to the preview that a row keeps: thumbnail, times, text."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image

from embedrl.data.sample import Item
from embedrl.data.segments import MAX_CHARS, TextSegment, joined, span_of
from embedrl.media.content import Video
from embedrl.media.decode import Want, look
from embedrl.media.resize import Reduce
from embedrl.media.store import Limits

THUMBNAIL_SIDE = 256
_PREVIEW_PIXELS = 16 * THUMBNAIL_SIDE**2
MAX_TEXT_CHARS = MAX_CHARS
"""How much of an item's own text a row keeps."""


@dataclass(frozen=True)
class Preview:
    """What a row shows of an item."""

    thumbnail: bytes = b""
    text: str = ""
    full_text: str = ""
    """The whole text of a page, which keywords are checked against."""
    start_s: float | None = None
    end_s: float | None = None
    frame_times_s: tuple[float, ...] = ()


def preview(item: Item, segments: Sequence[TextSegment] = (), *, num_frames: int, limits: Limits) -> Preview:
    """Decode an item and keep little of it, and the words that were read in it. Raises MediaError for what is broken."""
    visual = item.visual
    if visual is None:
        start_s, end_s = span_of(segments)
        return Preview(text=item.text[:MAX_TEXT_CHARS], start_s=start_s, end_s=end_s)
    want: tuple[Want, ...] = ("pixels",) if isinstance(visual, Video) else ("pixels", "text")
    seen = look(visual, *want, num_frames=num_frames, limits=limits, scale=Reduce(max_pixels=_PREVIEW_PIXELS))
    thumbnail = _thumbnail(seen.images[len(seen.images) // 2])
    if isinstance(visual, Video):
        end_s = seen.duration_s if visual.end_s is None else visual.end_s
        text = joined(segments)[:MAX_TEXT_CHARS]
        return Preview(thumbnail=thumbnail, text=text, start_s=visual.start_s, end_s=end_s, frame_times_s=seen.times_s)
    text = "\n".join(filter(None, [seen.text, joined(segments)]))[:MAX_TEXT_CHARS]
    return Preview(thumbnail=thumbnail, text=text, full_text=seen.text)


def _thumbnail(image: PIL.Image.Image) -> bytes:
    small = image.convert("RGB").copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
