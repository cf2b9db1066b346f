"""Office documents, books, web pages and mails are found by their words, with their structure, within the limits (issue 23, 2)."""

import io
import zipfile
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path

import openpyxl
import pptx
import pytest

from embedrl.errors import MediaError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.media import kinds
from embedrl.media.decode import read_metadata, read_text
from embedrl.media.kinds import Package
from embedrl.media.markup import html_text
from embedrl.media.office import document_text
from embedrl.media.store import Limits, document_format, media_kind
from embedrl.server.sandbox import decode as decode_upload
from embedrl.testing import FakeEmbedder

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Target="word/document.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
)


def zipped(path: Path, parts: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def write_docx(path: Path, *blocks: str) -> Path:
    body = f'<w:document xmlns:w="{WORD}"><w:body>{"".join(blocks)}</w:body></w:document>'
    return zipped(path, {"[Content_Types].xml": CONTENT_TYPES, "_rels/.rels": RELATIONS, "word/document.xml": body})


def write_letter(path: Path) -> Path:
    cells = "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in ("lamp", "12"))
    return write_docx(path, paragraph("Terms", "Heading1"), paragraph("A red star &amp; a wolf."), f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>")


def write_slides(path: Path) -> Path:
    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[1])
    slide.shapes.title.text = "Plan"
    slide.placeholders[1].text_frame.text = "first"
    slide.placeholders[1].text_frame.add_paragraph().text = "second"
    slide.shapes.add_table(1, 2, 0, 0, 9999, 9999).table.cell(0, 1).text = "cell"
    slide.notes_slide.notes_text_frame.text = "speak slowly"
    slides.save(str(path))
    return path


def write_sheet(path: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.title = "Stock"
    book.active.append(["lamp", 12.0, True])
    book.active.append([])
    book.active.append(["wolf", None, 1.5])
    book.create_sheet("Empty")
    book.save(path)
    return path


def write_book(path: Path) -> Path:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata><dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">A Book</dc:title>'
        '</metadata><manifest><item id="b" href="text/b%20two.xhtml"/><item id="a" href="text/a.xhtml"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )
    chapter = (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body><h1>{0}</h1><p>of {0}.</p></body></html>'
    )
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": package,
        "OEBPS/text/a.xhtml": chapter.format("Größe"),
        "OEBPS/text/b two.xhtml": chapter.format("Two"),
    }
    return zipped(path, parts, zipfile.ZIP_STORED)


def write_mail(path: Path) -> Path:
    mail, inner = EmailMessage(), EmailMessage()
    mail["Subject"], mail["From"], mail["To"], mail["Date"] = "Größe", "a@example.org", "b@example.org", "Mon, 01 Jul 2019 12:00:00 +0000"
    mail.set_content("The parcel is at the post office.\n")
    mail.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="bill.pdf")
    inner["Subject"] = "Before"
    inner.set_content("<p>Where <b>is</b> it?</p><style>p {}</style>", subtype="html")
    mail.add_attachment(inner)
    path.write_bytes(mail.as_bytes())
    return path


PAGE = (
    "<!DOCTYPE html><html><head><title>A page</title><style>p {color: red}</style></head><body><h2>Part</h2><p>One\n line<br>two "
    "&amp; three</p><ul><li>a<ul><li>b</li></ul></li></ul><ol><li>x<li>y</ol><table><tr><th>k</th><th>v</th></tr><tr><td><p>1</p></td>"
    "<td>2</td></tr></table><pre>a\n  b</pre><script>alert(1)</script></body></html>"
)
PAGE_TEXT = "# A page\n\n## Part\n\nOne line\ntwo & three\n\n- a\n  - b\n\n1. x\n2. y\n\nk | v\n1 | 2\n\na\n  b"


def write_page(path: Path) -> Path:
    path.write_text(PAGE)
    return path


OFFICE = "urn:oasis:names:tc:opendocument:xmlns:"
NAMESPACES = " ".join(f'xmlns:{name}="{OFFICE}{name}:1.0"' for name in ("office", "text", "table", "presentation", "meta", "manifest"))
META = "<meta:creation-date>2019-07-01T12:00:00Z</meta:creation-date><meta:keyword>moor</meta:keyword>"


def write_open_document(path: Path, kind: str, body: str, **parts: str) -> Path:
    content = f'<office:document-content {NAMESPACES} xmlns:draw="d"><office:body><office:{kind}>{body}</office:{kind}></office:body>'
    meta = f"<office:document-meta {NAMESPACES}><office:meta>{META}</office:meta></office:document-meta>"
    mimetype = f"application/vnd.oasis.opendocument.{kind}"
    whole = {"mimetype": mimetype, "content.xml": content + "</office:document-content>", "meta.xml": meta}
    return zipped(path, {**whole, **parts}, zipfile.ZIP_STORED)


def write_open_text(path: Path) -> Path:
    body = "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
    body += '<text:h text:outline-level="2">Größe</text:h><text:p>A<text:s text:c="2"/><text:span>red</text:span><text:tab/>star'
    body += "<text:note><text:note-body><text:p>a note</text:p></text:note-body></text:note>.</text:p>"
    inner = "<text:list><text:list-item><text:p>inner</text:p></text:list-item></text:list>"
    body += f"<text:list><text:list-item><text:p>one</text:p>{inner}</text:list-item>"
    return write_open_document(path, "text", f"{body}<text:list-item><text:p>two</text:p></text:list-item></text:list>")


def write_open_sheet(path: Path) -> Path:
    cells = "<table:table-cell><text:p>lamp</text:p></table:table-cell>"
    cells += "<table:table-cell table:number-columns-repeated='2'><text:p>7</text:p></table:table-cell>"
    cells += "<table:table-cell table:number-columns-repeated='16000'/>"
    rows = f"<table:table-row>{cells}</table:table-row><table:table-row><table:table-cell/></table:table-row>"
    return write_open_document(path, "spreadsheet", f'<table:table table:name="Stock">{rows}</table:table>')


def write_open_slides(path: Path) -> Path:
    notes = "<presentation:notes><text:p>speak slowly</text:p></presentation:notes>"
    slide = f'<draw:page draw:name="Plan"><draw:frame><draw:text-box><text:p>first</text:p></draw:text-box></draw:frame>{notes}</draw:page>'
    return write_open_document(path, "presentation", slide)


RTF = (
    r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss Arial;}{\f1\fnil\fcharset204 Arial Cyr;}{\f2\fnil\fcharset128 Gothic;}}"
    r"{\info{\title A letter}{\keywords moor}{\creatim\yr2019\mo7\dy1\hr12\min0}}{\header never}{\*\unknown hidden}"
    r"\pard\f0 Gr\'f6\'dfe {\b bold} \u8364? \u-10179?\u-8704?\par {\f1 \'c7\'e2\'e5\'e7\'e4\'e0} {\f2 \'83A\'93\'8c}\par"
    r"\trowd a\cell b\cell\row {\pict\bin3 }}}}x\line\{y\}}"
)


def write_rich_text(path: Path) -> Path:
    path.write_bytes(RTF.encode("ascii"))
    return path


WRITERS = {".docx": write_letter, ".pptx": write_slides, ".xlsx": write_sheet, ".epub": write_book, ".eml": write_mail, ".html": write_page}
WRITERS |= {".odt": write_open_text, ".ods": write_open_sheet, ".odp": write_open_slides, ".rtf": write_rich_text}
TEXTS = {
    ".docx": "# Terms\n\nA red star & a wolf.\n\nlamp | 12",
    ".pptx": "## Plan\n\n- first\n- second\n\n| cell\n\nNotes: speak slowly",
    ".xlsx": "## Stock\n\nlamp | 12 | TRUE\nwolf |  | 1.5",
    ".epub": "# A Book\n\n# Größe\n\nof Größe.\n\n# Two\n\nof Two.",
    ".eml": "# Größe\n\nFrom: a@example.org\nTo: b@example.org\nDate: Mon, 01 Jul 2019 12:00:00 +0000\n\n"
    "The parcel is at the post office.\n\nAttachments: bill.pdf\n\n## Before\n\nWhere is it?",
    ".html": PAGE_TEXT,
    ".odt": "## Größe\n\nA red star (a note).\n\n- one\n  - inner\n- two",
    ".ods": "## Stock\n\nlamp | 7 | 7",
    ".odp": "## Plan\n\nfirst\n\nNotes: speak slowly",
    ".rtf": "Größe bold € 😀\n\nЗвезда ア東\n\na | b\nx\n{y}",
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_document_is_text_with_structure(tmp_path: Path, suffix: str):
    path = WRITERS[suffix](tmp_path / f"document{suffix}")
    assert media_kind(path) == "text"
    assert [line.strip() for line in document_text(path).split("\n")] == [line.strip() for line in TEXTS[suffix].split("\n")]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_document_without_a_name_is_known_by_its_content(tmp_path: Path, suffix: str):
    path = WRITERS[suffix](tmp_path / "upload")
    decoded = decode_upload(path, Limits(), num_frames=8)
    assert (decoded.kind, decoded.format) == ("text", document_format(suffix, path.read_bytes()[:4096]))


def take_in(folder: Path, limits: Limits | None = None) -> IngestReport:
    return ingest(folder, Index.open(folder, embedder=FakeEmbedder()), None, FakeEmbedder(), think=False, limits=limits)


def test_documents_are_indexed_by_passages_and_found(tmp_path: Path):
    for suffix, write in WRITERS.items():
        write(tmp_path / f"document{suffix}")
    sections = [block for number in range(40) for block in (paragraph(f"Part {number}", "Heading1"), paragraph(f"word{number} " * 30))]
    write_docx(tmp_path / "long.docx", *sections)
    report = take_in(tmp_path)
    assert report.failures == ()
    assert report.unread_kinds == {}
    index = Index.open(tmp_path)
    passages = [place for place in index.places() if place.path.name == "long.docx"]
    assert len(passages) > 3
    whole = read_text(tmp_path / "long.docx")
    for row in index.rows([place.key for place in passages]):
        assert row.text == whole[row.place.start_char : row.place.end_char]
        assert row.place.start_byte is None
    assert take_in(tmp_path).unchanged == report.added


def test_without_its_package_a_document_is_listed_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_letter(tmp_path / "letter.docx")
    write_letter(tmp_path / "letter")
    with monkeypatch.context() as patch:
        patch.setitem(kinds.PACKAGES, "DOCX", Package("a Word document", "no-such", "no_such_package", "documents", (".docx",)))
        report = take_in(tmp_path)
        assert report.unread_kinds == {".docx": 1}
        for failure in report.failures:
            assert failure.reason.startswith("is a Word document, which needs the package no-such: pip install 'embedrl[documents]'")
        assert len(report.failures) == 2
    assert take_in(tmp_path).failures == ()


def bomb(path: Path, size: int) -> Path:
    body = f'<w:document xmlns:w="{WORD}"><w:body>{paragraph(" " * size)}</w:body></w:document>'
    return zipped(path, {"[Content_Types].xml": CONTENT_TYPES, "_rels/.rels": RELATIONS, "word/document.xml": body})


ENTITIES = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


def test_what_cannot_be_converted_is_refused_with_the_reason(tmp_path: Path):
    limits = Limits(decode_memory_bytes=64 * 1024**2, max_text_chars=1000, decode_timeout_s=20)
    whole = write_letter(tmp_path / "whole.docx").read_bytes()
    (tmp_path / "cut.docx").write_bytes(whole[:-60])
    (tmp_path / "no.docx").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "whole.docx").unlink()
    bomb(tmp_path / "bomb.docx", 65 * 1024**2)
    write_docx(tmp_path / "empty.docx", paragraph(""))
    write_docx(tmp_path / "long.docx", paragraph("word " * 2001))
    zipped(tmp_path / "nothing.xlsx", {"xl/workbook.xml": ""})
    parts = {"mimetype": "application/epub+zip", "META-INF/container.xml": f"{ENTITIES}<container>&b;</container>"}
    zipped(tmp_path / "entities.epub", parts, zipfile.ZIP_STORED)
    zipped(tmp_path / "locked.epub", {"mimetype": "application/epub+zip", "META-INF/rights.xml": "<r/>"}, zipfile.ZIP_STORED)
    (tmp_path / "long.html").write_text("<p>" + "word " * 2001)
    (tmp_path / "deep.html").write_text("<div>" * 1000 + "a deep word")
    reasons = {failure.path.name: failure.reason for failure in take_in(tmp_path, limits).failures}
    words = {
        "cut.docx": "damaged or cut short",
        "no.docx": "is named like a Word document, but holds no format we read",
        "bomb.docx": "more than decode_memory_bytes=",
        "empty.docx": "holds no text",
        "long.docx": "10 times max_text_chars=1000",
        "nothing.xlsx": "damaged",
        "entities.epub": "declares entities",
        "locked.epub": "encrypted",
        "long.html": "10 times max_text_chars=1000",
    }
    assert reasons.keys() == words.keys()
    for name, said in words.items():
        assert said in reasons[name], name


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("a < b &amp; c &lt; d", "a < b & c < d"),
        ("<p>a<p>b</div></p><script>x", "a\n\nb"),
        ("<h1>t</h1><h2></h2><li>", "# t"),
        ("<td>a<td>b", "a | b"),
        ("<svg><text>no</text></svg>yes<br/>", "yes"),
        ("<img alt='a lake'>&nbsp;x", "a lake x"),
    ],
)
def test_web_pages_as_they_are_written(html: str, text: str):
    assert html_text(html) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ('<html><meta charset="windows-1251"><p>Звезда'.encode("cp1251"), "Звезда"),
        ("<html><meta charset='utf-8'><p>Größe".encode("cp1252"), "Größe"),
        ("<html><p>Größe".encode("utf-16"), "Größe"),
    ],
)
def test_the_encoding_of_a_web_page(tmp_path: Path, data: bytes, text: str):
    (tmp_path / "a.html").write_bytes(data)
    assert read_text(tmp_path / "a.html") == text


@pytest.mark.parametrize("name", ["notes.md", "notes.txt", "notes"])
def test_a_text_that_begins_like_a_mail_or_a_page_stays_a_text(tmp_path: Path, name: str):
    text = "From: me\nwith love\n" if name != "notes.md" else PAGE
    (tmp_path / name).write_text(text)
    assert read_text(tmp_path / name) == text


def test_an_encrypted_document_is_told_from_a_damaged_one(tmp_path: Path):
    data = bytearray(write_letter(tmp_path / "a.docx").read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        at = data.index(b"PK\1\2")
        assert archive.infolist()
    data[at + 8] |= 1
    (tmp_path / "a.docx").write_bytes(bytes(data))
    with pytest.raises(MediaError, match=r"a\.docx': is encrypted"):
        document_text(tmp_path / "a.docx")


@pytest.mark.parametrize("suffix", [".odt", ".rtf"])
def test_open_documents_and_rich_texts_say_when_they_were_written(tmp_path: Path, suffix: str):
    path = WRITERS[suffix](tmp_path / f"document{suffix}")
    metadata = read_metadata(path, "text")
    zone = "Z" if suffix == ".odt" else ""
    assert (metadata.captured_s, metadata.captured_from) == (datetime.fromisoformat(f"2019-07-01T12:00:00{zone}").timestamp(), "office")
    assert "moor" in metadata.about


def test_an_open_document_with_a_password_is_told_from_a_damaged_one(tmp_path: Path):
    entry = '<manifest:file-entry manifest:full-path="content.xml"><manifest:encryption-data/></manifest:file-entry>'
    manifest = f"<manifest:manifest {NAMESPACES}>{entry}</manifest:manifest>"
    write_open_document(tmp_path / "a.odt", "text", "", **{"META-INF/manifest.xml": manifest})
    with pytest.raises(MediaError, match=r"a\.odt': is encrypted; save a copy without a password"):
        document_text(tmp_path / "a.odt")


@pytest.mark.parametrize(
    "data", [b"{\\rtf1", b"{\\rtf1" + b"{" * 5000 + b"x", b"{\\rtf1 \\u999999999 \\bin99999 x", b"{\\rtf1 \\'zz \\f9 \\"]
)
def test_damaged_rich_text_never_breaks_the_reader(tmp_path: Path, data: bytes):
    (tmp_path / "a.rtf").write_bytes(data)
    with suppress(MediaError):
        document_text(tmp_path / "a.rtf")


def test_a_character_of_two_bytes_may_stand_on_two_lines(tmp_path: Path):
    (tmp_path / "a.rtf").write_bytes(b"{\\rtf1\\ansi\\ansicpg932 \\'83\r\n\\'4e}")
    assert document_text(tmp_path / "a.rtf") == "ク"


def test_a_long_row_of_empty_cells_costs_no_more_than_another(tmp_path: Path):
    (tmp_path / "a.rtf").write_bytes(b"{\\rtf1 a" + b"\\cell" * 200_000 + b" x\\cell\\cell\\row}")
    text = document_text(tmp_path / "a.rtf")  # quadratic, it would end at decode_timeout_s
    assert (text.count("|"), text[-1]) == (200_000, "x")


def test_text_boxes_inside_text_boxes_are_read_once(tmp_path: Path):
    open_box, close_box = "<text:p>a<draw:frame><draw:text-box>", "</draw:text-box></draw:frame></text:p>"
    write_open_document(tmp_path / "a.odt", "text", open_box * 30 + "<text:p>deep</text:p>" + close_box * 30)
    assert document_text(tmp_path / "a.odt").split() == ["a"] * 30 + ["deep"]
    note = f"<text:note><text:note-body>{open_box}<text:p>noted</text:p>{close_box}</text:note-body></text:note>"
    write_open_document(tmp_path / "a.odt", "text", f"<text:p>b{note}</text:p>")
    assert document_text(tmp_path / "a.odt") == "b (a noted)"
