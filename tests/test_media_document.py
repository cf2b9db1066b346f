"""Pages become pictures and text; documents that cannot be read say why."""

from concurrent.futures import ThreadPoolExecutor

import PIL.Image
import pytest

from embedrl.errors import ConfigError, MediaError
from embedrl.media.content import Page
from embedrl.media.decode import check, load_visual
from embedrl.media.document import load_page, num_pages, page_text, save_pdf
from embedrl.media.store import Limits
from tests.odd_media import GREEN, RED, bad_files, corner_image, good_files, text_pdf


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp("good"))


def test_pages_are_counted_and_rendered(good):
    assert num_pages(good["scan.pdf"]) == 2
    first, second = (load_page(Page(path=good["scan.pdf"], number=number)) for number in (1, 2))
    assert first.mode == "RGB"
    assert second.mode == "RGB"
    assert first.width / first.height == pytest.approx(64 / 48, abs=0.02)
    assert first.getpixel((first.width // 8, first.height // 8)) == RED
    assert second.getpixel((second.width // 2, second.height // 2)) == GREEN


def test_a_text_page_is_rendered_and_read(good):
    page = Page(path=good["text.pdf"])
    assert page_text(page) == "Revenue grew by 12 percent"
    image = load_page(page)
    assert image.width == pytest.approx(2 * image.height, abs=2)
    assert min(image.convert("L").tobytes()) < 60
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_a_scan_has_no_text(good):
    assert page_text(Page(path=good["scan.pdf"])) == ""
    assert page_text(Page(pixels=corner_image())) == ""


def test_pixels_in_memory_pass_through():
    image = corner_image()
    assert load_page(Page(pixels=image)) is image
    converted = load_visual(Page(pixels=image.convert("L")))
    assert isinstance(converted, PIL.Image.Image)
    assert converted.mode == "RGB"


def test_a_missing_page_names_the_number_of_pages(good):
    with pytest.raises(MediaError, match=r"2 pages, no page 3"):
        load_page(Page(path=good["scan.pdf"], number=3))


def test_broken_encrypted_and_empty_documents_say_so(tmp_path):
    for name, (path, words) in bad_files(tmp_path).items():
        if name.endswith(".pdf"):
            for attempt in (num_pages, lambda path: check(Page(path=path)), lambda path: page_text(Page(path=path))):
                with pytest.raises(MediaError, match=words) as caught:
                    attempt(path)
                assert name in str(caught.value)


def test_limits(good, tmp_path):
    with pytest.raises(MediaError, match="max_pages=1"):
        num_pages(good["scan.pdf"], Limits(max_pages=1))
    with pytest.raises(MediaError, match="max_pages=1"):
        load_page(Page(path=good["scan.pdf"]), Limits(max_pages=1))
    with pytest.raises(MediaError, match="max_text_chars=5"):
        page_text(Page(path=good["text.pdf"]), Limits(max_text_chars=5))
    small = load_page(Page(path=good["text.pdf"]), Limits(max_pixels=5000))
    assert small.width * small.height <= 5100


def test_a_document_with_too_many_pages_is_refused(tmp_path):
    path = tmp_path / "long.pdf"
    save_pdf([corner_image(2, 2)] * 2001, path)
    assert num_pages(path, Limits(max_pages=2001)) == 2001
    with pytest.raises(MediaError, match=r"2001 pages.*max_pages=2000"):
        load_page(Page(path=path), Limits(max_pages=2000))


def test_rendering_a_hostile_page_is_given_up(tmp_path):
    path = tmp_path / "slow.pdf"
    path.write_bytes(text_pdf("x) Tj ET " + "0 0 m 400 200 l 0 200 400 0 200 100 c S " * 500 + "BT (x"))
    assert load_page(Page(path=path)).size == (1111, 556)
    with pytest.raises(MediaError, match="decode_timeout_s"):
        load_page(Page(path=path), Limits(decode_timeout_s=1e-6))


def test_a_scan_comes_back_pixel_by_pixel(tmp_path):
    path = tmp_path / "scan.pdf"
    save_pdf([corner_image(97, 61)], path)
    for dpi in (72, 144):
        save_pdf([corner_image(97, 61)], path, dpi=dpi)
        assert load_page(Page(path=path)).tobytes() == corner_image(97, 61).tobytes(), dpi


def test_every_cut_renders_or_is_a_media_error(good, tmp_path):
    for name in ("scan.pdf", "text.pdf"):
        data = good[name].read_bytes()
        for part in range(20):
            path = tmp_path / "cut.pdf"
            path.write_bytes(data[: max(1, len(data) * part // 20)])
            try:
                assert load_page(Page(path=path)).mode == "RGB"
            except MediaError as error:
                assert "cut.pdf" in str(error)


def test_threads_may_render_at_once(good):
    pages = [Page(path=good["scan.pdf"], number=1 + index % 2) for index in range(16)]
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(load_page, pages))
    assert [image.tobytes() for image in images[2:]] == [image.tobytes() for image in images[:2]] * 7


def test_saving_is_deterministic(tmp_path):
    for name in ("a.pdf", "b.pdf"):
        save_pdf([corner_image(), corner_image(31, 17)], tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    with pytest.raises(ConfigError, match="at least one page"):
        save_pdf([], tmp_path / "none.pdf")
