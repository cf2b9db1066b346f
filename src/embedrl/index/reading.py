"""From an item to the preview that a row keeps: thumbnail, times, text."""

import io
from dataclasses import dataclass

import PIL.Image

from embedrl.data.sample import Item
from embedrl.media.content import Video
from embedrl.media.decode import Want, look
from embedrl.media.resize import Reduce
from embedrl.media.store import Limits

THUMBNAIL_SIDE = 256
_PREVIEW_PIXELS = 16 * THUMBNAIL_SIDE**2
MAX_TEXT_CHARS = 20_000
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


def preview(item: Item, *, num_frames: int, limits: Limits) -> Preview:
    """Decode an item and keep little of it. Raises MediaError for what is broken."""
    visual = item.visual
    if visual is None:
        return Preview(text=item.text[:MAX_TEXT_CHARS])
    want: tuple[Want, ...] = ("pixels",) if isinstance(visual, Video) else ("pixels", "text")
    seen = look(visual, *want, num_frames=num_frames, limits=limits, scale=Reduce(max_pixels=_PREVIEW_PIXELS))
    thumbnail = _thumbnail(seen.images[len(seen.images) // 2])
    if isinstance(visual, Video):
        end_s = seen.duration_s if visual.end_s is None else visual.end_s
        return Preview(thumbnail=thumbnail, start_s=visual.start_s, end_s=end_s, frame_times_s=seen.times_s)
    return Preview(thumbnail=thumbnail, text=seen.text[:MAX_TEXT_CHARS], full_text=seen.text)


def _thumbnail(image: PIL.Image.Image) -> bytes:
    small = image.convert("RGB").copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
