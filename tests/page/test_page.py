"""The page in a real browser, against the real server, over files whose evidence is known."""

import base64
import io
import re
from pathlib import Path

import PIL.Image
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from embedrl.data.tcot import TCoT
from embedrl.server.run import make_service
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.page.browser import PAGE_SIZE, Look, ServedIndex, a_truth, ask, card, names, needs_browser, opened, settled, until
from tests.page.test_page_look import keeps_rules
from tests.served import fill, running, served
from tests.world_library import HOSTILE_NAME, LETTER, SCRIPT

TOKEN = "a-token-of-some-length"
pytestmark = needs_browser


def test_typing_a_search_shows_the_plain_result_and_then_the_reasoned_one(page: Page, library: ServedIndex):
    expect(page.locator("#summary")).to_contain_text("newest first")
    page.evaluate(
        """() => { window.said = []; new MutationObserver(() => window.said.push(document.getElementById('summary').textContent))
                   .observe(document.getElementById('summary'), {childList: true, characterData: true, subtree: true}) }"""
    )
    ask(page, "something red")
    said = page.evaluate("window.said")
    assert any("without reasoning" in words for words in said), said
    assert "with reasoning," in said[-1], said
    answer = library[0].search(text="something red", limit=PAGE_SIZE)
    shown = names(page)
    assert shown == [hit["name"] for hit in answer["hits"]][: len(shown)]
    assert page.locator(".card .score").first.inner_text() == f"{answer['hits'][0]['score']:.2f}"
    plain = library[0].search(text="something red", limit=PAGE_SIZE, think="false")
    before = {hit["key"]: rank for rank, hit in enumerate(plain["hits"], 1)}
    for rank, hit in enumerate(answer["hits"][: len(shown)], 1):
        moved = page.locator(f'.card[data-key="{hit["key"]}"] .moved')
        was = before.get(hit["key"])
        expected = "new" if was is None else f"↑ {was - rank}" if was > rank else f"↓ {rank - was}" if was < rank else ""
        assert moved.text_content() == expected
    assert "q=something" in page.url
    expect(page.locator("#read summary")).to_contain_text("Read as: something red")
    page.go_back()
    expect(page.locator("#summary")).to_contain_text("newest first")


def test_what_is_typed_before_the_page_knows_the_library_is_searched(browser: Browser, library: ServedIndex, look: Look):
    with opened(browser, "about:blank", **look) as page:
        held: list[Route] = []
        page.route("**/api/status", lambda route: held.append(route))
        page.goto(library[0].url)
        page.get_by_label("What to look for").fill("something red")
        page.keyboard.press("Enter")
        until(page, lambda: bool(held))
        held[0].continue_()
        page.unroute("**/api/status")
        expect(page.locator("#summary")).to_contain_text("with reasoning,")
        expect(page.get_by_label("What to look for")).to_have_value("something red")


def test_boxes_lie_on_the_pixels_of_the_known_evidence(page: Page, library: ServedIndex):
    path, truth = a_truth(library, "images", lambda truth: len(truth.evidence.boxes) >= 2)
    shown = card(page, path, library)
    shown.scroll_into_view_if_needed()
    expect(shown.locator(".picture")).to_have_class(re.compile("loaded"))
    check_boxes(page, shown.locator(".picture"), truth)
    shown.locator(".open").click()
    large = page.locator("dialog .picture")
    expect(large).to_have_class(re.compile("loaded"))
    check_boxes(page, large, truth)


def check_boxes(page: Page, picture: Locator, truth: TCoT) -> None:
    """Compare drawn boxes with where they lie in the picture as it is shown, by geometry and by the colour of their edges."""
    frame = picture.locator("img").bounding_box()
    assert frame
    width, height = picture.locator("img").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    scale = min(frame["width"] / width, frame["height"] / height)
    left, top = frame["x"] + (frame["width"] - width * scale) / 2, frame["y"] + (frame["height"] - height * scale) / 2
    drawn = [box.bounding_box() for box in picture.locator("rect.box.verified").all()]
    assert len(drawn) == len(truth.evidence.boxes)
    pixels = PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for box, (x1, y1, x2, y2) in zip(drawn, truth.evidence.boxes, strict=True):
        expected = (
            left + x1 / 1000 * width * scale,
            top + y1 / 1000 * height * scale,
            left + x2 / 1000 * width * scale,
            top + y2 / 1000 * height * scale,
        )
        assert box
        found = (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
        assert found == pytest.approx(expected, abs=2.5)  # half of the line is outside
        middle = (expected[1] + expected[3]) / 2
        edge = [pixels.getpixel((round(expected[0]) + step, round(middle))) for step in (-1, 0, 1)]
        assert min(sum(abs(one - other) for one, other in zip(pixel, (0x1F, 0x6F, 0x60), strict=True)) for pixel in edge) < 60, edge


def test_a_dropped_picture_finds_itself_and_can_be_put_away(page: Page, library: ServedIndex):
    path, _ = a_truth(library, "images", lambda truth: True)
    data = base64.b64encode((library[0].folder / path).read_bytes()).decode()
    transfer = page.evaluate_handle(
        """([data, name]) => { const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, {type: 'image/' + (name.endsWith('png') ? 'png' : 'jpeg')})); return transfer }""",
        [data, Path(path).name],
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_have_class(re.compile("dropping"))
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#attached")).to_contain_text(Path(path).name)
    expect(page.locator("#summary")).to_contain_text("with reasoning,")
    expect(page.locator("#drop")).not_to_have_class(re.compile("dropping"))
    found = library[0].search(file=(Path(path).name, (library[0].folder / path).read_bytes()), limit=PAGE_SIZE)
    shown = names(page)
    assert shown == [hit["name"] for hit in found["hits"]][: len(shown)]
    page.get_by_label("Look without this file").click()
    expect(page.locator("#summary")).to_contain_text("newest first")
    page.evaluate(
        """(transfer) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true}))""",
        transfer,
    )
    expect(page.locator("#attached img")).to_be_visible()
    expect(page.locator("#summary")).to_contain_text("with reasoning,")
    shown = names(page)
    assert shown == [hit["name"] for hit in found["hits"]][: len(shown)]


def test_a_file_that_is_no_picture_is_refused_in_words(page: Page):
    page.locator("#attach-file").set_input_files({"name": "notes.zip", "mimeType": "application/zip", "buffer": b"PK"})
    expect(page.get_by_role("alert").filter(has_text="neither")).to_be_visible()


def test_a_video_opens_at_its_key_frame(page: Page, library: ServedIndex):
    path, _ = a_truth(library, "videos", lambda truth: max(truth.evidence.key_frames, default=0) > 2)
    hit = library[0].client.get(f"/api/items/{library[0].key(path)}").json()
    frame = max(hit["evidence"]["key_frames"], key=lambda frame: frame["number"])
    assert frame["verified"]
    assert frame["time_s"] > 0
    page.get_by_text("Videos", exact=True).click()
    shown = card(page, path, library)
    shown.get_by_role("button", name=f"Key frame {frame['number']},").click()
    video = page.locator("dialog video")
    played_from(page, video, frame["time_s"])
    assert video.evaluate("video => [video.error, video.videoWidth > 0]") == [None, True]
    first = hit["evidence"]["key_frames"][0]
    page.locator("dialog").get_by_role("button", name=f"Key frame {first['number']},").click()
    played_from(page, video, first["time_s"])
    image = page.locator("dialog .frame img").first
    until(page, lambda: image.evaluate("image => image.complete && image.naturalWidth > 0"))


def played_from(page: Page, video: Locator, time_s: float) -> None:
    """Wait until a clip was played from a time on; of two times, the earlier one is to be tried last."""
    until(page, lambda: video.evaluate("video => video.played.length ? video.played.start(0) : null") == pytest.approx(time_s, abs=0.1))


def test_the_switch_shows_before_and_after_training(page: Page, library: ServedIndex):
    path, truth = a_truth(library, "images", lambda truth: truth.evidence.keywords == () and len(truth.answer.split()) > 4)
    ask(page, truth.answer)
    shown = page.locator(f'.card[data-key="{library[0].key(path)}"]')
    expect(shown.locator(".answer")).to_have_text(truth.answer)
    after = names(page)
    assert page.get_by_role("radio", name="After RL").is_checked()
    page.get_by_text("Before RL").click()
    expect(page.locator("#summary")).to_contain_text(re.compile(r"moved|came in|No rank"))
    answer = library[0].search(text=truth.answer, limit=PAGE_SIZE, reasoner="before")
    expect(page.locator(".card h3").first).to_have_text(answer["hits"][0]["name"])
    shown = names(page)
    assert shown == [hit["name"] for hit in answer["hits"]][: len(shown)]
    assert shown != after[: len(shown)]
    assert page.locator(".card .answer").first.inner_text() == answer["hits"][0]["tcot"]["answer"]
    page.get_by_text("After RL").click()
    expect(page.locator(".card h3").first).to_have_text(after[0])
    shown = min(len(after), len(names(page)))
    assert names(page)[:shown] == after[:shown]


def test_more_and_less_like_this_recommend_with_reasons(page: Page, library: ServedIndex):
    path, _ = a_truth(library, "images", lambda truth: len(truth.answer.split()) > 4)
    liked = card(page, path, library)
    liked.get_by_role("button", name="More like this").click()
    expect(page.locator("#summary")).to_contain_text("most alike first")
    bar = page.get_by_label("Recommendation")
    expect(bar.get_by_role("list", name="More like")).to_contain_text(Path(path).name)
    answer = library[0].client.post("/api/similar", json={"liked": [library[0].key(path)]}).json()
    expect(page.locator(".card h3").first).to_have_text(answer["hits"][0]["name"])
    assert page.locator(".card .reason").first.inner_text() == answer["hits"][0]["reason"]
    first = page.locator(".card").first
    disliked = first.get_attribute("data-key")
    first.get_by_role("button", name="Less like this").click()
    expect(bar.get_by_role("list", name="Less like")).to_be_visible()
    expect(page.locator(f'.card[data-key="{disliked}"]')).to_have_count(0)
    bar.get_by_role("button", name="Clear").click()
    expect(bar).to_be_hidden()
    expect(page.locator("#summary")).to_contain_text("newest first")


def test_everything_works_with_keys_only(page: Page, library: ServedIndex):
    expect(page.locator(".card").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("What to look for")).to_be_focused()
    page.keyboard.type("elephant")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("with reasoning,")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "open":
            break
    expect(page.locator(".open").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".open").nth(2)).to_be_focused()
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("new Set([...document.querySelectorAll('.card')].map((card) => card.offsetLeft)).size")
    expect(page.locator(".open").nth(2 + columns)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_accessible_name(names(page)[0])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator(".open").first).to_be_focused()
    page.keyboard.press("+")
    expect(page.get_by_label("Recommendation")).to_be_visible()


def test_a_card_opens_wherever_it_is_clicked_but_for_its_buttons(page: Page):
    ask(page, "elephant")
    first = page.locator(".card").first
    answer, dialog = first.locator(".answer, .head h3").first, page.get_by_role("dialog")
    answer.click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.card h3'))")
    answer.dispatch_event("click")
    expect(dialog).to_be_hidden()
    page.evaluate("getSelection().removeAllRanges()")
    first.locator(".taste-button").first.click()
    expect(page.get_by_label("Recommendation")).to_be_visible()
    expect(dialog).to_be_hidden()


def test_keywords_are_marked_and_pages_can_be_read(page: Page, library: ServedIndex):
    page.get_by_label("What to look for").fill("")
    page.locator("#filters summary").click()
    page.get_by_label("Exact words").fill("Elephant invoice")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(1)
    assert names(page) == [LETTER]
    assert page.locator(".card .words mark").all_inner_texts() == ["Dear", "elephant", "invoice", "b", "post", "b", "Your", "grocer"]
    page.locator(".open").click()
    expect(page.get_by_role("region", name="Text")).to_contain_text("in the <b>post</b>. Your grocer")
    expect(page.get_by_role("region", name="Text").locator("mark").nth(1)).to_have_text("elephant")
    page.get_by_label("Close").click()
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_text("Pages", exact=True).click()
    expect(page.locator(".card .kind").first).to_have_text("Page")
    page.locator(".open").first.click()
    expect(page.locator("dialog .picture")).to_have_class(re.compile("loaded"))
    assert page.locator("dialog img").first.evaluate("image => image.naturalWidth") > 100


def test_filters_narrow_what_is_shown(page: Page):
    page.get_by_text("Before RL").click()
    page.locator("#filters summary").click()
    page.get_by_label("Folder", exact=True).fill("videos")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("14 items")
    settled(page)
    assert all("Video" in kind for kind in page.locator(".card .kind").all_inner_texts())
    page.get_by_label("From", exact=True).fill("2199-01-01")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_have_text("Nothing passes the filters.")
    expect(page.locator("#num-filters")).to_have_text(" (2)")
    page.get_by_role("button", name="Clear filters").click()
    ask(page, "something blue")
    page.get_by_label("Minimum score").fill("0.99")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("Nothing found")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction_only(browser: Browser, library: ServedIndex, scheme: str):
    with opened(browser, library[0].url, viewport={"width": 375, "height": 700}, color_scheme=scheme, has_touch=True) as page:
        expect(page.locator(".card").first).to_be_visible()
        fits(page)
        page.locator("#filters summary").click()
        fits(page)
        ask(page, "something red")
        page.locator(".card").nth(1).get_by_role("button", name="More like this").click()
        expect(page.get_by_label("Recommendation")).to_be_visible()
        fits(page)
        page.locator(".open").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        fits(page)
        light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every((part) => part > 128)")
        assert light == (scheme == "light")


def fits(page: Page) -> None:
    wide = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility() && !node.closest('.unseen, .skip, svg') &&
            node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.tagName + '.' + node.className)"""
    )
    assert (page.evaluate("document.documentElement.scrollWidth"), wide) == (375, [])


def test_hostile_names_and_tcots_are_shown_as_text(page: Page, library: ServedIndex):
    shown = card(page, HOSTILE_NAME, library)
    shown.scroll_into_view_if_needed()
    assert shown.locator("h3").inner_text() == HOSTILE_NAME
    assert shown.locator(".answer").text_content() == f"{SCRIPT} hostile"
    assert shown.locator(".keyword").first.text_content() == f"{SCRIPT}not quoted"
    expect(shown).to_contain_text("4 pieces of evidence fail their check")
    shown.locator(".open").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("How it was read").click()
    expect(dialog.locator(".thoughts")).to_contain_text(SCRIPT)
    expect(dialog.locator(".box-list li.unverified")).to_have_count(1)
    expect(dialog.locator("rect.box.verified")).to_have_count(1)
    expect(dialog.locator(".frame.unverified")).to_contain_text("no such frame")
    page.wait_for_load_state("networkidle")
    assert page.locator('img[src="x"], script:not([src]), h3 b').count() == 0
    assert "attacked" not in page.title()


def test_files_can_be_added_found_and_removed(browser: Browser, library: ServedIndex, look: Look):
    with opened(browser, library[0].url, expected="status of 415", **look) as page:
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (64, 48), (250, 150, 190)).save(buffer, "PNG")
        added = re.compile(r"my pink.*\.png")
        ask(page, "something pink")
        page.locator("#add-files").set_input_files({"name": "my pink.png", "mimeType": "image/png", "buffer": buffer.getvalue()})
        page.get_by_role("button", name="The library has changed").click()
        expect(page.locator(".card h3").first).to_have_text(added)
        page.locator("#add-files").set_input_files(
            {"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n but no more"}
        )
        expect(page.get_by_label("Files being added").locator(".refused")).to_contain_text("not added")
        page.locator(".open").first.click()
        page.get_by_role("button", name="Remove", exact=True).click()
        page.get_by_role("button", name="Remove for good?").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.locator(".card h3").first).not_to_have_text(added)


def test_indexing_is_shown_until_it_is_done(browser: Browser, tmp_path: Path, look: Look):
    (tmp_path / LETTER).write_text("Dear elephant", "utf-8")
    reasoner = FakeReasoner()
    with served(tmp_path, reasoner=reasoner) as server, opened(browser, server.url, **look) as page:
        reasoner.sleep_s = 4.0
        page.locator("#add-files").set_input_files({"name": "b.txt", "mimeType": "text/plain", "buffer": b"another elephant"})
        expect(page.locator("#indexing")).to_contain_text("Reasoning about new files")
        expect(page.locator(".card")).to_have_count(2)
        expect(page.locator("#indexing")).to_be_hidden()
        expect(page.locator(".card .words mark").filter(has_text="another")).to_have_count(1)


def test_a_locked_library_asks_for_its_token_once(browser: Browser, tmp_path: Path, look: Look):
    embedder = FakeEmbedder()
    (tmp_path / LETTER).write_text("Dear elephant", "utf-8")
    fill(tmp_path, None, embedder)
    service = make_service(Settings(port=0, token=TOKEN), {"main": (tmp_path, "none", None)}, embedder, "fake")
    with running(service) as url, opened(browser, url, expected="status of 4", **look) as page:
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#login-problem")).to_be_visible()
        keeps_rules(page)
        page.get_by_role("textbox", name="Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator(".card h3")).to_have_text(LETTER)
        expect(page.locator("#reasoners")).to_be_hidden()
        expect(page.get_by_text("Reason first")).to_be_hidden()
        page.reload()
        expect(page.locator(".card h3")).to_have_text(LETTER)
        page.get_by_label("What to look for").fill("elephant")
        page.keyboard.press("Enter")
        expect(page.locator("#summary")).to_contain_text("1 result in")
