"""Why this hit: words of question and hit are joined, boxes are numbered and named, ranks stand side by side, crops are checked."""

import re

from playwright.sync_api import Browser, expect

from embedrl.data.box_names import box_names
from tests.page.browser import Look, ServedIndex, a_truth, needs_browser, opened, settled

pytestmark = needs_browser


def test_the_opened_hit_says_why_it_is_there(browser: Browser, library: ServedIndex, look: Look):
    path, truth = a_truth(library, "images", lambda truth: len([name for name in box_names(truth) if name]) >= 2 and "," in truth.answer)
    first = truth.answer.split(",")[0]
    key = library[0].key(path)
    question = f"an elephant and {first}"
    address = f"{library[0].url}/?q={question.replace(' ', '+')}&item={key}"
    with opened(browser, address, **look) as page:
        dialog = page.get_by_role("dialog")
        expect(dialog.locator(".asked-for")).to_contain_text(question)
        expect(dialog.locator(".asked-for .missing")).to_have_text(["elephant"])
        expect(dialog.locator(".asked-for mark")).to_have_text([first])
        expect(dialog.locator(".answer mark.asked").first).to_contain_text(first)
        answer = library[0].search(text=question, limit=48)
        ranks = [hit["key"] for hit in answer["hits"]]
        plain = [hit["key"] for hit in library[0].search(text=question, limit=48, think="false")["hits"]]
        assert next(hit for hit in answer["hits"] if hit["key"] == key)["shared"] == [first]
        expect(dialog).to_contain_text(f"Rank {ranks.index(key) + 1} with reasoning, {plain.index(key) + 1} without")
        expect(dialog.locator(".picture")).to_have_class(re.compile("loaded"))
        names = box_names(truth)
        lines = dialog.locator(".box-list li")
        expect(lines).to_have_count(len(names))
        for number, name in enumerate(names, 1):
            expect(lines.nth(number - 1)).to_contain_text(f"{number}{name}")
            expect(lines.nth(number - 1)).to_contain_text("inside the picture")
            expect(dialog.locator(".boxes text").nth(number - 1)).to_have_text(str(number))
            assert dialog.locator(".answer mark sup").filter(has_text=str(number)).count() >= 1
        lines.nth(1).hover()
        expect(dialog.locator('.boxes .box[data-number="2"]')).to_have_class(re.compile("lit"))
        expect(dialog.locator('.boxes .box[data-number="1"]')).not_to_have_class(re.compile("lit"))
        dialog.get_by_role("button", name="Check the boxes").click()
        expect(lines.first).to_contain_text(re.compile(r"(fits|does not fit) its crop: better than (only )?\d+ % of \d+ other names"))


def test_cards_show_both_ranks_and_mark_what_was_asked(browser: Browser, library: ServedIndex, look: Look):
    with opened(browser, f"{library[0].url}/?q=something+red", **look) as page:
        expect(page.locator("#summary")).to_contain_text("with reasoning,")
        settled(page)
        answer = library[0].search(text="something red", limit=48)
        plain = [hit["key"] for hit in library[0].search(text="something red", limit=48, think="false")["hits"]]
        for rank, hit in enumerate(answer["hits"][:4], 1):
            card = page.locator(f'.card[data-key="{hit["key"]}"]')
            before = f"plain {plain.index(hit['key']) + 1}" if hit["key"] in plain else "plain >48"
            expect(card.locator(".ranks")).to_have_text(f"{before} → reasoned {rank}")
            assert card.locator("mark.asked").count() == (1 if hit["shared"] else 0)
