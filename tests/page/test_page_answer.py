"""Questions on the page are answered above their results, with sources that open where they point (issue M, 6)."""

import re
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, expect

from embedrl.media.video import save_video
from tests.cases.test_audio import write_audio
from tests.page.browser import Look, needs_browser, opened, settled
from tests.page.test_page_look import keeps_rules
from tests.served import Served, served

pytestmark = needs_browser


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("told")
    (folder / "letter.txt").write_text("Dear tenant,\nthe rent of the flat is 900 euros.\nYours", "utf-8")
    save_video([PIL.Image.new("RGB", (64, 48), colour) for colour in ("red", "blue") for _ in range(10)], folder / "film.mp4", 2)
    (folder / "film.srt").write_text("1\n00:00:06,000 --> 00:00:08,000\nthe quokka appears\n", "utf-8")
    write_audio(folder / "talk.wav")
    (folder / "talk.srt").write_text("1\n00:00:06,000 --> 00:00:08,000\nAn owl sings at night\n", "utf-8")
    with served(folder, think=False) as server:
        yield server


def test_a_question_is_answered_and_its_source_opens_at_the_second(browser: Browser, told: Served, look: Look):
    with opened(browser, f"{told.url}/?q=When+does+the+quokka+appear%3F", **look) as page:
        answer = page.get_by_role("region", name="Answer")
        expect(answer.locator(".answer-text")).to_have_text("the quokka appears")
        source = answer.get_by_role("button", name="film.mp4, 0:06")
        bounds = source.bounding_box()
        assert bounds is not None
        assert bounds["height"] >= 44
        keeps_rules(page)
        source.click()
        expect(page.get_by_role("dialog").locator("video")).to_be_visible()
        assert "t=6" in page.url


def test_a_line_of_a_text_is_a_source(browser: Browser, told: Served, look: Look):
    with opened(browser, f"{told.url}/?q=What+is+the+rent+of+the+flat%3F", **look) as page:
        answer = page.get_by_role("region", name="Answer")
        expect(answer.locator(".answer-text")).to_have_text("the rent of the flat is 900 euros.")
        expect(answer.get_by_role("button", name="letter.txt, line 2")).to_be_visible()


def test_it_says_when_nothing_answers_and_is_silent_about_what_is_no_question(browser: Browser, told: Served, look: Look):
    with opened(browser, f"{told.url}/?q=Who+plays+the+bassoon%3F", **look) as page:
        answer = page.locator("#answer")
        expect(answer).to_contain_text("Nothing here answers this")
        page.get_by_label("What to look for").fill("a quokka")
        page.keyboard.press("Enter")
        expect(answer).to_be_hidden()
        settled(page)
        expect(answer).to_be_hidden()


def test_sound_is_called_audio_and_filters_know_camera_and_place(browser: Browser, told: Served, look: Look):
    with opened(browser, f"{told.url}/?q=an+owl+sings&modality=text", **look) as page:
        settled(page)
        expect(page.locator(".card .kind").first).to_have_text(re.compile("^Audio, 0:"))
        page.locator("#filters summary").click()
        page.get_by_label("Camera", exact=True).fill("nikon")
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_contain_text("Nothing found")
        assert "camera=nikon" in page.url
        page.get_by_label("Camera", exact=True).fill("")
        page.get_by_label("Place", exact=True).fill("48.1, 11.6, 25")
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_contain_text("Nothing found")
        assert "area=48.1" in page.url
