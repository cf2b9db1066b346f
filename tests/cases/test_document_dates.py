"""Converted documents and mails took their dates from file names only (issue 23, 3)."""

import zipfile
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import openpyxl
import pptx
import pytest

from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.decode import read_metadata
from embedrl.media.metadata import Metadata
from embedrl.testing import FakeEmbedder
from tests.cases.test_office import paragraph, write_docx, zipped
from tests.coloured_folder import picture

WRITTEN = datetime(2019, 7, 1, 12, 34, 56, tzinfo=UTC)
CORE = (
    '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"><dc:title>The Wolf</dc:title>'
    "<dc:creator>Ann Lee</dc:creator><cp:keywords>forest</cp:keywords>{dates}</cp:coreProperties>"
)
CREATED, MODIFIED = "<dcterms:created>2019-07-01T12:34:56Z</dcterms:created>", "<dcterms:modified>2020-01-01T00:00:00Z</dcterms:modified>"


def metadata_of(path: Path) -> Metadata:
    return read_metadata(path, "text")


def write_word(path: Path, core: str) -> Path:
    write_docx(path, paragraph("A red star."))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("docProps/core.xml", core)
    return path


def write_slides(path: Path) -> Path:
    slides = pptx.Presentation()
    slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "A red star"
    slides.core_properties.created, slides.core_properties.title = WRITTEN.replace(tzinfo=None), "The Wolf"
    slides.core_properties.author = "Ann Lee"
    slides.save(str(path))
    return path


def write_sheet(path: Path) -> Path:
    book = openpyxl.Workbook()
    book.active["A1"] = "A red star"
    book.properties.created, book.properties.title, book.properties.creator = WRITTEN.replace(tzinfo=None), "The Wolf", "Ann Lee"
    book.save(path)
    return path


def write_mail(path: Path, date: str | None = "Mon, 01 Jul 2019 14:34:56 +0200") -> Path:
    message = EmailMessage()
    message["Subject"], message["From"] = "The Wolf", "Ann Lee <ann@example.org>"
    message.set_content("A red star.")
    data = message.as_bytes()
    path.write_bytes(data if date is None else f"Date: {date}\n".encode() + data)
    return path


def write_page(path: Path, *metas: str) -> Path:
    path.write_text(f"<html><head><title>The Wolf</title>{''.join(metas)}</head><body><title>not this</title>A red star.</body></html>")
    return path


def write_book(path: Path, metadata: str) -> Path:
    container = '<container><rootfiles><rootfile full-path="book.opf"/></rootfiles></container>'
    package = (
        f'<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>{metadata}</metadata>'
        '<manifest><item id="a" href="a.html"/></manifest><spine><itemref idref="a"/></spine></package>'
    )
    parts = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "book.opf": package, "a.html": "<p>A red star.</p>"}
    return zipped(path, parts)


@pytest.mark.parametrize(
    ("write", "source"),
    [
        (lambda folder: write_word(folder / "a.docx", CORE.format(dates=MODIFIED + CREATED)), "office"),
        (lambda folder: write_slides(folder / "a.pptx"), "office"),
        (lambda folder: write_sheet(folder / "a.xlsx"), "office"),
        (lambda folder: write_mail(folder / "a.eml"), "mail"),
        (lambda folder: write_mail(folder / "a.eml", "Mon, 1 Jul 2019 12:34:56 -0000"), "mail"),
        (
            lambda folder: write_page(
                folder / "a.html",
                '<meta name="author" content="Ann Lee">',
                '<meta name="dcterms.modified" content="2021-01-01">',
                '<META property="article:published_time" content="2019-07-01T12:34:56Z">',
            ),
            "html",
        ),
        (
            lambda folder: write_book(
                folder / "a.epub",
                "<dc:title>The Wolf</dc:title><dc:creator>Ann Lee</dc:creator><dc:date>2019-07-01T12:34:56Z</dc:date>"
                '<meta property="dcterms:modified">2021-01-01T00:00:00Z</meta>',
            ),
            "epub",
        ),
    ],
)
def test_documents_say_when_they_were_written_by_whom_and_what_they_are_called(tmp_path: Path, write: object, source: str):
    found = metadata_of(write(tmp_path))
    assert (found.captured_s, found.captured_from) == (WRITTEN.timestamp(), source)
    assert found.about.split("\n")[0] == "The Wolf"
    assert "Ann Lee" in found.about
    assert "not this" not in found.about
    assert found.damaged == ()


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda folder: write_word(folder / "a.docx", CORE.format(dates=MODIFIED)), datetime(2020, 1, 1, tzinfo=UTC)),
        (lambda folder: write_book(folder / "a.epub", "<dc:date>2019-07-01</dc:date>"), datetime(2019, 7, 1, 12)),
        (lambda folder: write_page(folder / "a.html", '<meta itemprop="datePublished" content="2019-07-01">'), datetime(2019, 7, 1, 12)),
        (lambda folder: write_book(folder / "a.epub", "<dc:date>1999</dc:date>"), None),
        (lambda folder: write_mail(folder / "a.eml", None), None),
    ],
)
def test_dates_of_other_precision(tmp_path: Path, write: object, expected: datetime | None):
    assert metadata_of(write(tmp_path)).captured_s == (expected.timestamp() if expected else None)


def test_damaged_properties_are_named_and_take_nothing_with_them(tmp_path: Path):
    found = metadata_of(write_mail(tmp_path / "2019-07-01 mail.eml", "the day before yesterday"))
    assert (found.captured_from, found.damaged) == ("name", ("mail date",))
    assert found.about.startswith("The Wolf")
    found = metadata_of(write_word(tmp_path / "2019-07-01 a.docx", "<cut"))
    assert (found.captured_from, found.damaged) == ("name", ("properties",))
    found = metadata_of(write_word(tmp_path / "b.docx", '<!DOCTYPE a [<!ENTITY b "c">]>' + CORE.format(dates=CREATED)))
    assert (found.captured_from, found.damaged) == (None, ("properties",))


def test_a_mail_is_found_by_the_day_it_was_sent_and_by_who_sent_it(tmp_path: Path):
    write_mail(tmp_path / "a.eml")
    write_mail(tmp_path / "b.eml", "Tue, 02 Jul 2024 10:00:00 +0000")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    ingest(tmp_path, index, None, FakeEmbedder(), think=False)
    day_s = 24 * 3600
    during = Filter(since_s=WRITTEN.timestamp() - day_s, until_s=WRITTEN.timestamp() + day_s)
    assert [hit.path.name for hit in search(index, Query(filter=during)).hits] == ["a.eml"]
    assert {hit.path.name for hit in search(index, Query(filter=Filter(words=("ann", "lee")))).hits} == {"a.eml", "b.eml"}


def test_a_pdf_says_when_it_was_written_and_by_whom(tmp_path: Path):
    picture("red").save(tmp_path / "a.pdf", title="The Wolf", author="Ann Lee", creationDate=WRITTEN.timetuple())
    found = read_metadata(tmp_path / "a.pdf", "page")
    assert (found.captured_s, found.captured_from) == (WRITTEN.timestamp(), "pdf")
    assert found.about.split("\n")[:2] == ["The Wolf", "Ann Lee"]
