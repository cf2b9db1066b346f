"""What a person's files hold, on the page: a passage of a long text, its folded neighbours, and photos by the day they were taken."""

import random
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, expect

from tests.page.browser import Look, names, needs_browser, opened, settled
from tests.served import Served, served

pytestmark = needs_browser
TAKEN = {"spring.jpg": "2019:05:04 10:00:00", "summer.jpg": "2021:06:07 11:00:00"}
EXIF, DATE_TIME_ORIGINAL = 0x8769, 0x9003
WORDS = ("harbour", "morning", "ledger", "window", "copper", "lantern", "orchard", "river", "meadow", "candle", "marble", "thread")
PLANTED = "A small walrus plays the violin beside a frozen lake while penguins listen politely."
NUM_PARAGRAPHS, PLACE = 60, 37


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("archive")
    for name, taken in TAKEN.items():
        exif = PIL.Image.Exif()
        exif.get_ifd(EXIF)[DATE_TIME_ORIGINAL] = taken
        PIL.Image.new("RGB", (160, 120), "red").save(folder / name, exif=exif)
    rng = random.Random(0)
    paragraphs = [" ".join(rng.choice(WORDS) for _ in range(70)) + "." for _ in range(NUM_PARAGRAPHS)]
    paragraphs[PLACE] = " ".join([PLANTED] * 5)  # long enough that no neighbour overlaps with all of it
    (folder / "ledger.txt").write_text("\n\n".join(paragraphs))
    with served(folder, think=False) as server:
        yield server


def test_a_text_opens_at_the_passage_that_was_asked_for(browser: Browser, archive: Served, look: Look):
    with opened(browser, f"{archive.url}/?q=walrus+violin+frozen+lake&modality=text", **look) as page:
        settled(page)
        expect(page.locator(".card")).to_have_count(1)
        others = page.get_by_role("list", name="Also in this file:").get_by_role("button")
        expect(others.first).to_be_visible()
        page.locator(".card .open").first.click()
        text = page.get_by_role("dialog").get_by_role("region", name="Text")
        expect(text).to_contain_text(PLANTED)
        expect(text.locator("mark")).to_have_text(["walrus", "violin", "frozen lake"] * 5)
        assert len(text.inner_text()) < len((archive.folder / "ledger.txt").read_text()) / 10
        whole = page.request.get(archive.url + str(page.get_by_role("link", name="Open the file").get_attribute("href")))
        assert whole.text() == (archive.folder / "ledger.txt").read_text()


def test_another_passage_of_the_file_opens_from_its_card(browser: Browser, archive: Served, look: Look):
    with opened(browser, f"{archive.url}/?q=walrus+violin+frozen+lake&modality=text", **look) as page:
        settled(page)
        page.get_by_role("list", name="Also in this file:").get_by_role("button").first.click()
        text = page.get_by_role("dialog").get_by_role("region", name="Text")
        expect(text).to_be_visible()
        expect(text).not_to_contain_text(" ".join([PLANTED] * 5))
        page.get_by_role("dialog").get_by_role("button", name=f"part {PLACE + 1}").click()
        expect(text).to_contain_text(PLANTED)


def test_photos_are_filtered_by_the_day_they_were_taken(browser: Browser, archive: Served, look: Look):
    """The files were written a moment ago."""
    with opened(browser, f"{archive.url}/?modality=image", **look) as page:
        settled(page)
        assert sorted(names(page)) == ["spring.jpg", "summer.jpg"]
        page.locator("#filters summary").click()
        page.get_by_label("From", exact=True).fill("2021-01-01")
        page.keyboard.press("Enter")
        expect(page.locator(".card h3")).to_have_text(["summer.jpg"])
        page.get_by_label("From", exact=True).fill("2019-05-04")
        page.get_by_label("To", exact=True).fill("2019-05-04")
        page.keyboard.press("Enter")
        expect(page.locator(".card h3")).to_have_text(["spring.jpg"])
        page.locator(".card .open").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("May 4, 2019")
