"""Films and sound on the page: what was said and the other moments of a film have room on its card, and players begin at the second."""

import re
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, expect

from embedrl.media.video import save_video
from tests.cases.test_audio import write_audio
from tests.odd_media import encode
from tests.page.browser import Look, needs_browser, opened, settled, until
from tests.served import Served, served

pytestmark = needs_browser
COLOURS = ("red", "blue", "lime", "black", "yellow", "white")
SCENE_FRAMES, FPS = 10, 2


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("films")
    frames = [PIL.Image.new("RGB", (64, 48), colour) for colour in COLOURS for _ in range(SCENE_FRAMES)]
    save_video(frames, folder / "film.mp4", FPS)
    said = "A zebra crosses the road, and all the cars of the town stop before it; then it goes on to the river"
    (folder / "film.srt").write_text(f"1\n00:00:06,000 --> 00:00:08,000\n{said}\n")
    write_audio(folder / "talk.wav")
    (folder / "talk.srt").write_text("1\n00:00:06,000 --> 00:00:08,000\nAn owl sings at night\n")
    encode(folder / "tape.mpg", frames, "mpeg1video", fps=25)
    with served(folder) as server:
        yield server


def test_a_film_names_its_other_moments_within_its_card(browser: Browser, film: Served, look: Look):
    """What was said, the answer and the other moments took more than a card holds: the moments were cut off."""
    with opened(browser, f"{film.url}/?q=a+zebra+crosses+the+road&modality=video", **look) as page:
        settled(page)
        shown = page.locator(".card").first
        expect(shown.locator(".said")).to_contain_text("zebra")
        moments = page.get_by_role("list", name="Also in this film:").get_by_role("button")
        expect(moments).to_have_count(4)
        expect(moments.last).to_have_text(re.compile("[0-9]+ more"))
        around, last = shown.bounding_box(), moments.first.bounding_box()
        assert around is not None
        assert last is not None
        assert last["y"] + last["height"] <= around["y"] + around["height"]
        moments.last.click()
        expect(page.get_by_role("dialog").locator(".others button").first).to_be_visible()


def test_sound_is_played_from_the_second_at_which_it_is_said(browser: Browser, film: Served, look: Look):
    with opened(browser, f"{film.url}/?q=an+owl+sings+at+night&modality=text", **look) as page:
        settled(page)
        page.locator(".card .open").first.click()
        player = page.get_by_role("dialog").locator("audio")
        expect(player).to_be_visible()
        until(page, lambda: player.evaluate("player => player.readyState > 0 && player.currentTime") == 6)
        expect(page.get_by_role("dialog")).to_contain_text("An owl sings at night")


def test_a_film_that_no_browser_plays_is_shown_by_a_frame(browser: Browser, film: Served, look: Look):
    """A player that stays black took the place of the film; MPEG-1, WMV, camcorders' and others are not played by browsers."""
    with opened(browser, f"{film.url}/?q=tape&modality=video", **look) as page:
        settled(page)
        page.locator(".card", has_text="tape.mpg").locator(".open").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog.locator(".problem")).to_contain_text("cannot play this kind of video")
        expect(dialog.locator("video")).to_have_count(0)
        expect(dialog.locator(".media img").first).to_be_visible()
        expect(dialog.get_by_role("link", name="Open the file")).to_be_visible()
