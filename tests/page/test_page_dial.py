"""The dial of the page: plain, reason if it pays, reason first; what the gate decided is on each card, and what reasoning moved."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from embedrl.index.gate import LinearGate
from embedrl.testing import FakeEmbedder
from tests.page.browser import needs_browser, opened, settled
from tests.page.test_page_look import AXE, keeps_rules
from tests.served import Served, served

pytestmark = needs_browser

MARGIN = LinearGate(embedder=FakeEmbedder().fingerprint, weights=(*(0.0,) * 64, 0.0, -1.0), scores=(-0.4, -0.3, -0.2, -0.1), share=0.5)
"""Reasons where the first two hits are less than .25 apart: about letters, of which there are two, not about the elephant."""


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("gated")
    for name, text in (("a.txt", "a letter about an elephant"), ("b.txt", "a letter about a grocer"), ("c.txt", "nothing")):
        (folder / name).write_text(text)
    with served(folder, gate=MARGIN) as server:
        yield server


@pytest.mark.parametrize("width", [1280, 375])
def test_the_dial_asks_as_it_is_set_and_each_card_says_what_the_gate_decided(browser: Browser, gated: Served, width: int):
    with opened(browser, gated.url, viewport={"width": width, "height": 900}) as page:
        settled(page)
        auto, always = page.get_by_role("radio", name="Reason if it pays"), page.get_by_role("radio", name="Reason first")
        expect(auto).to_be_checked()
        page.get_by_label("What to look for").fill("elephant")
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_contain_text("answered without reasoning: no gain is expected")
        expect(page.locator(".card .ranks").first).to_have_text("without reasoning")
        if AXE is not None:
            keeps_rules(page, width)
        always.check(force=True)
        expect(page.locator("#summary")).to_contain_text("with reasoning,")
        expect(page.locator(".card .ranks").first).to_have_text(re.compile("plain [0-9]+ → reasoned 1"))
        assert "think=always" in page.url
        page.go_back()
        expect(auto).to_be_checked()
        expect(page.locator(".card .ranks").first).to_have_text("without reasoning")
        page.get_by_role("radio", name="Plain").check(force=True)
        expect(page.locator("#summary")).not_to_contain_text("reasoning")
        assert "think=0" in page.url
