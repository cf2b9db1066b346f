"""Scrolling measures nothing and changes only rows that come or go (issue M: 60 frames a second with 5,000 items); counted, never timed."""

from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.page.browser import ServedIndex, needs_browser, opened, settled

pytestmark = needs_browser
SCROLL = """async ([step, frames]) => {
  const grid = document.getElementById("grid");
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  let quiet = 0; // what the page does by itself after it was filled is not counted
  const before = new MutationObserver(() => (quiet = 0));
  before.observe(grid, { childList: true, subtree: true, attributes: true });
  for (; quiet < 10; quiet += 1) await drawn();
  before.disconnect();
  const counts = { reads: 0, changes: 0 };
  const restore = [];
  for (const [prototype, name] of [
    ...["offsetHeight", "offsetWidth", "offsetLeft", "offsetTop"].map((name) => [HTMLElement.prototype, name]),
    ...["clientWidth", "clientHeight", "scrollHeight", "getBoundingClientRect"].map((name) => [Element.prototype, name]),
  ]) {
    const own = Object.getOwnPropertyDescriptor(prototype, name);
    const counted = own.get
      ? { get() { counts.reads += 1; return own.get.call(this); } }
      : { value(...given) { counts.reads += 1; return own.value.apply(this, given); } };
    Object.defineProperty(prototype, name, { ...own, ...counted });
    restore.push(() => Object.defineProperty(prototype, name, own));
  }
  const isOfRows = ({ target }) => target.matches("#grid, .card"); // images that load draw their boxes meanwhile
  const observer = new MutationObserver((changes) => (counts.changes += changes.filter(isOfRows).length));
  observer.observe(grid, { childList: true, subtree: true, attributeFilter: ["style", "aria-posinset"] });
  for (let at = 0; at < frames; at += 1) {
    scrollTo({ top: scrollY + step, behavior: "instant" });
    await drawn();
  }
  observer.disconnect();
  restore.forEach((put) => put());
  return { ...counts, y: scrollY };
}"""


def scrolled(browser: Browser, library: ServedIndex, step: int, frames: int, **options: Any) -> dict[str, int]:
    with opened(browser, library[0].url, **options) as page:
        settled(page)
        return page.evaluate(SCROLL, [step, frames])


@pytest.mark.parametrize("width", [1280, 375])
def test_scrolling_within_rows_changes_and_measures_nothing(browser: Browser, library: ServedIndex, width: int):
    counts = scrolled(browser, library, 2, 10, viewport={"width": width, "height": 800})
    assert counts == {"reads": 0, "changes": 0, "y": 20}


@pytest.mark.parametrize("width", [1280, 375])
def test_scrolling_past_rows_measures_nothing(browser: Browser, library: ServedIndex, width: int):
    counts = scrolled(browser, library, 300, 8, viewport={"width": width, "height": 800})
    assert counts["y"] > 1000
    assert counts["changes"] > 0
    assert counts["reads"] == 0
