"""The dial of the page: plain, reason if it pays, reason first; what the gate decided is on each card, and what reasoning moved."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from embedrl.data import items
from embedrl.index.gate import LinearGate
from embedrl.media.content import Text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.page.browser import Look, ServedIndex, needs_browser, opened, settled
from tests.page.test_page_look import keeps_rules
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


def test_the_dial_asks_as_it_is_set_and_each_card_says_what_the_gate_decided(browser: Browser, gated: Served, look: Look):
    with opened(browser, gated.url, **look) as page:
        settled(page)
        auto, always = page.get_by_role("radio", name="Reason if it pays"), page.get_by_role("radio", name="Reason first")
        expect(auto).to_be_checked()
        page.get_by_label("What to look for").fill("elephant")
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_contain_text("answered without reasoning: no gain is expected")
        expect(page.locator(".card .ranks").first).to_have_text("without reasoning")
        keeps_rules(page)
        always.check(force=True)
        expect(page.locator("#summary")).to_contain_text("with reasoning,")
        expect(page.locator(".card .ranks").first).to_have_text(re.compile("plain [0-9]+ → reasoned 1"))
        expect(page.locator("#read summary")).to_contain_text("Read as: ")
        assert "think=always" in page.url
        page.go_back()
        expect(auto).to_be_checked()
        expect(page.locator(".card .ranks").first).to_have_text("without reasoning")
        page.get_by_role("radio", name="Plain").check(force=True)
        expect(page.locator("#summary")).not_to_contain_text("reasoning")
        assert "think=0" in page.url


def test_a_score_of_another_kind_is_told_from_the_rest(browser: Browser, tmp_path: Path, look: Look):
    """An item without a T-CoT keeps its plain rank: its .96 stood below .64, and nothing said why."""
    (folder := tmp_path / "library").mkdir()
    for number, text in enumerate(("a letter about an elephant", "a letter about a grocer", "nothing")):
        (folder / f"{number}.txt").write_text(text)
    mute = items.candidate((Text(text="a letter about a grocer"),)).key
    with (
        served(folder, reasoner=FakeReasoner(fail_keys={mute})) as server,
        opened(browser, f"{server.url}/?q=letter", locale="zh-CN", **look) as page,
    ):
        expect(page.locator("#summary")).to_contain_text(re.compile("^3 个结果，经推理，用时 [^。]*。[^.]*$"))
        settled(page)
        expect(page.locator(f'.card[data-key="{mute}"] .score')).to_contain_text("（无 T-CoT）")
        expect(page.locator(".card .score", has_text="（无 T-CoT）")).to_have_count(1)
        page.get_by_role("button", name="English").click()
        expect(page.locator(f'.card[data-key="{mute}"] .score')).to_contain_text("(no T-CoT)")


def test_without_a_gate_the_choice_is_disabled_and_a_link_to_it_says_so(browser: Browser, library: ServedIndex, look: Look):
    """`?think=auto` fell back to reasoning without a word where the server has no gate."""
    url = library[0].url
    with opened(browser, f"{url}/?q=something+red&think=auto", **look) as page:
        expect(page.locator("#problem")).to_have_text(re.compile("has no gate for its Embedder. Set to “Reason first” instead"))
        expect(page.locator("#summary")).to_contain_text("with reasoning,")
        expect(page.locator(".card .moved:visible").first).to_have_text(re.compile(r"[↑↓] [0-9]+|new"))
        auto = page.get_by_role("radio", name="Reason if it pays")
        expect(auto).to_be_disabled()
        assert "no gate for its Embedder" in (auto.get_attribute("title") or "")
        expect(page.get_by_role("radio", name="Reason first")).to_be_checked()
        keeps_rules(page)


def test_what_a_link_asks_for_in_vain_is_said(browser: Browser, library: ServedIndex, look: Look):
    asked = ["think=sometimes", "sort=price", "since=yesterday", "min_score=high", "modality=cat", "reasoner=nobody"]
    with opened(browser, "about:blank", expected="does not conform", **look) as page:
        for names in (asked, ["think=toString"]):
            page.goto(f"{library[0].url}/?q=something+red&{'&'.join(names)}")
            for name in names:
                expect(page.locator("#problem")).to_contain_text(f"This link asks for {name}, which is not known here; it was left out.")
            expect(page.locator("#summary")).to_contain_text("with reasoning,")


def test_a_link_that_asks_to_reason_says_where_there_is_no_reasoner(browser: Browser, tmp_path: Path, look: Look):
    (tmp_path / "a.txt").write_text("a letter about an elephant")
    with served(tmp_path, think=False) as server, opened(browser, f"{server.url}/?q=elephant&think=always", **look) as page:
        expect(page.locator("#problem")).to_have_text("This link asks to reason, but this server has no Reasoner: results are plain.")
        expect(page.locator(".card h3")).to_have_text(["a.txt"])


def test_a_choice_outlives_the_next_status(browser: Browser, library: ServedIndex, look: Look):
    """Each status of the server set the dial back to its default, so that a plain search was soon reasoned about again."""
    with opened(browser, library[0].url, **look) as page:
        settled(page)
        plain = page.get_by_role("radio", name="Plain")
        plain.check(force=True)
        with page.expect_response("**/api/status") as answered:
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        answered.value.finished()
        page.get_by_label("What to look for").fill("something red")
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_have_text(re.compile("result.* in "))
        expect(plain).to_be_checked()
        expect(page.locator("#summary")).not_to_contain_text("reasoning")
