"""From a file to the items in it, and to what a row shows of each: its small picture, its times, its text."""

import io
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.errors import MediaError
from embedrl.index.row import Modality
from embedrl.media.content import Frames, Image, Page, Text, Video
from embedrl.media.decode import load_visual
from embedrl.media.document import num_pages, page_text
from embedrl.media.store import Limits
from embedrl.media.text import load_text
from embedrl.media.video import duration_s

THUMBNAIL_SIDE = 256
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


def page_numbers(path: Path, modality: Modality, limits: Limits) -> list[int | None]:
    """Return the pages of a document, or `[None]` for a file that makes one item. Raises MediaError."""
    if modality != "page":
        return [None]
    count = num_pages(path, limits)
    if not count:
        raise MediaError(f"{str(path)!r}: the document has no pages")
    return list(range(1, count + 1))


def read_item(path: Path, modality: Modality, page: int | None, limits: Limits) -> Item:
    """Make the Item of a place; pixels stay in the file. Raises MediaError."""
    match modality:
        case "image":
            return items.candidate((Image(path=path),))
        case "video":
            return items.candidate((Video(path=path),))
        case "page":
            return items.candidate((Page(path=path, number=page or 1),))
        case "text":
            text = load_text(path, limits)
            if not text.strip():
                raise MediaError(f"{str(path)!r}: holds no text")
            return items.candidate((Text(text=text),))


def preview(item: Item, *, num_frames: int, limits: Limits) -> Preview:
    """Decode an item and keep little of it. Raises MediaError for what is broken."""
    visual = item.visual
    if visual is None:
        return Preview(text=item.text[:MAX_TEXT_CHARS])
    decoded = load_visual(visual, num_frames=num_frames, limits=limits)
    if isinstance(decoded, Frames):
        assert isinstance(visual, Video) and visual.path is not None
        middle = decoded.images[len(decoded.images) // 2]
        end_s = visual.end_s if visual.end_s is not None else duration_s(visual.path, limits)
        return Preview(thumbnail=_thumbnail(middle), start_s=visual.start_s, end_s=end_s, frame_times_s=decoded.times_s)
    text = page_text(visual, limits) if isinstance(visual, Page) else ""
    return Preview(thumbnail=_thumbnail(decoded), text=text[:MAX_TEXT_CHARS], full_text=text)


def _thumbnail(image: PIL.Image.Image) -> bytes:
    small = image.convert("RGB").copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
