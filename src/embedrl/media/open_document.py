"""OpenDocument texts, sheets and slides (ISO/IEC 26300: ODT, ODS, ODP) as Markdown, by the standard library."""

import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from embedrl.errors import MediaError
from embedrl.media.markup import local_name, read_part, tidy

_UNSEEN = {"annotation", "annotation-end", "tracked-changes", "forms", "script", "scripts", "meta", "title", "desc", "binary-data"}
_SPACES = {"tab": "\t", "line-break": "\n"}
_MAX_REPEATED = 100
"""Blanks of a run that are written out, and cells: a sheet repeats its last one to the border."""


def read_open_document(archive: zipfile.ZipFile) -> str:
    """Return the text of a document: headings, lists, rows of tables, sheets by name, slides with their notes. Raises MediaError."""
    if "META-INF/manifest.xml" in archive.namelist():
        manifest = read_part(archive, "META-INF/manifest.xml")
        if any(local_name(element) == "encryption-data" for element in manifest.iter()):
            raise MediaError("is encrypted; save a copy without a password")
    content = read_part(archive, "content.xml")
    body = next((element for element in content if local_name(element) == "body"), None)
    if body is None:
        raise MediaError("is a document without a body")
    return tidy("\n\n".join(block for kind in body for block in _blocks(kind)))


def _blocks(parent: Element, depth: int = 0) -> Iterator[str]:
    """Yield the blocks inside an element: paragraphs, entries of lists, tables, slides."""
    number = 0
    for element in parent:
        match local_name(element):
            case name if name in _UNSEEN:
                continue
            case "h":
                level = _number(element, "outline-level", 1)
                yield f"{'#' * max(1, min(level, 6))} {' '.join(_words(element).split())}"
            case "p":
                yield _words(element)
                yield from (block for box in _boxes(element) for block in _blocks(box, depth))
            case "list":
                yield "\n".join(_entries(element, depth))
            case "table":
                name = _attribute(element, "name")
                rows = "\n".join(filter(None, map(_row, _rows(element))))
                is_sheet = local_name(parent) == "spreadsheet"
                if rows:
                    yield f"## {name}\n\n{rows}" if is_sheet and name else rows
            case "page":
                number += 1
                yield f"## {_attribute(element, 'name') or f'Slide {number}'}"
                yield from _blocks(element, depth)
            case "notes":
                if notes := "\n".join(filter(None, _blocks(element, depth))).strip():
                    yield f"Notes: {notes}"
            case _:
                yield from _blocks(element, depth)


def _boxes(element: Element) -> Iterator[Element]:
    """Yield the text boxes inside an element, but not those inside them, or inside its notes."""
    for child in element:
        if local_name(child) == "text-box":
            yield child
        elif local_name(child) not in _UNSEEN | {"note"}:
            yield from _boxes(child)


def _entries(element: Element, depth: int) -> Iterator[str]:
    for item in element:
        lines = [block for block in _blocks(item, depth + 1) if block.strip()]
        is_first = True
        for line in lines:
            is_inner = line.startswith("  ")
            yield line if is_inner else f"{'  ' * depth}{'- ' if is_first else '  '}{line}"
            is_first = is_first and is_inner


def _rows(table: Element) -> Iterator[Element]:
    """Yield the rows of a table, those of its groups and its header as well."""
    for element in table:
        if local_name(element) == "table-row":
            yield element
        elif local_name(element) in ("table-rows", "table-header-rows", "table-row-group"):
            yield from _rows(element)


def _row(row: Element) -> str:
    cells: list[str] = []
    for cell in row:
        if local_name(cell) in ("table-cell", "covered-table-cell"):
            text = " ".join(" ".join(_blocks(cell)).split())
            cells += [text] * min(_number(cell, "number-columns-repeated", 1), _MAX_REPEATED)
    return " | ".join(cells).rstrip(" |")


def _words(element: Element) -> str:
    """Return the text inside a paragraph; notes at its foot stand where their mark does."""
    pieces = [element.text or ""]
    for child in element:
        name = local_name(child)
        if name == "s":
            pieces.append(" " * min(_number(child, "c", 1), _MAX_REPEATED))
        elif name == "note":
            body = next((part for part in child if local_name(part) == "note-body"), None)
            pieces.append(f" ({' '.join(' '.join(_blocks(body)).split())})" if body is not None else "")
        elif name not in _UNSEEN and name != "text-box":
            pieces.append(_SPACES.get(name) or _words(child))
        pieces.append(child.tail or "")
    return "".join(pieces)


def _attribute(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _number(element: Element, name: str, default: int) -> int:
    written = _attribute(element, name)
    return int(written) if written.isascii() and written.isdigit() else default
