"""Documents: pages of a PDF as pictures and as text. The only home of pypdfium2.

PDFium is not thread-safe, so one lock guards every call into it.
"""

import io
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import pypdfium2
import pypdfium2.raw

from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Page
from embedrl.media.image import load_image
from embedrl.media.store import DEFAULT, Limits, open_file

MAX_SCALE = 4.0
"""Pixels per point (1/72 inch) at most: small pages are not blown up."""
EPOCH = time.gmtime(0)
"""The date inside the documents we write."""

_LOCK = threading.RLock()


@contextmanager
def _open(path: Path, limits: Limits) -> Iterator[pypdfium2.PdfDocument]:
    """Open a document within the limits, holding the lock until it is closed."""
    name = repr(str(path))
    with open_file(path, limits) as file, _LOCK:
        try:
            document = pypdfium2.PdfDocument(file)
        except pypdfium2.PdfiumError as error:
            if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
                raise MediaError(f"{name}: is encrypted: save it without a password") from error
            raise MediaError(f"{name}: is not a readable PDF ({error})") from error
        try:
            if len(document) > limits.max_pages:
                raise MediaError(f"{name}: has {len(document)} pages, more than max_pages={limits.max_pages}: split it or raise the limit")
            if len(document) < 1:
                raise MediaError(f"{name}: has no pages")
            yield document
        except pypdfium2.PdfiumError as error:
            raise MediaError(f"{name}: is damaged ({error})") from error
        finally:
            document.close()


@contextmanager
def _open_page(page: Page, limits: Limits) -> Iterator[pypdfium2.PdfPage]:
    assert page.path is not None
    with _open(page.path, limits) as document:
        if page.number > len(document):
            raise MediaError(f"{str(page.path)!r}: has {len(document)} pages, so there is no page {page.number}")
        opened = document[page.number - 1]
        try:
            yield opened
        finally:
            opened.close()


def num_pages(path: Path, limits: Limits = DEFAULT) -> int:
    """Count the pages of a PDF. Raises MediaError for one that is broken, encrypted or over `max_pages`."""
    with _open(path, limits) as document:
        return len(document)


def load_page(page: Page, limits: Limits = DEFAULT, max_side: int = 1600) -> PIL.Image.Image:
    """Render a page to RGB whose longer side has at most `max_side` pixels; pixels in memory are only converted.

    Raises MediaError for a document or page that is broken, encrypted, missing or over a limit.
    """
    if page.pixels is not None:
        return load_image(page, limits)
    if max_side < 1 or max_side * max_side > limits.max_pixels:
        raise ConfigError(f"max_side={max_side}: give 1..{math.isqrt(limits.max_pixels)} (max_pixels={limits.max_pixels})")
    with _open_page(page, limits) as opened:
        width, height = opened.get_size()
        if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
            raise MediaError(f"{str(page.path)!r}: page {page.number} has no size")
        scale = min(max_side / max(width, height), MAX_SCALE)
        bitmap = opened.render(scale=scale)
        try:
            image = bitmap.to_pil().convert("RGB").copy()
        finally:
            bitmap.close()
    # PDFium rounds sizes up, and very long pages keep a side of one pixel: hold the promise of max_side.
    return image.crop((0, 0, min(image.width, max_side), min(image.height, max_side)))


def page_text(page: Page, limits: Limits = DEFAULT) -> str:
    """Return the text layer of a page ("" where there is none, and for pixels in memory), with newlines as line ends."""
    if page.path is None:
        return ""
    with _open_page(page, limits) as opened:
        layer = opened.get_textpage()
        try:
            if layer.count_chars() > limits.max_text_chars:
                raise MediaError(f"{str(page.path)!r}: page {page.number} holds more than max_text_chars={limits.max_text_chars}")
            return layer.get_text_bounded().replace("\r\n", "\n").strip()
        finally:
            layer.close()


def save_pdf(images: Sequence[PIL.Image.Image], path: Path) -> None:
    """Write pictures as the pages of a PDF (1 pixel = 1 point); the same pixels always give the same bytes."""
    if not images:
        raise ConfigError(f"{str(path)!r}: a document needs at least one page")
    first, *others = (image.convert("RGB") for image in images)
    buffer = io.BytesIO()
    dates = {"creationDate": EPOCH, "modDate": EPOCH}
    first.save(buffer, "PDF", save_all=True, append_images=others, quality=95, subsampling=0, resolution=72.0, **dates)
    path.write_bytes(buffer.getvalue())
