"""Properties of documents: when they were written, title, author and keywords; of mails, office documents, books and web pages.

Read in the child process that decodes. A group of properties that is damaged is named, and the text is read all the same.
"""

from collections.abc import Iterator, Mapping
from email import message_from_binary_file, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, BinaryIO

from embedrl.media.dates import first_seconds
from embedrl.media.mail import header_of, sent_seconds
from embedrl.media.markup import decode_page, local_name, read_book, read_part
from embedrl.media.metadata import captured, damage_noted
from embedrl.media.office import open_archive
from embedrl.media.rich_text import document_info
from embedrl.media.store import DEFAULT, HEAD_BYTES, Limits, document_format, open_regular

_MAX_HEAD_BYTES = 1024**2
"""Part of a web page in which its head is looked for."""
_CORE = "docProps/core.xml"
_WORDS = ("title", "creator", "subject", "keywords", "description")
_RTF_WORDS = ("title", "author", "subject", "keywords", "doccomm")
_WRITTEN = ("created", "modified")
"""Dates of office documents, in this order."""
_META_WORDS = ("author", "dc.creator", "dcterms.creator", "article:author", "description", "og:description", "keywords")
_META_DATES = (
    *("article:published_time", "datepublished", "dcterms.created", "dc.date.created", "dcterms.issued", "dcterms.date", "dc.date", "date"),
    *("citation_publication_date", "pubdate", "dcterms.modified", "article:modified_time", "datemodified"),
)
"""Names of dates in web pages (Open Graph, schema.org, Dublin Core, Highwire): when they were published, then when they changed."""


def document_properties(path: Path, limits: Limits = DEFAULT) -> list[dict[str, Any]]:
    """Return what a document says of itself, as sources of `metadata.merge`. Raises MediaError if it cannot be opened."""
    sources: list[dict[str, Any]] = []
    with open_regular(path, limits) as file, damage_noted(sources, "properties"):
        name = document_format(path.suffix, file.read(HEAD_BYTES))
        file.seek(0)
        match name:
            case "EML":
                sources += _of_mail(file)
            case "HTML":
                sources.append(_of_page(file))
            case "EPUB":
                sources.append(_of_book(file, limits))
            case "DOCX" | "PPTX" | "XLSX":
                sources.append(_of_office(file, limits))
            case "ODT" | "ODS" | "ODP":
                sources.append(_of_open_document(file, limits))
            case "RTF":
                info = document_info(file.read(_MAX_HEAD_BYTES))
                sources.append({"about": [info.get(name) for name in _RTF_WORDS], **captured(first_seconds(_rtf_dates(info)), "office")})
    return sources


def _of_mail(file: BinaryIO) -> list[dict[str, Any]]:
    message = message_from_binary_file(file, policy=policy.default)
    assert isinstance(message, EmailMessage)
    sources: list[dict[str, Any]] = [{"about": [header_of(message, "Subject"), header_of(message, "From")]}]
    with damage_noted(sources, "mail date"):
        sources.append(captured(sent_seconds(header_of(message, "Date")), "mail"))
    return sources


def _of_office(file: BinaryIO, limits: Limits) -> dict[str, Any]:
    archive = open_archive(file, limits)
    if _CORE not in archive.namelist():
        return {}
    values = {local_name(element): element.text or "" for element in read_part(archive, _CORE)}
    return {"about": [values.get(name) for name in _WORDS], **captured(first_seconds(values.get(name, "") for name in _WRITTEN), "office")}


def _of_open_document(file: BinaryIO, limits: Limits) -> dict[str, Any]:
    archive = open_archive(file, limits)
    values: dict[str, list[str]] = {}
    for element in read_part(archive, "meta.xml").iter() if "meta.xml" in archive.namelist() else ():
        values.setdefault(local_name(element), []).append(element.text or "")
    words = [word for name in ("title", "creator", "subject", "keyword", "description") for word in values.get(name, ())]
    return {"about": words, **captured(first_seconds([*values.get("creation-date", []), *values.get("date", [])]), "office")}


def _rtf_dates(info: Mapping[str, str]) -> Iterator[str]:
    yield from (info[name] for name in ("creatim", "revtim") if name in info)


def _of_book(file: BinaryIO, limits: Limits) -> dict[str, Any]:
    values: dict[str, list[str]] = {}
    _, package = read_book(open_archive(file, limits))
    for element in next((child for child in package if local_name(child) == "metadata"), ()):
        name = local_name(element) if local_name(element) != "meta" else str(element.get("property", "")).rpartition(":")[2]
        values.setdefault(name, []).append(element.text or "")
    dates = [*values.get("date", []), *values.get("modified", [])]
    return {"about": [word for name in _WORDS for word in values.get(name, ())], **captured(first_seconds(dates), "epub")}


def _of_page(file: BinaryIO) -> dict[str, Any]:
    head = _Head()
    head.feed(decode_page(file.read(_MAX_HEAD_BYTES)))
    words = [head.title, *(head.meta.get(name) for name in _META_WORDS)]
    return {"about": words, **captured(first_seconds(head.meta.get(name, "") for name in _META_DATES), "html")}


class _Head(HTMLParser):
    """Title and `<meta>` of a web page; of several of a name the first."""

    def __init__(self) -> None:
        super().__init__()
        self.meta: dict[str, str] = {}
        self.title = ""
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a `<meta>` with a name and a content, and see a title begin."""
        values: Mapping[str, str] = {name: value or "" for name, value in attrs}
        self._in_title = tag == "title" and not self.title
        if tag == "meta" and (name := next(_names(values), "")):
            self.meta.setdefault(name, values.get("content", ""))

    def handle_endtag(self, tag: str) -> None:
        """See a title end."""
        self._in_title = False

    def handle_data(self, data: str) -> None:
        """Keep the text of the title."""
        if self._in_title:
            self.title += data


def _names(values: Mapping[str, str]) -> Iterator[str]:
    yield from (values[name].strip().casefold() for name in ("name", "property", "itemprop") if values.get(name))
