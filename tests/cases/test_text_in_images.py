"""Words in photos, screenshots and scanned pages could not be found (issue 23, 4)."""

import random
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from embedrl.cli.main import main
from embedrl.data.crops import Box, iou
from embedrl.data.protocols import Refusal
from embedrl.errors import ConfigError
from embedrl.index.checksums import check_index
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.query import Query
from embedrl.index.row import Row
from embedrl.index.search import search
from embedrl.media.content import Image, Text
from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.media.store import Limits
from embedrl.models.ocr_process import OcrProcess
from embedrl.models.rapid_ocr import RapidOcr, _word_boxes
from embedrl.models.rulings import without_rulings
from embedrl.models.tesseract import Tesseract
from embedrl.runtime.names import load_text_reader
from embedrl.testing import COLOURS, FakeEmbedder, FakeReasoner, FakeTextReader
from embedrl.world.pages import sample_page
from tests.odd_media import text_pdf
from tests.served import served

needs_rapidocr = pytest.mark.skipif(find_spec("rapidocr") is None, reason="the package rapidocr is not installed (extra ocr)")
needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is not installed (tesseract-ocr)")


def quarters(*colours: str) -> PIL.Image.Image:
    """An image of four colours, in which the FakeTextReader reads their names."""
    image = PIL.Image.new("RGB", (64, 64))
    for number, colour in enumerate(colours):
        image.paste(COLOURS[colour], (32 * (number % 2), 32 * (number // 2), 32 * (number % 2) + 32, 32 * (number // 2) + 32))
    return image


def index_of(
    folder: Path, reader: FakeTextReader | Tesseract | None, *, think: bool = False, retry: bool = False
) -> tuple[Index, IngestReport]:
    index = Index.open(folder, embedder=FakeEmbedder(picture_weight=0))
    report = ingest(
        folder,
        index,
        FakeReasoner() if think else None,
        FakeEmbedder(picture_weight=0),
        think=think,
        retry_failed=retry,
        text_reader=reader,
    )
    return index, report


def rows_of(index: Index) -> dict[str, Row]:
    return {f"{row.place.path.name} {row.place.page or ''}".strip(): row for row in index.rows({place.key for place in index.places()})}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    save_image(quarters("red", "green", "blue", "pink"), tmp_path / "sign.png")
    save_image(quarters("red", "red", "red", "red"), tmp_path / "plain.png")
    return tmp_path


def test_an_image_is_found_by_the_words_in_it_with_their_boxes(photos: Path):
    index, report = index_of(photos, FakeTextReader(), think=True)
    assert (report.readings.num_read, report.readings.num_with_words, report.readings.failed) == (2, 1, {})
    best = search(index, Query(content=(Text(text="pink"),), use_tcot=False), FakeEmbedder(picture_weight=0)).hits[0]
    assert best.path.name == "sign.png"
    assert [(segment.text, segment.boxes[1]) for segment in best.read] == [("blue pink", (500, 500, 1000, 1000))]
    assert best.tcot is not None
    assert best.verification is not None
    at = best.tcot.evidence.keywords.index("green")
    place = best.keyword_places[at]
    assert best.verification.keywords[at]
    assert place is not None
    assert place.boxes == ((500, 0, 1000, 500),)
    assert [hit.path.name for hit in search(index, Query(filter=Filter(words=("pink",)))).hits] == ["sign.png"]
    assert check_index(photos).is_whole


def test_an_image_looked_for_by_itself_is_found_though_words_were_read_in_it(photos: Path):
    save_image(quarters("red", "green", "blue", "red"), photos / "other.png")
    index, _ = index_of(photos, FakeTextReader())
    hits = search(index, Query(content=(Image(path=photos / "sign.png"),), use_tcot=False), FakeEmbedder(picture_weight=0)).hits
    assert hits[0].path.name == "sign.png"


def test_what_was_read_is_kept_and_no_image_is_read_twice(photos: Path):
    reader = FakeTextReader()
    index_of(photos, reader)
    shutil.copy(photos / "sign.png", photos / "copy.png")
    _, report = index_of(photos, reader)
    assert (report.added, report.reused, report.unchanged) == (0, 1, 2)
    assert reader.num_read == 2
    index, report = index_of(photos, None)  # a run that reads nothing takes nothing away
    assert report.unchanged == 3
    assert rows_of(index)["sign.png"].text == "red green\nblue pink"


def test_an_index_that_was_made_without_a_reader_is_read_when_there_is_one(photos: Path):
    index_of(photos, None)
    index, report = index_of(photos, FakeTextReader())
    assert report.added == 1  # the image in which something stands
    assert rows_of(index)["sign.png"].text == "red green\nblue pink"


def test_an_image_that_cannot_be_read_is_counted_and_indexed_by_its_pixels(photos: Path):
    reader = FakeTextReader(refuses={"green"})
    index, report = index_of(photos, reader)
    assert report.failures == ()
    assert report.readings.failed == {"refused": 1}
    assert "does not read green" in report.readings.examples["refused"]
    assert rows_of(index)["sign.png"].text == ""
    _, report = index_of(photos, reader)  # it is about the image, so it is not asked again
    assert (report.unchanged, report.readings.failed) == (2, {})
    reader.refuses = ()
    (photos / "sign.png").touch()
    index, report = index_of(photos, reader, retry=True)
    assert rows_of(index)["sign.png"].text == "red green\nblue pink"


def test_scanned_pages_are_read_and_pages_with_text_are_not(tmp_path: Path):
    image = quarters("red", "green", "blue", "pink")
    save_pdf([image], tmp_path / "scan.pdf")
    (tmp_path / "typed.pdf").write_bytes(text_pdf("Written"))
    reader = FakeTextReader()
    index, _ = index_of(tmp_path, reader)
    assert reader.num_read == 1
    assert rows_of(index)["scan.pdf 1"].text == "red green\nblue pink"
    assert rows_of(index)["typed.pdf 1"].text == "Written"


def test_a_server_reads_what_is_put_into_its_folder(tmp_path: Path):
    with served(tmp_path, index=False, think=False, watch=True, watch_interval_s=0.1, text_reader=FakeTextReader()) as server:
        save_image(quarters("red", "green", "blue", "pink"), tmp_path / "sign.png")
        server.wait(lambda: server.paths(words="pink") == ["sign.png"])
        [hit] = server.client.get("/api/items", params={"words": "pink"}).json()["items"]
        assert [segment["text"] for segment in hit["read"]] == ["blue pink"]


def written(tmp_path: Path) -> tuple[Path, Box]:
    """Write a photo of a note, and return it with the box of its word "elephant"."""
    image, font = PIL.Image.new("RGB", (800, 300), (250, 248, 240)), PIL.ImageFont.load_default(40)
    draw = PIL.ImageDraw.Draw(image)
    draw.text((40, 60), "the elephant", fill=(20, 20, 30), font=font)
    draw.text((40, 180), "costs 42 Euro", fill=(20, 20, 30), font=font)
    left = 40 + font.getlength("the ")
    x1, y1, x2, y2 = draw.textbbox((left, 60), "elephant", font=font)
    save_image(image, tmp_path / "note.png")
    return tmp_path / "note.png", (round(x1 / 0.8), round(y1 / 0.3), round(x2 / 0.8), round(y2 / 0.3))


@needs_tesseract
def test_tesseract_reads_a_note_and_places_its_words(tmp_path: Path):
    _, box = written(tmp_path)
    index, report = index_of(tmp_path, load_text_reader("tesseract"))
    assert report.readings.num_with_words == 1
    assert rows_of(index)["note.png"].text == "the elephant\ncosts 42 Euro"
    best = search(index, Query(content=(Text(text="elephant"),), use_tcot=False), FakeEmbedder(picture_weight=0)).hits[0]
    assert iou(best.read[0].boxes[1], box) > 0.5


@needs_rapidocr
def test_rapidocr_reads_a_note_and_places_its_words(tmp_path: Path):
    _, box = written(tmp_path)
    reader = load_text_reader("rapidocr")
    assert reader is not None
    assert reader.fingerprint.startswith("rapidocr-")
    index, report = index_of(tmp_path, reader)
    assert report.readings.num_with_words == 1
    assert rows_of(index)["note.png"].text == "the elephant\ncosts 42 Euro"
    best = search(index, Query(content=(Text(text="elephant"),), use_tcot=False), FakeEmbedder(picture_weight=0)).hits[0]
    assert iou(best.read[0].boxes[1], box) > 0.5


@needs_rapidocr
def test_rapidocr_reads_nothing_in_a_blank_image_of_any_shape():
    reader = load_text_reader("rapidocr")
    assert reader is not None
    for size in ((1, 1), (4000, 3), (600, 600)):
        assert tuple(reader.read(PIL.Image.new("RGB", size, "white"))) == ()


def test_words_of_a_line_have_boxes_of_their_own():
    def quad(left: float, right: float) -> list[list[float]]:
        return [[left, 0], [right, 0], [right, 10], [left, 10]]

    line = (0.0, 0.0, 90.0, 10.0)
    assert list(_word_boxes("ab cd", line, [("ab", quad(1, 30)), ("cd", quad(40, 80))])) == [(1, 0, 30, 10), (40, 0, 80, 10)]
    assert list(_word_boxes("ab", line, [("a", quad(1, 30)), ("b", quad(40, 80))])) == [(1, 0, 80, 10)]
    assert list(_word_boxes("abcd efgh", line, [("x", quad(1, 30))])) == [(0, 0, 40, 10), (50, 0, 90, 10)]
    assert list(_word_boxes("ab cd", line, [("abc", quad(1, 30)), ("d", quad(40, 80))])) == [(0, 0, 36, 10), (54, 0, 90, 10)]


@pytest.mark.skipif(find_spec("rapidocr") is not None, reason="rapidocr is installed")
def test_a_missing_package_is_named_with_its_extra():
    with pytest.raises(ConfigError, match=r"embedrl\[ocr\]"):
        load_text_reader("rapidocr")


@needs_tesseract
@pytest.mark.parametrize(
    ("limits", "reason"), [({"decode_timeout_s": 0.01}, "timeout"), ({"decode_memory_bytes": 64 * 1024**2}, "crashed")]
)
def test_tesseract_is_bounded_by_time_and_memory(limits: dict[str, float], reason: str):
    with pytest.raises(Refusal) as refused:
        Tesseract(limits=Limits(**limits)).read(PIL.Image.new("RGB", (600, 600), "white"))
    assert refused.value.reason == reason
    assert refused.value.about_item


@needs_rapidocr
@pytest.mark.parametrize(
    ("limits", "reason"), [({"decode_timeout_s": 0.01}, "timeout"), ({"decode_memory_bytes": 64 * 1024**2}, "crashed")]
)
def test_rapidocr_is_bounded_by_time_and_memory(limits: dict[str, float], reason: str):
    reader = RapidOcr(limits=Limits(**limits))
    with pytest.raises(Refusal) as refused:
        reader.read(PIL.Image.new("RGB", (1600, 1600), "white"))
    assert refused.value.reason == reason
    assert refused.value.about_item
    reader.close()


ENGINE = """
import os, time
class Result:
    txts, scores, boxes, word_results = ("red",), (0.9,), [[[0, 0], [9, 0], [9, 9], [0, 9]]], ((),)
class RapidOCR:
    def __init__(self, params):
        if params.get("broken"):
            raise ValueError("no such model")
    def __call__(self, pixels):
        match int(pixels[0, 0, 2]):
            case 1: time.sleep(60)
            case 2: os._exit(3)
            case 3: bytearray(2 ** 34)
            case 4: raise ValueError("a shape it does not know")
        return Result()
"""
"""A stand-in for the package: what it does depends on the red of the first pixel."""


def test_an_engine_that_hangs_dies_or_fills_the_memory_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """RapidOCR ran in the process itself: an image that broke it ended the run (issue 23)."""
    (tmp_path / "rapidocr.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    process = OcrProcess({}, Limits(decode_timeout_s=1, decode_memory_bytes=512 * 1024**2))
    outcomes = []
    for red in (255, 1, 255, 2, 255, 3, 4, 255):
        try:
            outcomes.append(process.read(PIL.Image.new("RGB", (8, 8), (red, 0, 0)))[0][0])
        except Refusal as refusal:
            outcomes.append(refusal.reason)
    process.close()
    assert outcomes == ["red", "timeout", "red", "crashed", "red", "crashed", "model_error", "red"]
    with pytest.raises(ConfigError, match="no such model"):
        OcrProcess({"broken": True}, Limits()).start()


@needs_tesseract
def test_a_language_that_is_not_installed_is_named():
    with pytest.raises(ConfigError, match="tesseract-ocr-xxx"):
        load_text_reader("tesseract:eng+xxx")


def test_a_missing_program_and_an_unknown_reader_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(ConfigError, match="give tesseract"):
        load_text_reader("abacus")
    assert load_text_reader("none") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install tesseract-ocr"):
        load_text_reader("tesseract")


def test_the_command_reads_text_and_remembers_that_it_does(photos: Path):
    for options, name, words in (
        (["--read-text", "fake"], "sign.png", "red green\nblue pink"),
        ([], "later.png", "yellow green\nblue pink"),
        (["--read-text", "none"], "last.png", ""),
    ):
        save_image(quarters({"later.png": "yellow", "last.png": "orange"}.get(name, "red"), "green", "blue", "pink"), photos / name)
        with pytest.raises(SystemExit) as ended:
            main(["index", str(photos), "--no-think", "--embedder", "fake", *options])
        assert not ended.value.code
        assert rows_of(Index.open(photos))[name].text == words


def framed(colour: str, paper: str) -> tuple[PIL.Image.Image, PIL.Image.Image]:
    """Return an image of a framed word, and one of the word alone."""
    images = [PIL.Image.new("RGB", (400, 300), paper) for _ in range(2)]
    for image in images:
        PIL.ImageDraw.Draw(image).text((60, 100), "Will 111 I", fill=colour, font=PIL.ImageFont.load_default(60))
    PIL.ImageDraw.Draw(images[0]).rectangle((20, 80, 380, 190), outline=colour, width=3)
    return images[0], images[1]


@pytest.mark.parametrize(("colour", "paper"), [("black", "white"), ("white", "navy")])
def test_rulings_of_tables_are_painted_over_and_letters_are_not(colour: str, paper: str):
    """A word in a frame is taken for a picture by Tesseract: recall in tables was .350."""
    with_frame, alone = framed(colour, paper)
    np.testing.assert_array_equal(np.asarray(without_rulings(with_frame)), np.asarray(alone))
    assert without_rulings(alone) is alone
    plain = PIL.Image.new("RGB", (3, 3))
    assert without_rulings(plain) is plain


@needs_tesseract
def test_words_in_frames_are_read(tmp_path: Path):
    page = sample_page(random.Random(0), "test", kind="table")
    planted = {text for text, *_ in page.word_boxes()}
    read = {word for line in Tesseract().read(page.draw()) for word in line.text.casefold().split()}
    assert len(planted & read) >= 0.7 * len(planted)
