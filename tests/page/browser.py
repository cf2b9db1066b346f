"""Driving the page in a real browser."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bench._browser import CHROMIUM
from playwright.sync_api import Browser, Locator, Page, expect

from embedrl.data.tcot import TCoT
from tests.served import Served

TIMEOUT_MS = 60_000
PAGE_SIZE = 48
"""So many results are asked for at once."""
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH to drive")

ServedIndex = tuple[Served, dict[str, TCoT]]
Look = dict[str, Any]
LOOKS: dict[str, Look] = {
    "1280 light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "375 dark": {"viewport": {"width": 375, "height": 800}, "color_scheme": "dark", "has_touch": True},
}


@contextmanager
def opened(browser: Browser, url: str, *, expected: str = "", **options: Any) -> Iterator[Page]:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options})
    context.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    page = context.new_page()
    complaints: list[str] = []
    allowed = ("/".join(url.split("/")[:3]) if url.startswith("http") else "http://127.0.0.1", "blob:", "about:")
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: None if request.url.startswith(allowed) else complaints.append(request.url))
    page.goto(url)
    try:
        yield page
        unexpected = [complaint for complaint in complaints if not expected or expected not in complaint]
        assert unexpected == [], unexpected
    finally:
        context.close()


def until(page: Page, happened: Callable[[], bool]) -> None:
    """Wait until something holds. (Playwright's own waiting for an expression needs eval, which the page's policy forbids.)"""
    for _ in range(TIMEOUT_MS // 50):
        if happened():
            return
        page.wait_for_timeout(50)
    raise AssertionError("waited in vain")


def settled(page: Page) -> None:
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def ask(page: Page, text: str) -> None:
    page.get_by_label("What to look for").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text(re.compile(r"with reasoning,|Nothing found"))
    settled(page)


def names(page: Page) -> list[str]:
    return page.locator(".card h3").all_inner_texts()


def card(page: Page, path: str, library: ServedIndex) -> Locator:
    """Scroll to the card of a file: rows are in the document only while they are near the screen."""
    found = page.locator(f'.card[data-key="{library[0].key(path)}"]')
    for _ in range(200):
        if found.count():
            return found
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(50)
    raise AssertionError(f"{path} is not among the results")


def a_truth(library: ServedIndex, folder: str, wanted: Any) -> tuple[str, TCoT]:
    """Return a file of a folder of the world whose true T-CoT is as wanted, with its path in the library."""
    server, truths = library
    for path in sorted((server.folder / folder).iterdir()):
        if path.name in truths and wanted(truths[path.name]):
            return f"{folder}/{path.name}", truths[path.name]
    raise AssertionError(f"the world has no such file in {folder}")
