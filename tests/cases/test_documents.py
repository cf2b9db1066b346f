"""Documents as viewers show them: forms and notes, pages that are long and thin, words that a line end divides.

Reported: what was filled into a form was neither seen nor found; a receipt was 23 pixels wide; notes on a coarse scan could not be read;
`--words foundation` missed "founda-tion" (media.md 7, 12 and 19).
"""

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pypdfium2
import pytest

from embedrl.media.content import Page
from embedrl.media.document import load_page, page_text
from embedrl.media.store import Limits
from tests.odd_media import corner_image


def write_pdf(path: Path, objects: Sequence[str], size: tuple[int, int] = (300, 200), *, form: str = "", page: str = "") -> Path:
    """Write a page; `objects` are numbered from 5, and its content is number 4, the first of them."""
    numbered = [
        f"<</Type/Catalog/Pages 2 0 R{form}>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]} {size[1]}]/Contents 4 0 R"
        f"/Resources<</Font<</F1 <</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>{page}>>",
        *objects,
    ]
    body, starts = b"%PDF-1.7\n", []
    for number, content in enumerate(numbered, 1):
        starts.append(len(body))
        body += f"{number} 0 obj{content}endobj\n".encode("latin-1")
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(numbered) + 1, len(body))
    path.write_bytes(body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(numbered) + 1) + table + tail)
    return path


def stream(drawing: str) -> str:
    return f"<</Length {len(drawing)}>>stream\n{drawing}\nendstream "


def ink(image: PIL.Image.Image) -> float:
    return sum(image.convert("L").histogram()[:128]) / (image.width * image.height)


FORM = "/AcroForm<</Fields[5 0 R 6 0 R 7 0 R]/DR<</Font<</F1 <</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>/DA(/F1 12 Tf 0 g){}>>"
WIDGET = "<</Type/Annot/Subtype/Widget/P 3 0 R/F 4/DA(/F1 12 Tf 0 g)"


@pytest.mark.parametrize("needed", ["", "/NeedAppearances true"])
def test_what_was_filled_into_a_form_is_seen_and_read(tmp_path: Path, needed: str):
    fields = [
        WIDGET + "/FT/Tx/T(name)/V(Jane Redstar)/Rect[100 140 280 164]>>",
        WIDGET + "/FT/Ch/Ff 131072/T(town)/Opt[(Lisbon)(Porto)]/V(Porto)/Rect[100 100 280 124]>>",
        WIDGET + "/FT/Tx/Ff 8192/T(secret)/V(hunter2)/Rect[100 60 280 84]>>",
    ]
    content = stream("BT /F1 12 Tf 20 146 Td (Name:) Tj ET")
    path = write_pdf(tmp_path / "form.pdf", [content, *fields], form=FORM.format(needed), page="/Annots[5 0 R 6 0 R 7 0 R]")
    empty = write_pdf(tmp_path / "empty.pdf", [content])
    text = page_text(Page(path=path))
    assert text.split("\n") == ["Name:", "Jane Redstar", "Porto"]
    assert ink(load_page(Page(path=path))) > 2 * ink(load_page(Page(path=empty)))


def test_the_page_is_drawn_as_pdfium_draws_it_with_forms(tmp_path: Path):
    field = WIDGET + "/FT/Tx/T(name)/V(Jane Redstar)/Rect[100 140 280 164]>>"
    form = "/AcroForm<</Fields[5 0 R]/DR<</Font<</F1 <</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>/DA(/F1 12 Tf 0 g)>>"
    path = write_pdf(tmp_path / "form.pdf", [stream(" "), field], form=form, page="/Annots[5 0 R]")
    ours = load_page(Page(path=path))
    with pypdfium2.PdfDocument(path) as document:
        document.init_forms()
        theirs = document[0].render(scale=ours.width / 300, may_draw_forms=True).to_pil().convert("RGB")
    assert ours.size == theirs.size
    assert ours.tobytes() == theirs.tobytes()


def test_notes_are_read_and_a_coarse_scan_below_them_is_drawn_large_enough(tmp_path: Path):
    image = "<</Type/XObject/Subtype/Image/Width 30/Height 20/ColorSpace/DeviceGray/BitsPerComponent 8/Length 600>>stream\n"
    objects = [
        stream("q 300 0 0 200 0 0 cm /P Do Q"),
        image + "\xff" * 600 + "\nendstream ",
        "<</Type/Annot/Subtype/FreeText/P 3 0 R/F 4/Rect[20 20 280 60]/Contents(to be paid by Friday)/DA(/F1 9 Tf 0 g)>>",
    ]
    scan = write_pdf(tmp_path / "scan.pdf", objects, page="/Resources<</XObject<</P 5 0 R>>>>")
    noted = write_pdf(tmp_path / "noted.pdf", objects, page="/Annots[6 0 R]/Resources<</XObject<</P 5 0 R>>>>")
    linked = write_pdf(tmp_path / "linked.pdf", [*objects[:2], objects[2].replace("FreeText", "Link")], page="/Annots[6 0 R]")
    assert load_page(Page(path=noted)).width > 800
    assert page_text(Page(path=noted)) == "to be paid by Friday"
    assert page_text(Page(path=scan)) == ""
    assert page_text(Page(path=linked)) == ""


def test_a_scan_alone_keeps_its_own_pixels(tmp_path: Path):
    from embedrl.media.document import save_pdf

    save_pdf([corner_image(60, 85)], tmp_path / "scan.pdf", dpi=10)
    assert load_page(Page(path=tmp_path / "scan.pdf")).size == (60, 85)


def test_a_long_thin_page_can_be_read(tmp_path: Path):
    path = write_pdf(tmp_path / "receipt.pdf", [stream("BT /F1 9 Tf 20 14000 Td (Milk 1.20) Tj ET")], size=(200, 14_100))
    image = load_page(Page(path=path))
    assert image.width >= 200 * 100 / 72 - 1
    assert image.height / image.width == pytest.approx(70.5, abs=0.5)
    small = load_page(Page(path=path), Limits(max_kept_pixels=1_000_000))
    assert small.width * small.height <= 1_010_000
    usual = write_pdf(tmp_path / "usual.pdf", [stream(" ")], size=(595, 842))
    assert load_page(Page(path=usual)).size == (1131, 1600)


def test_words_that_a_line_end_divides_are_whole(tmp_path: Path):
    lines = ["The annual report of the founda-", "tion, and of COVID-", "19, by Rolls-", "Royce. An iden-", "tifier - with a dash."]
    drawing = "BT /F1 12 Tf 14 TL 20 160 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    path = write_pdf(tmp_path / "lines.pdf", [stream(drawing)])
    with pypdfium2.PdfDocument(path) as document:
        assert "\ufffe" in document[0].get_textpage().get_text_range(), "PDFium marks them"
    text = " ".join(page_text(Page(path=path)).split())
    assert text == "The annual report of the foundation, and of COVID-19, by Rolls-Royce. An identifier - with a dash."
