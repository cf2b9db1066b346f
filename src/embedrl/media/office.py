"""Text with structure (Markdown) of Word, PowerPoint and Excel documents, and of every other document that is converted to text.

Runs in the child process that decodes. Archives are looked at before they are unpacked: what they declare must fit the memory of decoding.
"""

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, BinaryIO

from embedrl.errors import MediaError
from embedrl.media.content import well_formed
from embedrl.media.kinds import PACKAGES
from embedrl.media.mail import read_mail, read_mailbox
from embedrl.media.markup import html_text, read_epub, read_html, tidy
from embedrl.media.open_document import read_open_document
from embedrl.media.rich_text import read_rich_text
from embedrl.media.store import DEFAULT, HEAD_BYTES, DocumentFormat, Limits, document_format, open_regular
from embedrl.media.text import LONG_DOCUMENT

_MAX_PARTS = 20_000
_CAREFULLY = {"external_file_access": False, "include_embedded_style_map": False}
"""A document neither reads other files nor says how it is read."""


def document_text(path: Path, limits: Limits = DEFAULT) -> str:
    """Return the text of a document as Markdown, with newlines as `\\n`.

    Raises MediaError, naming the file, for one that cannot be read, holds no text, is encrypted, or exceeds a limit, and MemoryError.
    """
    with open_regular(path, limits) as file:
        # Boundary: the readers of these formats let through whatever they trip over (KeyError, zlib.error, ParseError, …).
        try:
            text = _convert(file, path, limits)
        except MediaError as error:
            raise MediaError(f"{str(path)!r}: {error}") from error
        except MemoryError:
            raise
        except RecursionError as error:
            raise MediaError(f"{str(path)!r}: the document is nested too deep") from error
        except Exception as error:
            raise MediaError(f"{str(path)!r}: the document is damaged or cut short ({type(error).__name__}: {error})"[:500]) from error
    text = well_formed(text).replace("\0", "")
    if len(text) > LONG_DOCUMENT * limits.max_text_chars:
        raise MediaError(f"{str(path)!r}: is longer than {LONG_DOCUMENT} times max_text_chars={limits.max_text_chars}; divide it")
    if not text.strip():
        raise MediaError(f"{str(path)!r}: holds no text")
    return text


def _convert(file: BinaryIO, path: Path, limits: Limits) -> str:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    match document_format(path.suffix, head):
        case "HTML":
            return read_html(file, 4 * LONG_DOCUMENT * limits.max_text_chars)
        case "EML":
            return read_mail(file)
        case "MBOX":
            return read_mailbox(file, limits)
        case "RTF":
            return read_rich_text(file, limits.decode_memory_bytes // 8)
        case "ODT" | "ODS" | "ODP":
            return read_open_document(open_archive(file, limits))
        case "EPUB":
            return read_epub(open_archive(file, limits))
        case "DOCX" | "PPTX" | "XLSX" as name:
            if not PACKAGES[name].is_installed:
                raise MediaError(PACKAGES[name].missing)
            open_archive(file, limits)
            return _READERS[name](file, limits)
    raise MediaError("is no document that is converted to text")


def open_archive(file: BinaryIO, limits: Limits) -> zipfile.ZipFile:
    """Open an archive whose parts, as declared, fit the limits; no more than declared is ever unpacked."""
    archive = zipfile.ZipFile(file)
    parts = archive.infolist()
    if len(parts) > _MAX_PARTS:
        raise MediaError(f"has {len(parts)} parts; at most {_MAX_PARTS} are read")
    if any(part.flag_bits & 1 for part in parts):
        raise MediaError("is encrypted; save a copy without a password")
    num_bytes = sum(part.file_size for part in parts)
    if num_bytes > limits.decode_memory_bytes:
        raise MediaError(f"unpacks to {num_bytes} bytes, more than decode_memory_bytes={limits.decode_memory_bytes}")
    return archive


def _docx(file: BinaryIO, limits: Limits) -> str:
    import mammoth

    no_image = mammoth.images.img_element(lambda image: {})
    style_map = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => h2:fresh"
    return html_text(mammoth.convert_to_html(file, convert_image=no_image, style_map=style_map, **_CAREFULLY).value)


def _pptx(file: BinaryIO, limits: Limits) -> str:
    import pptx

    blocks = []
    for number, slide in enumerate(pptx.Presentation(file).slides, 1):
        title = slide.shapes.title
        words = " ".join(title.text_frame.text.split()) if title is not None and title.has_text_frame else ""
        blocks.append(f"## {words or f'Slide {number}'}")
        blocks += [block for shape in slide.shapes if title is None or shape.shape_id != title.shape_id for block in _shape(shape)]
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None and notes.text.strip():
            blocks.append(f"Notes: {notes.text}")
    return tidy("\n\n".join(blocks).replace("\v", "\n"))


def _shape(shape: Any) -> Iterator[str]:
    for inner in getattr(shape, "shapes", ()):  # a group
        yield from _shape(inner)
    if shape.has_text_frame:
        paragraphs = [paragraph for paragraph in shape.text_frame.paragraphs if paragraph.text.strip()]
        marked = len(paragraphs) > 1
        yield "\n".join(("  " * paragraph.level + "- " if marked else "") + paragraph.text for paragraph in paragraphs)
    if getattr(shape, "has_table", False):
        yield _table([cell.text for cell in row.cells] for row in shape.table.rows)
    if getattr(shape, "has_chart", False) and shape.chart.has_title:
        yield shape.chart.chart_title.text_frame.text


def _xlsx(file: BinaryIO, limits: Limits) -> str:
    import openpyxl

    most, num_chars = LONG_DOCUMENT * limits.max_text_chars, 0
    book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    blocks = []
    for sheet in book.worksheets:
        sheet.reset_dimensions()
        rows = []
        for values in sheet.iter_rows(values_only=True):
            if row := _table([[_value(value) for value in values]]):
                rows.append(row)
                if (num_chars := num_chars + len(row)) > most:
                    raise MediaError(f"is longer than {LONG_DOCUMENT} times max_text_chars={limits.max_text_chars}; divide it")
        if rows:
            blocks.append(f"## {sheet.title}\n\n" + "\n".join(rows))
    return "\n\n".join(blocks)


def _value(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float() if math.isfinite(value) and value == int(value):
            return str(int(value))
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime() | date() | time():
            return value.isoformat(*([" "] if isinstance(value, datetime) else []))
    return str(value)


def _table(rows: Iterable[list[str]]) -> str:
    """Return rows of cells as lines; empty cells at their ends and empty rows are left out."""
    lines = (" | ".join(" ".join(cell.split()) for cell in cells) for cells in rows)
    return "\n".join(filter(None, (line.rstrip(" |") for line in lines)))


_READERS: dict[DocumentFormat, Callable[[BinaryIO, Limits], str]] = {"DOCX": _docx, "PPTX": _pptx, "XLSX": _xlsx}
