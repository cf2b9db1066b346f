"""The page at both widths, in light and dark: nothing breaks a rule of axe, and what is touched is large enough."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.browser import Look, ServedIndex, ask, needs_browser, opened, settled

pytestmark = [needs_browser, pytest.mark.slow]
FOUND = find_spec("axe_playwright_python")
AXE = Path(FOUND.submodule_search_locations[0]) / "axe.min.js" if FOUND and FOUND.submodule_search_locations else None
MIN_TARGET = 44
SMALL = """(least) => [...document.querySelectorAll('button, a, summary, input, select, label:has(input)')]
    .filter((node) => node.checkVisibility() && !node.closest('.unseen') && !node.matches('.skip, :is(.pills, .toggle, .switch) input'))
    .map((node) => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()])
    .filter(([, { width, height }]) => width && (width < least || height < least))
    .map(([html, { width, height }]) => `${html} ${width}x${height}`)"""
VIOLATIONS = """() => axe.run(document, {resultTypes: ['violations']})
    .then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 120)}`)))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_the_page_keeps_the_rules_in_every_state(browser: Browser, library: ServedIndex, width: int, scheme: str, locale: str):
    if AXE is None:
        pytest.skip("axe-playwright-python is not installed: `make setup` does")
    size = {"width": width, "height": 900}
    with opened(browser, library[0].url, viewport=size, color_scheme=scheme, locale=locale) as page:
        settled(page)
        keeps_rules(page)
        page.goto(f"{library[0].url}/?q=something+red")
        expect(page.locator("#read")).to_be_visible()
        settled(page)
        page.locator("#filters summary").click()
        page.locator("#read summary").click()
        keeps_rules(page)
        page.locator(".open").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.locator(".thoughts summary").click()
        keeps_rules(page)
        page.keyboard.press("Escape")
        page.locator(".card .taste-button").first.click()
        expect(page.locator("#taste")).to_be_visible()
        settled(page)
        keeps_rules(page)


def keeps_rules(page: Page) -> None:
    """Hold what is shown to axe's rules (where it is installed), to targets of 44 pixels, and to the width of the screen."""
    if AXE is not None:
        page.evaluate(AXE.read_text("utf-8"))
        assert page.evaluate(VIOLATIONS) == []
    assert page.evaluate(SMALL, MIN_TARGET) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


def test_five_thousand_results_scroll_with_few_nodes(browser: Browser, library: ServedIndex, look: Look):
    """The number of cards in the document is what a frame costs; it must not grow with the number of results."""
    hit = library[0].search(text="something red", limit=1)["hits"][0]
    with opened(browser, "about:blank", **look) as page:

        def many(route) -> None:
            offset = int(route.request.url.split("offset=")[1].split("&")[0])
            names = range(offset, min(offset + 48, 5_000))
            found = [{**hit, "key": f"{number:064x}", "path": f"{number}.png", "name": f"{number}.png"} for number in names]
            route.fulfill(json={"items": found, "total": 5_000, "offset": offset, "more": offset + 48 < 5_000})

        page.route("**/api/items?*", many)
        page.route("**/thumbnail", lambda route: route.fulfill(status=200, body=b"", content_type="image/png"))
        page.goto(f"{library[0].url}/?modality=image")
        settled(page)
        most = 0
        for _ in range(400):
            page.evaluate("scrollTo({top: document.documentElement.scrollHeight, behavior: 'instant'})")
            page.wait_for_timeout(20)
            most = max(most, page.locator(".card").count())
            if page.locator('.card[aria-posinset="5000"]').count():
                break
        expect(page.locator('.card[aria-posinset="5000"]')).to_be_visible()
        assert most < 60
        page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        expect(page.locator(".card h3").first).to_have_text("0.png")
        ask(page, "something red")
