"""The page with odd files and odd settings: names of any length and direction, files that are gone, a system's own colours, 320 pixels."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, Page, expect

from embedrl.data.sample import Item
from embedrl.data.tcot import Evidence, ParseFailure, TCoT
from embedrl.media.content import Video
from embedrl.media.image import save_image
from embedrl.media.video import save_video
from embedrl.testing import FakeReasoner
from tests.page.browser import PAGE_SIZE, Look, needs_browser, opened, settled
from tests.page.test_page_look import keeps_rules
from tests.served import Served, served

pytestmark = needs_browser
LONG = "n" * 200 + ".png"
HEBREW = "תמונה של כלב.txt"
CUT_OFF = "cut off.txt"
QUOTING = "quoting.txt"
SENTENCE = "a sentence that nobody wrote and that goes on for much longer than a card is wide"


class OddReasoner(FakeReasoner):
    """Quotes what is there and what is not, sees frames that exist and that do not, and breaks off over one file."""

    def _reason(self, item: Item) -> TCoT | ParseFailure:
        if "break off" in item.text:
            return ParseFailure(reason="truncated", text="<think>")
        frames = (1, 90) if isinstance(item.visual, Video) else ()
        words = ("quoting", SENTENCE) if "quoting" in item.text else ()
        return TCoT(thinking="so", evidence=Evidence(key_frames=frames, keywords=words), rethink="", answer="an answer")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("odd")
    for number, name in enumerate((LONG, "gone.png")):
        save_image(PIL.Image.new("RGB", (60, 40), (200, number, 0)), folder / name)
    save_video([PIL.Image.new("RGB", (36, 64), colour) for colour in ("red", "blue") for _ in range(4)], folder / "film.mp4", 2)
    (folder / HEBREW).write_text("זה מכתב קצר על כלב ועל הים", "utf-8")
    (folder / CUT_OFF).write_text("here one must break off", "utf-8")
    (folder / QUOTING).write_text("it is quoting itself", "utf-8")
    with served(folder, reasoner=OddReasoner("odd")) as server:
        yield server


def opened_item(server: Served, name: str) -> str:
    return f"{server.url}/?item={server.key(name)}"


@pytest.mark.parametrize(("name", "check", "failed"), [("film.mp4", "frame exists", "no such frame"), (QUOTING, "quoted", "not quoted")])
def test_each_kind_of_evidence_says_what_was_checked(browser: Browser, odd: Served, name: str, check: str, failed: str, look: Look):
    with opened(browser, opened_item(odd, name), **look) as page:
        dialog = page.get_by_role("dialog")
        expect(dialog.locator("h3 .tag.holds")).to_have_text(check)
        expect(dialog.locator(".unverified .tag")).to_have_text(failed)


@pytest.mark.parametrize(("locale", "words"), [("en-US", "its answer was cut off"), ("zh-CN", "回答被截断")])
def test_why_there_is_no_tcot_is_said_in_words(browser: Browser, odd: Served, locale: str, words: str, look: Look):
    with opened(browser, opened_item(odd, CUT_OFF), locale=locale, **look) as page:
        expect(page.get_by_role("dialog")).to_contain_text(words)
        keeps_rules(page)


def test_a_picture_whose_file_is_gone_says_so(browser: Browser, odd: Served, look: Look):
    file = odd.folder / "gone.png"
    data, address = file.read_bytes(), opened_item(odd, "gone.png")
    file.unlink()
    try:
        with opened(browser, address, expected="status of 404", **look) as page:
            dialog = page.get_by_role("dialog")
            expect(dialog.get_by_role("alert")).to_contain_text("The file of this item is gone")
            expect(dialog.get_by_role("button", name="Zoom in")).to_have_count(0)
            keeps_rules(page)
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize("width", [1280, 320])
def test_a_long_name_leaves_the_item_its_room(browser: Browser, odd: Served, width: int):
    with opened(browser, opened_item(odd, LONG), viewport={"width": width, "height": 640}) as page:
        header = page.locator("dialog header").bounding_box()
        assert header is not None
        assert header["height"] < 150
        expect(page.get_by_role("dialog")).to_have_accessible_name(LONG)


def test_text_from_right_to_left_runs_so(browser: Browser, odd: Served, look: Look):
    with opened(browser, opened_item(odd, HEBREW), **look) as page:
        text = page.get_by_role("region", name="Text")
        assert text.evaluate("node => getComputedStyle(node).direction") == "rtl"
        assert page.locator(".card h3").first.evaluate("node => getComputedStyle(node).direction") == "ltr"


def test_focus_stays_on_the_step_that_was_pressed(browser: Browser, odd: Served, look: Look):
    with opened(browser, odd.url, **look) as page:
        settled(page)
        page.locator(".open").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_focused()
        following = dialog.get_by_role("button", name="Next result")
        following.focus()
        for _ in range(2):
            page.keyboard.press("Enter")
            expect(following).to_be_focused()
            expect(following).to_have_accessible_description(dialog.locator("h2").inner_text())


def test_what_is_chosen_shows_in_colours_of_the_systems_choice(browser: Browser, odd: Served, look: Look):
    with opened(browser, f"{odd.url}/?modality=image", forced_colors="active", **look) as page:
        settled(page)
        assert background(page, "Images") != background(page, "Videos")
        assert background(page, "Reason first") != background(page, "Plain")
        keeps_rules(page)


def background(page: Page, words: str) -> str:
    return page.locator("label span").get_by_text(words, exact=True).evaluate("node => getComputedStyle(node).backgroundColor")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_at_320_pixels_no_word_is_broken_and_nothing_is_cut(browser: Browser, odd: Served, locale: str):
    with opened(browser, f"{odd.url}/?under=quoting.txt", viewport={"width": 320, "height": 640}, locale=locale) as page:
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        lines = page.locator("#thinks label span").first.evaluate(
            "node => node.getBoundingClientRect().height / parseFloat(getComputedStyle(node).lineHeight)"
        )
        assert lines < 2
        keyword = page.locator(".card .keyword.unverified").first
        expect(keyword.locator(".tag")).to_be_visible()
        assert keyword.evaluate("node => node.getBoundingClientRect().height") < 40


def test_chinese_lists_have_chinese_commas(browser: Browser, odd: Served, look: Look):
    with opened(browser, odd.url, locale="zh-CN", **look) as page:
        expect(page.locator("#holds")).to_have_text(re.compile("张图片，.*场景，"))


def test_what_was_found_plainly_stays_where_the_reasoning_breaks_off(browser: Browser, odd: Served, look: Look):
    plain = json.dumps(odd.search(text="something", think="false", limit=PAGE_SIZE))
    with opened(browser, odd.url, **look) as page:
        settled(page)
        event = f"event: plain\ndata: {plain}\n\n"
        page.route("**/api/search/stream", lambda route: route.fulfill(content_type="text/event-stream", body=event))
        page.get_by_label("What to look for").fill("something")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_contain_text("The connection broke off")
        expect(page.locator("#summary")).to_have_text(re.compile(r"^\d results in "))
        expect(page.locator(".card .rank").first).to_have_text("1")
        keeps_rules(page)


def test_a_question_in_another_script_is_one_and_its_answer_is_announced(browser: Browser, odd: Served, look: Look):
    with opened(browser, f"{odd.url}/?q=متى يظهر الفيل؟", **look) as page:
        answer = page.locator("#answer")
        expect(answer).to_contain_text("Nothing here answers this")
        expect(answer).to_have_attribute("aria-live", "polite")
