"""Tasks about document pages: retrieval by two rows, and question answering."""

import random
from collections.abc import Callable
from dataclasses import replace

from embedrl.data.sample import Role
from embedrl.media.content import Page
from embedrl.world import pages
from embedrl.world.facts import Truth
from embedrl.world.side import Family, Side, distinct, item, text_side
from embedrl.world.wording import page_request


def _page_side(page: pages.PageSpec, role: Role, task: str, side: str, *, text: str = "", seen: Truth | None = None) -> Side:
    seen = seen or page.truth()
    return Side(lambda: item(role, task, side, Page(pixels=page.draw()), text=text), seen, seen, page.signature() + text)


def find(kind: str) -> Callable[[random.Random, str, int], Family]:
    """Create the task of retrieving a page of a kind by two of its rows."""
    task = f"visdoc_{kind}"

    def draw(rng: random.Random, split: str, count: int) -> Family:
        rows = tuple(sorted(rng.sample(range(3), 2)))
        base = pages.sample_page(rng, split, kind=kind)
        family = []
        for page in distinct(lambda: pages.variant(rng, base, split, row=rng.choice(rows)), base, count):
            text, facts = page_request(rng, page, rows)
            query = text_side(text, facts, Role.QUERY_TEXT_TO_IMAGE, task, "query")
            family.append((query, _page_side(page, Role.TARGET_IMAGE, task, "target")))
        return family

    return draw


def answer(rng: random.Random, split: str, count: int) -> Family:
    """A page with a question about a city's value, and the answer."""
    base, row = pages.sample_page(rng, split), rng.randrange(3)
    city = base.rows[row][0]
    options = [value for value in pages.values(base.kind) if value != base.rows[row][1]]
    family = []
    for value in (base.rows[row][1], *rng.sample(options, min(count, len(options)))):
        page = replace(base, rows=(*base.rows[:row], (city, value), *base.rows[row + 1 :]))
        truth = page.truth()
        fact = truth.facts[row]
        seen = replace(truth, facts=(fact,))
        query = _page_side(page, Role.QUERY_IMAGE, "visdoc_qa", "query", text=f"What stands behind {city}?", seen=seen)
        text = f"{truth.setting}: {fact.tell()}"
        facts = Truth((replace(fact, box=None, keyword=fact.tell()),), truth.setting, "page")
        family.append((query, text_side(text, facts, Role.TARGET_TEXT, "visdoc_qa", "target")))
    return family
