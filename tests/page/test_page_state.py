"""What the page shows is in its address; late answers, many results, other hands and a server that goes away do not confuse it."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.server.run import make_service
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder
from tests.coloured_folder import picture
from tests.page.browser import Look, ServedIndex, a_truth, ask, card, names, needs_browser, opened, settled, until
from tests.page.test_page_look import keeps_rules
from tests.served import Served, fill, running, served

pytestmark = needs_browser


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """1,030 small pictures and texts without a Reasoner, and a document of seven pages."""
    folder = tmp_path_factory.mktemp("large")
    for number in range(30):
        save_image(PIL.Image.new("RGB", (8, 8), (number, 255 - number, 7 * number)), folder / f"picture {number:02}.png")
    for number in range(1_000):
        (folder / f"text {number:04}.txt").write_text(f"note number {number}", "utf-8")
    save_pdf([PIL.Image.new("RGB", (40, 50), (255, 20 * number, 20 * number)) for number in range(7)], folder / "seven.pdf")
    with served(folder, think=False) as server:
        yield server


def picture_bytes(colour: str) -> bytes:
    buffer = io.BytesIO()
    picture(colour).save(buffer, "PNG")
    return buffer.getvalue()


def choose_picture(page: Page, name: str, data: bytes) -> None:
    page.locator("#attach-file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
    expect(page.locator("#attached")).to_be_visible()
    settled(page)


def test_the_address_holds_all_that_is_shown(browser: Browser, library: ServedIndex, look: Look):
    path, _ = a_truth(library, "images", lambda truth: True)
    key = library[0].key(path)
    address = f"{library[0].url}/?q=something+red&modality=image&modality=video&words=a&sort=name&reasoner=before&item={key}"
    with opened(browser, address, **look) as page:
        expect(page.get_by_role("dialog")).to_have_accessible_name(Path(path).name)
        page.keyboard.press("Escape")
        expect(page.get_by_label("What to look for")).to_have_value("something red")
        assert page.get_by_role("checkbox", name="Images").is_checked()
        assert not page.get_by_role("checkbox", name="Pages").is_checked()
        assert page.get_by_role("radio", name="Before RL").is_checked()
        expect(page.locator("#num-filters")).to_have_text(" (2)")
        answer = library[0].search(text="something red", modality=["image", "video"], words="a", sort="name", reasoner="before", limit=48)
        shown = names(page)
        assert shown
        assert shown == [hit["name"] for hit in answer["hits"]][: len(shown)]
        assert "item=" not in page.url
        page.reload()
        expect(page.locator(".card h3").first).to_have_text(shown[0])
        assert page.get_by_role("radio", name="Before RL").is_checked()
        page.get_by_text("Images", exact=True).click()
        until(page, lambda: "modality=image" not in page.url)
        settled(page)
        page.go_back()
        expect(page.get_by_role("checkbox", name="Images")).to_be_checked()
        expect(page.locator(".card h3").first).to_have_text(shown[0])


def test_likes_are_in_the_address(browser: Browser, page: Page, library: ServedIndex):
    first, second = page.locator(".card").nth(0), page.locator(".card").nth(1)
    keys = first.get_attribute("data-key"), second.get_attribute("data-key")
    first.get_by_role("button", name="More like this").click()
    expect(page.locator("#summary")).to_contain_text("most alike first")
    assert f"like={keys[0]}" in page.url
    page.reload()
    expect(page.locator("#summary")).to_contain_text("most alike first")
    expect(page.get_by_label("Recommendation")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Recommendation")).to_be_hidden()
    with opened(browser, f"{library[0].url}/?like={keys[0]}&like={'0' * 64}", expected="status of 404") as other:
        expect(other.locator("#problem")).to_contain_text("no longer in the library")
        expect(other.locator("#summary")).to_contain_text("most alike first")


def test_back_closes_the_opened_item_and_nothing_else(page: Page):
    ask(page, "something red")
    before = names(page)
    page.locator(".open").nth(1).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    first = page.url
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog")).to_have_accessible_name(before[2])
    assert page.url != first
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog")).to_have_accessible_name(before[0])
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert names(page) == before
    assert "q=something" in page.url
    page.go_forward()
    expect(page.get_by_role("dialog")).to_have_accessible_name(before[0])
    page.get_by_label("Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator(".open").first).to_be_focused()


def press_while_going_back(page: Page, key: str) -> None:
    """Open and close the first item, and press a key before the browser has gone back, which is made to take its time."""
    page.evaluate("""() => {
        history.back = () => { window.goesBack = true; setTimeout(() => History.prototype.back.call(history), 300); };
        addEventListener("popstate", () => setTimeout(() => { window.wentBack = true; }, 100));
    }""")
    page.locator(".open").first.click()
    page.keyboard.press("Escape")
    until(page, lambda: page.evaluate("Boolean(window.goesBack)"))
    page.keyboard.press(key)
    until(page, lambda: page.evaluate("Boolean(window.wentBack)"))


def test_a_like_while_the_browser_goes_back_from_an_item_is_kept(page: Page):
    press_while_going_back(page, "+")
    expect(page).to_have_url(re.compile("like="))
    assert "item=" not in page.url, page.url
    expect(page.get_by_label("Recommendation")).to_be_visible()


def test_an_item_opened_again_while_the_browser_goes_back_from_it_stays_open(page: Page):
    press_while_going_back(page, "Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page).to_have_url(re.compile("item="))
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("item="))


def test_an_item_opened_before_the_last_one_is_done_with_closing_is_shown(page: Page):
    page.locator(".open").first.click()
    page.evaluate("() => { document.getElementById('item').close(); document.querySelectorAll('.open')[1].click(); }")
    expect(page.get_by_role("dialog")).to_have_accessible_name(names(page)[1])
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#summary")).to_contain_text("newest first")


def test_a_picture_of_the_library_is_in_the_address_by_its_key(page: Page, library: ServedIndex):
    path, _ = a_truth(library, "images", lambda truth: True)
    key = library[0].key(path)
    choose_picture(page, "copy.png", (library[0].folder / path).read_bytes())
    until(page, lambda: f"image={key}" in page.url)
    page.get_by_label("What to look for").fill("make it blue")
    page.keyboard.press("Enter")
    settled(page)
    expect(page.locator(f'.card[data-key="{key}"]')).to_have_count(0)
    first = names(page)
    page.reload()
    expect(page.locator("#attached")).to_contain_text(Path(path).name)
    expect(page.locator(".card h3").first).to_have_text(first[0])
    answer = library[0].search(text="make it blue", key=key, limit=48)
    assert first == [hit["name"] for hit in answer["hits"]][: len(first)]
    page.goto(f"{library[0].url}/?image={key}")
    expect(page.locator(".card").first).to_have_attribute("data-key", key)


@pytest.mark.slow
def test_another_picture_is_kept_by_this_browser(browser: Browser, page: Page, library: ServedIndex):
    choose_picture(page, "mine.png", picture_bytes("orange"))
    first = names(page)
    assert "image=own-" in page.url
    page.reload()
    expect(page.locator("#attached")).to_contain_text("mine.png")
    settled(page)
    assert names(page) == first
    with opened(browser, page.url) as stranger:
        expect(stranger.locator("#problem")).to_contain_text("this browser does not hold it")


def test_the_tab_is_named_after_what_is_asked(page: Page, library: ServedIndex):
    title = library[0].client.get("/api/status").json()["title"]
    expect(page).to_have_title(f"{title} – embedrl")
    ask(page, "something red")
    expect(page).to_have_title(f"something red – {title} – embedrl")
    page.go_back()
    expect(page).to_have_title(f"{title} – embedrl")


def test_a_late_answer_never_replaces_a_later_one(page: Page):
    held: list[Route] = []
    page.route("**/api/items?*", lambda route: held.append(route))
    page.get_by_text("Images", exact=True).click()
    until(page, lambda: bool(held))
    ask(page, "something red")
    searched, summary = names(page), page.locator("#summary").inner_text()
    for route in held:
        route.continue_()
    page.unroute("**/api/items?*")
    page.wait_for_timeout(500)
    assert names(page) == searched
    assert page.locator("#summary").inner_text() == summary


@pytest.mark.slow
@pytest.mark.parametrize("wide", [True, False])
def test_scrolling_loads_everything_past_a_thousand_with_few_rows(browser: Browser, large: Served, wide: bool):
    viewport = {"width": 1280, "height": 900} if wide else {"width": 375, "height": 800}
    with opened(browser, large.url, viewport=viewport) as page:
        settled(page)
        expect(page.locator("#summary")).to_contain_text("1,031 items")
        assert page.locator(".card .kind").first.inner_text() != "Text"  # pictures come first
        most = 0
        for _ in range(400):
            page.evaluate("scrollTo({top: document.documentElement.scrollHeight, behavior: 'instant'})")
            page.wait_for_timeout(30)
            most = max(most, page.locator(".card").count())
            if page.locator('.card[aria-posinset="1031"]').count():
                break
        expect(page.locator('.card[aria-posinset="1031"]')).to_be_visible()  # seven pages are one result
        assert most < 120
        at = page.evaluate("scrollY")
        page.wait_for_timeout(600)
        if wide:
            page.reload()
            expect(page.locator('.card[aria-posinset="1031"]')).to_be_visible()
            assert page.evaluate("scrollY") == pytest.approx(at, abs=900)


@pytest.mark.slow
def test_pages_of_a_document_are_gathered_and_can_be_opened(browser: Browser, large: Served, look: Look):
    with opened(browser, f"{large.url}/?modality=page", **look) as page:
        expect(page.locator(".card")).to_have_count(1)
        others = page.get_by_role("list", name="Also in this document:")
        expect(others.get_by_role("button")).to_have_count(4)
        others.get_by_role("button", name="page 3").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Page 3 of 7")
        expect(dialog.locator(".others button")).to_have_count(6)
        dialog.get_by_role("button", name="page 5").click()
        expect(dialog).to_contain_text("Page 5 of 7")
        assert page.locator(".card").count() == 1


def test_a_refused_filter_leaves_no_old_hits_and_speaks_of_the_labels(browser: Browser, library: ServedIndex, look: Look):
    with opened(browser, library[0].url, expected="status of 422", **look) as page:
        settled(page)
        page.locator("#filters summary").click()
        page.get_by_label("From", exact=True).fill("2024-05-01")
        page.get_by_label("To", exact=True).fill("2023-05-01")
        page.keyboard.press("Enter")
        expect(page.locator("#problem")).to_have_text("“From” must be the earlier day, “To” the later one.")
        expect(page.locator(".card")).to_have_count(0)


@pytest.mark.slow
def test_the_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(browser: Browser, tmp_path: Path, look: Look):
    (tmp_path / "letter.txt").write_text("Dear elephant", "utf-8")
    fill(tmp_path, None, embedder := FakeEmbedder())
    service = make_service(Settings(port=0), {"main": (tmp_path, "none", None)}, embedder, "fake")
    with running(service) as url, opened(browser, "about:blank", expected="net::ERR", **look) as page:
        page.goto(url)
        expect(page.locator(".card h3")).to_have_text("letter.txt")
        page.route("**/api/**", lambda route: route.abort("connectionrefused"))
        page.get_by_label("What to look for").fill("elephant")
        page.keyboard.press("Enter")
        expect(page.locator("#gone")).to_contain_text("The server does not answer")
        expect(page.locator(".card h3")).to_have_text("letter.txt")
        expect(page.locator("#holds")).to_have_text("1 passage")
        keeps_rules(page)
        page.unroute("**/api/**")
        expect(page.locator("#gone")).to_be_hidden()
        expect(page.locator("#summary")).to_contain_text("1 result")


def test_each_file_of_an_upload_has_a_bar_and_a_fate(browser: Browser, tmp_path: Path, look: Look):
    (tmp_path / "letter.txt").write_text("Dear elephant", "utf-8")
    with served(tmp_path, max_upload_bytes=100_000) as server, opened(browser, server.url, expected="status of 4", **look) as page:
        settled(page)
        files = [
            ("red.png", "image/png", picture_bytes("red")),
            ("broken.heic", "image/heic", b"\0\0\0\x18ftypheic no more"),
            ("large.png", "image/png", b"\x89PNG" + bytes(200_000)),
            ("letter again.txt", "text/plain", b"Dear elephant"),
        ]
        page.locator("#add-files").set_input_files([{"name": name, "mimeType": kind, "buffer": data} for name, kind, data in files])
        panel = page.get_by_label("Files being added")
        expect(panel.get_by_role("status")).to_have_text("2 of 4 files added")
        expect(panel.locator("li")).to_have_count(4)
        expect(panel.get_by_role("progressbar")).to_have_count(4)
        said = panel.locator("li").all_inner_texts()
        assert re.search(r"red\.png\s+added", said[0])
        assert re.search(r"broken\.heic\s+not added: .+", said[1])
        assert re.search(r"large\.png\s+not added: has 196 kB; this server takes at most 98 kB a file", said[2])
        assert re.search(r"letter again\.txt\s+was there already", said[3])
        keeps_rules(page)
        panel.get_by_role("button", name="Put the list away").click()
        expect(panel).to_be_hidden()


def test_arrows_lead_from_the_box_to_the_results_and_back(page: Page):
    page.get_by_label("What to look for").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".open").first).to_be_focused()

    def at_the_end() -> bool:
        page.keyboard.press("End")  # again: further results may come meanwhile
        focused = page.evaluate("document.activeElement.closest('.card')?.ariaPosInSet")
        return focused == page.locator(".card").last.get_attribute("aria-posinset")

    until(page, at_the_end)
    page.keyboard.press("Home")
    expect(page.locator(".open").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("What to look for")).to_be_focused()


def test_a_picture_can_be_enlarged_by_keys_buttons_and_wheel(page: Page, library: ServedIndex):
    path, _ = a_truth(library, "images", lambda truth: bool(truth.evidence.boxes))
    card(page, path, library).locator(".open").click()
    image = page.locator("dialog .picture")
    expect(image).to_have_class(re.compile("loaded"))

    def width() -> float:
        return image.evaluate("node => node.getBoundingClientRect().width")

    whole = width()
    page.keyboard.press("+")
    assert width() == pytest.approx(1.5 * whole, rel=0.01)
    page.get_by_role("button", name="Zoom out").click()
    assert width() == pytest.approx(whole, rel=0.01)
    page.locator("dialog .stage").hover()
    page.mouse.wheel(0, -300)
    until(page, lambda: width() == pytest.approx(2.718 * whole, rel=0.01))
    page.keyboard.press("0")
    assert width() == pytest.approx(whole, rel=0.01)


def test_a_clip_plays_from_the_chosen_moment(page: Page, library: ServedIndex):
    path, _ = a_truth(library, "videos", lambda truth: bool(truth.evidence.key_frames))
    shown = card(page, path, library)
    shown.locator(".frame").first.click()
    video = page.locator("dialog video")
    until(page, lambda: video.evaluate("video => !video.paused || video.ended"))
    assert re.search(r"[?&]t=[\d.]+", page.url)


def test_text_tiles_do_not_repeat_themselves(page: Page, library: ServedIndex):
    ask(page, "elephant")
    letter = page.locator(f'.card[data-key="{library[0].key("letter.txt")}"]')
    said = letter.inner_text().lower()
    assert said.count("elephant") == 1
    assert said.count("invoice") == 1


def test_the_page_speaks_chinese(browser: Browser, library: ServedIndex, look: Look):
    with opened(browser, f"{library[0].url}/?q=something+red", locale="zh-CN", **look) as page:
        expect(page.locator("#summary")).to_contain_text("个结果")
        expect(page.get_by_role("button", name="搜索")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == "zh"
        page.get_by_role("button", name="English").click()
        expect(page.locator("#summary")).to_contain_text("results")
        page.reload()
        expect(page.get_by_role("button", name="Search", exact=True)).to_be_visible()
        expect(page.get_by_label("What to look for")).to_have_value("something red")


@pytest.mark.slow
def test_nano_models_say_that_they_are_blind(browser: Browser, tmp_path: Path, look: Look):
    (tmp_path / "letter.txt").write_text("Dear elephant", "utf-8")
    fill(tmp_path, None, embedder := FakeEmbedder())
    service = make_service(Settings(port=0), {"main": (tmp_path, "none", None)}, embedder, "nano")
    with running(service) as url, opened(browser, url, **look) as page:
        expect(page.locator("#blind summary")).to_contain_text("on real photos they are blind")
        page.locator("#blind summary").click()
        expect(page.locator("#blind code")).to_contain_text("embedrl index FOLDER --reasoner")
        page.get_by_role("button", name="Do not show this again").click()
        page.reload()
        expect(page.locator(".card").first).to_be_visible()
        expect(page.locator("#blind")).to_be_hidden()
