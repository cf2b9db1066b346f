"""Document pages (PDFium): rendering, text extraction, and deterministic PDF writing.

PDFium is not thread-safe, so one lock guards every call. Rendering is done in steps, so that a hostile page can be given up.
"""

import ctypes
import math
import re
import threading
import time
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import PIL.Image
import pypdfium2
import pypdfium2.raw as pdfium

from embedrl.errors import ConfigError, MediaError
from embedrl.files import write_bytes
from embedrl.media.content import Page, well_formed
from embedrl.media.image import to_rgb
from embedrl.media.metadata import from_tags
from embedrl.media.store import DEFAULT, Limits, open_regular

MAX_SIDE = 1600
"""Longer side of a rendered page, in pixels: about 140 dpi for A4, where 8 point type can still be read."""
MAX_DPI = 200
"""Maximum resolution of small pages."""
THIN_DPI = 100
"""Pages that are much longer than wide (receipts, whole web pages) are rendered at no less than this, as far as `max_kept_pixels` allow."""
THIN_ASPECT = 4
_POINTS_PER_INCH = 72
_UNSEEN_NOTES = (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP)
_FIELDS_WITH_TEXT = (pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX)
_PASSWORD_FLAG = 1 << 13
_MAX_NOTES = 10_000
_PDFIUM = threading.RLock()
_LINE_END_HYPHEN = re.compile("\ufffe\\n?(.?)")


def num_pages(path: Path, limits: Limits = DEFAULT) -> int:
    """Return the number of pages of a PDF. Raises MediaError if it cannot be opened or exceeds `max_pages`."""
    with _document(path, limits) as document:
        return len(document)


def load_page(page: Page, limits: Limits = DEFAULT) -> PIL.Image.Image:
    """Render a page to RGB on white, with annotations and form fields.

    A page that is nothing but one image (a scan) is not enlarged beyond its own pixels.
    """
    if page.path is None:
        assert page.pixels is not None
        return to_rgb(page.pixels)
    with _page(page, limits) as opened:
        width, height = opened.get_size()
        if not (0 < width < math.inf and 0 < height < math.inf):
            raise MediaError(f"{_name(page)}: has no area ({width} x {height} points)")
        scale = min(MAX_SIDE / max(width, height), MAX_DPI / _POINTS_PER_INCH, math.sqrt(limits.max_pixels / (width * height)))
        if max(width, height) > THIN_ASPECT * min(width, height):
            scale = max(scale, min(THIN_DPI / _POINTS_PER_INCH, math.sqrt(limits.max_kept_pixels / (width * height))))
        scale = min(scale, _own_scale(opened) or scale)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return _render(opened, size, limits, _name(page))


def page_text(page: Page, limits: Limits = DEFAULT) -> str:
    """Return the text layer of a page and of its form and notes, "" if it has none (a scan, or pixels in memory)."""
    if page.path is None:
        return ""
    with _page(page, limits) as opened:
        textpage = opened.get_textpage()
        try:
            num_chars = textpage.count_chars()
            if num_chars > limits.max_text_chars:
                raise MediaError(f"{_name(page)}: has {num_chars} characters, more than max_text_chars={limits.max_text_chars}")
            text = textpage.get_text_range() if num_chars > 0 else ""
        finally:
            textpage.close()
        text = "\n".join([text, *_filled_in(opened)])
    return well_formed(_LINE_END_HYPHEN.sub(_joined, text.replace("\r\n", "\n").replace("\0", ""))).strip()


def _joined(match: re.Match[str]) -> str:
    """Join a word that a line end divides: PDFium gives U+FFFE for the hyphen. Before a capital or a digit it belongs to the word."""
    return match[1] if match[1].islower() else f"-{match[1]}"


def _filled_in(page: pypdfium2.PdfPage) -> list[str]:
    """Return the texts of form fields and annotations of a page, in order."""
    texts = []
    for note in _notes(page):
        match pdfium.FPDFAnnot_GetSubtype(note):
            case pdfium.FPDF_ANNOT_FREETEXT:
                texts.append(_utf16(lambda buffer, size, note=note: pdfium.FPDFAnnot_GetStringValue(note, b"Contents", buffer, size)))
            case pdfium.FPDF_ANNOT_WIDGET if page.formenv and pdfium.FPDFAnnot_GetFormFieldType(page.formenv, note) in _FIELDS_WITH_TEXT:
                if not pdfium.FPDFAnnot_GetFormFieldFlags(page.formenv, note) & _PASSWORD_FLAG:
                    texts.append(
                        _utf16(lambda buffer, size, note=note: pdfium.FPDFAnnot_GetFormFieldValue(page.formenv, note, buffer, size))
                    )
    return [text for text in texts if text]


def _notes(page: pypdfium2.PdfPage) -> Generator[Any]:
    """Yield the annotations of a page."""
    for number in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_NOTES)):
        if note := pdfium.FPDFPage_GetAnnot(page, number):
            try:
                yield note
            finally:
                pdfium.FPDFPage_CloseAnnot(note)


def _utf16(read: Callable[[Any, int], int]) -> str:
    """Read a string of PDFium, which is UTF-16 and ends with a zero."""
    size = read(None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(buffer, size)
    return bytes(buffer)[: max(size - 2, 0)].decode("utf-16-le", "replace")


@contextmanager
def _document(path: Path, limits: Limits) -> Generator[pypdfium2.PdfDocument]:
    with _PDFIUM, open_regular(path, limits) as file:
        try:
            document = pypdfium2.PdfDocument(file)
        except pypdfium2.PdfiumError as error:
            if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
                raise MediaError(f"{str(path)!r}: the PDF is encrypted; save a copy without a password") from error
            raise MediaError(f"{str(path)!r}: is not a PDF, or is damaged") from error
        try:
            document.init_forms()
            if not 1 <= len(document) <= limits.max_pages:
                raise MediaError(f"{str(path)!r}: has {len(document)} pages; from 1 to max_pages={limits.max_pages} are read")
            yield document
        finally:
            document.close()


def document_metadata(path: Path, limits: Limits = DEFAULT) -> dict[str, Any]:
    """Return what a PDF says of itself. Raises MediaError."""
    with _document(path, limits) as document:
        return from_tags(document.get_metadata_dict(skip_empty=True))


@contextmanager
def _page(page: Page, limits: Limits) -> Generator[pypdfium2.PdfPage]:
    assert page.path is not None
    with _document(page.path, limits) as document:
        if page.number > len(document):
            raise MediaError(f"{str(page.path)!r}: has {len(document)} pages, no page {page.number}")
        try:
            opened = document[page.number - 1]
        except pypdfium2.PdfiumError as error:
            raise MediaError(f"{_name(page)}: is damaged ({error})") from error
        try:
            yield opened
        finally:
            opened.close()


def _name(page: Page) -> str:
    return f"{str(page.path)!r}, page {page.number}"


def _own_scale(page: pypdfium2.PdfPage) -> float | None:
    """Return pixels per point of the image on a page that holds nothing else, notes and fields of a form included."""
    if pdfium.FPDFPage_CountObjects(page) != 1 or any(pdfium.FPDFAnnot_GetSubtype(note) not in _UNSEEN_NOTES for note in _notes(page)):
        return None
    only = next(iter(page.get_objects(max_depth=1)))
    if not isinstance(only, pypdfium2.PdfImage):
        return None
    left, bottom, right, top = only.get_bounds()
    width, height = only.get_px_size()
    return max(width / max(right - left, 1), height / max(top - bottom, 1)) or None


def _render(page: pypdfium2.PdfPage, size: tuple[int, int], limits: Limits, name: str) -> PIL.Image.Image:
    deadline = time.monotonic() + limits.decode_timeout_s
    bitmap = pypdfium2.PdfBitmap.new_native(*size, pdfium.FPDFBitmap_BGRx)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, *size)
    pause = pdfium.IFSDK_PAUSE(version=1)
    pypdfium2.internal.set_callback(pause, "NeedToPauseNow", lambda _: time.monotonic() > deadline)
    try:
        status = pdfium.FPDF_RenderPageBitmap_Start(bitmap, page, 0, 0, *size, 0, pdfium.FPDF_ANNOT, pause)
    finally:
        pdfium.FPDF_RenderPage_Close(page)
    if status == pdfium.FPDF_RENDER_TOBECONTINUED:
        raise MediaError(f"{name}: rendering took longer than decode_timeout_s={limits.decode_timeout_s:g}")
    if status != pdfium.FPDF_RENDER_DONE:
        raise MediaError(f"{name}: cannot be rendered")
    if page.formenv:
        pdfium.FPDF_FFLDraw(page.formenv, bitmap, page, 0, 0, *size, 0, pdfium.FPDF_ANNOT)
    return bitmap.to_pil().convert("RGB")


def save_pdf(images: Sequence[PIL.Image.Image], path: Path, dpi: float = _POINTS_PER_INCH) -> None:
    """Write a PDF with one page per image, lossless (Flate), without dates or ids: equal images give equal bytes."""
    if not images:
        raise ConfigError(f"{str(path)!r}: a PDF needs at least one page")
    kids = " ".join(f"{3 + 3 * number} 0 R" for number in range(len(images)))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Count {len(images)} /Kids [{kids}] >>".encode()]
    for number, image in enumerate(images):
        rgb = to_rgb(image)
        width, height = (f"{side * _POINTS_PER_INCH / dpi:.2f}".rstrip("0").rstrip(".") for side in rgb.size)
        page, drawing, image = (3 + 3 * number + offset for offset in range(3))
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {drawing} 0 R "
            f"/Resources << /XObject << /P {image} 0 R >> >> >>".encode(),
            _stream("", f"q {width} 0 0 {height} 0 0 cm /P Do Q".encode()),
            _stream(
                f"/Type /XObject /Subtype /Image /Width {rgb.width} /Height {rgb.height} /ColorSpace /DeviceRGB "
                "/BitsPerComponent 8 /Filter /FlateDecode ",
                zlib.compress(rgb.tobytes(), 9),
            ),
        ]
        assert len(objects) == page + 2
    write_bytes(path, _assemble(objects))


def _stream(entries: str, data: bytes) -> bytes:
    return f"<< {entries}/Length {len(data)} >>\nstream\n".encode() + data + b"\nendstream"


def _assemble(objects: Sequence[bytes]) -> bytes:
    """Number the objects and append the cross-reference table (ISO 32000-1, 7.5)."""
    pdf = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    starts = []
    for number, body in enumerate(objects, 1):
        starts.append(len(pdf))
        pdf += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(pdf)
    pdf += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    pdf += b"".join(f"{start:010d} 00000 n \n".encode() for start in starts)
    pdf += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(pdf)
