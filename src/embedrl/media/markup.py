"""Text with structure (Markdown) of web pages and EPUB books, by the standard library."""

import codecs
import re
import zipfile
from html.parser import HTMLParser
from pathlib import PurePosixPath
from posixpath import normpath
from typing import BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree

from embedrl.errors import MediaError
from embedrl.media.text import decode_text

_UNSEEN = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "select", "button"}
_BLOCKS = {
    *(
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
    ),
    *("figure", "footer", "form", "header", "hr", "main", "nav", "ol", "p", "section", "summary", "table", "tbody", "tfoot", "thead", "ul"),
}
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]{1,40})|<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{1,40})""", re.I
)


class _Writer(HTMLParser):
    """Writes HTML as Markdown: headings, lists, rows of tables, paragraphs; scripts, styles and drawings are left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title: list[str] = []
        self._unseen: list[str] = []
        self._lists: list[int | None] = []
        """Of each list that is open: the number of its next entry, None without numbers."""
        self._in_title = self._in_cell = False
        self._preformatted = self._lines = 0
        self._mark = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        if self._unseen or tag in _UNSEEN:
            if tag in _UNSEEN:
                self._unseen.append(tag)
            return
        if tag == "title":
            self._in_title = True
        elif tag in _HEADINGS:
            self._break(2, f"{_HEADINGS[tag]} ")
        elif tag == "li":
            number = self._lists[-1] if self._lists else None
            if number is not None:
                self._lists[-1] = number + 1
            self._break(1, "  " * (len(self._lists) - 1) + ("- " if number is None else f"{number}. "))
        elif tag == "tr":
            self._in_cell = False
            self._break(1)
        elif tag in ("td", "th"):
            if self._in_cell:
                self._write(" | ")
            self._in_cell = True
        elif tag == "br":
            if self._in_cell:
                self._write(" ")
            else:
                self._break(1)
        elif tag == "img":
            self.handle_data(f" {dict(attrs).get('alt') or ''} ")
        elif tag == "pre":
            self._preformatted += 1
            self._break(2)
        elif tag in _BLOCKS and not (self._in_cell and tag in ("p", "div")):
            if tag in ("ul", "ol"):
                self._lists.append(1 if tag == "ol" else None)
            if tag == "table":
                self._in_cell = False
            self._break(1 if tag in ("ul", "ol") and len(self._lists) > 1 else 2)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element without content, as XHTML writes it."""
        if tag not in _UNSEEN:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """End an element; what was left open inside is taken as ended."""
        if self._unseen:
            if tag in self._unseen:
                del self._unseen[self._unseen.index(tag) :]
            return
        if tag == "title":
            self._in_title = False
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
            self._break(1 if self._lists else 2)
        elif tag == "tr" or tag == "table":
            self._in_cell = False
            self._break(1 if tag == "tr" else 2)
        elif tag == "pre":
            self._preformatted = max(self._preformatted - 1, 0)
            self._break(2)
        elif tag in _HEADINGS or (tag in _BLOCKS and not self._in_cell):
            self._break(2)

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._unseen:
            return
        if self._in_title:
            self.title.append(data)
        elif self._preformatted:
            self._write(data)
        else:
            self._write(re.sub(r"\s+", " ", data))

    def _break(self, lines: int, mark: str = "") -> None:
        """Start what follows after `lines` line breaks, with a mark; a mark that waits for its text keeps its position."""
        if mark or not self._mark:
            self._lines, self._mark = max(self._lines, lines), mark

    def _write(self, text: str) -> None:
        if text.strip() or not self._lines:
            self.pieces.append("\n" * self._lines + self._mark + (text.lstrip() if self._lines and not self._preformatted else text))
            self._lines, self._mark = 0, ""


def html_text(html: str) -> str:
    """Return the text of a web page as Markdown; its title is a heading unless it has one."""
    writer = _Writer()
    writer.feed(html)
    writer.close()
    text = tidy("".join(writer.pieces))
    title = " ".join("".join(writer.title).split())
    return f"# {title}\n\n{text}" if title and not text.startswith("# ") else text


def tidy(text: str) -> str:
    """Return text without blanks at the ends of lines, marks of headings and entries without text, and more than one empty line at once."""
    lines = [re.sub(r"(?<=\S)[ \t\u00a0]+", " ", line).rstrip() for line in text.replace("\r", "").split("\n")]
    lines = [re.sub(r"^ (?=\S)", "", line) for line in lines if not re.fullmatch(r"#{1,6}|\s*(?:-|\d+\.)", line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def read_html(file: BinaryIO, max_bytes: int) -> str:
    """Return the text of a web page; its encoding is what it says, or what it reads as."""
    return html_text(decode_page(_read(file, max_bytes)))


def decode_page(data: bytes) -> str:
    """Decode a web page: in the encoding that it says, or that it reads as."""
    if (match := _CHARSET.search(data[:4096])) and not data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        try:
            return data.decode((match[1] or match[2]).decode())
        except (LookupError, UnicodeDecodeError):  # it says something that it is not
            pass
    return decode_text(data)


def _read(file: BinaryIO, max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise MediaError(f"has more than {max_bytes} bytes of text")
    return data


def read_epub(archive: zipfile.ZipFile) -> str:
    """Return the text of a book, chapter by chapter in the order of reading."""
    package, root = read_book(archive)
    parts = {element.get("id"): element.get("href") or "" for element in root.iter() if local_name(element) == "item"}
    order = [parts.get(element.get("idref")) for element in root.iter() if local_name(element) == "itemref"]
    titles = [element.text or "" for element in root.iter() if local_name(element) == "title"][:1]
    names = [normpath(str(PurePosixPath(package).parent / unquote(href.partition("#")[0]))) for href in order if href]
    chapters = [html_text(decode_page(_content(archive, name))) for name in names]
    return "\n\n".join(filter(None, [*(f"# {title.strip()}" for title in titles if title.strip()), *chapters]))


def read_book(archive: zipfile.ZipFile) -> tuple[str, ElementTree.Element]:
    """Return the name and the content of a book's package: its metadata, its parts and their order. Raises MediaError."""
    if "META-INF/rights.xml" in archive.namelist():
        raise MediaError("is a book that is encrypted against copying")
    container = read_part(archive, "META-INF/container.xml")
    package = next((element.get("full-path") for element in container.iter() if local_name(element) == "rootfile"), None)
    if not package:
        raise MediaError("is a book without a list of its parts")
    return package, read_part(archive, package)


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise MediaError(f"lacks its part {name!r}") from error


def read_part(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    """Parse an XML part of an archive. Raises MediaError, and ParseError if it is damaged."""
    data = _content(archive, name)
    if b"<!ENTITY" in data:
        raise MediaError(f"its part {name!r} declares entities, which are not read")
    return ElementTree.fromstring(data)


def local_name(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]
