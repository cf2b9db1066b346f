"""What comes late, or is typed meanwhile, does not change what was asked."""

import re

from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.page.browser import Look, ServedIndex, ask, needs_browser, opened, settled, until

pytestmark = needs_browser


def test_further_results_are_of_the_words_that_were_sent(page: Page):
    ask(page, "something red")
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/api/search") else None)
    page.get_by_label("What to look for").fill("an elephant that nobody asked for")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    until(page, lambda: bool(sent))
    assert "something red" in (sent[0].post_data or "")
    assert "elephant" not in (sent[0].post_data or "")
    page.locator(".card .open").first.click()
    expect(page.get_by_role("dialog").locator(".asked-for")).to_contain_text("something red")


def test_words_typed_while_a_question_is_answered_are_not_answered(browser: Browser, library: ServedIndex, look: Look):
    with opened(browser, library[0].url, **look) as page:
        settled(page)
        held: list[Route] = []
        asked: list[str] = []
        page.route("**/api/search/stream", lambda route: held.append(route))
        page.on("request", lambda request: asked.append(request.post_data or "") if request.url.endswith("/v1/ask") else None)
        page.get_by_label("What to look for").fill("where is a red star?")
        page.keyboard.press("Enter")
        until(page, lambda: bool(held))
        page.get_by_label("What to look for").fill("when is the harvest?")
        held[0].continue_()
        until(page, lambda: bool(asked))
        assert "red star" in asked[0]
        assert "harvest" not in asked[0]


def test_a_picture_that_comes_after_a_newer_question_is_dropped(browser: Browser, library: ServedIndex, look: Look):
    key = library[0].search(text="something red", limit=1)["hits"][0]["key"]
    with opened(browser, "about:blank", **look) as page:
        held: list[Route] = []
        page.route(f"**/api/items/{key}*", lambda route: held.append(route))
        page.goto(f"{library[0].url}/?image={key}")
        until(page, lambda: bool(held))
        ask(page, "something blue")
        with page.expect_response(re.compile(f"/api/items/{key}")):
            held[0].continue_()
        settled(page)
        page.wait_for_timeout(200)  # what would attach it has had its turn
        expect(page.locator("#attached")).to_be_hidden()
        expect(page).to_have_url(re.compile(r"\?q=something(\+|%20)blue$"))


def test_an_item_that_is_opened_by_going_forth_stays_open_though_its_end_is_told_late(page: Page):
    page.evaluate("""() => {
        const dialog = document.getElementById("item");
        dialog.addEventListener("close", (event) => {
            if (event.late) return;
            event.stopImmediatePropagation();
            setTimeout(() => { dialog.dispatchEvent(Object.assign(new Event("close"), { late: true })); window.told = true; }, 400);
        }, { capture: true });
    }""")
    page.locator(".card .open").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.go_forward()
    until(page, lambda: page.evaluate("Boolean(window.told)"))
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page).to_have_url(re.compile("item="))
