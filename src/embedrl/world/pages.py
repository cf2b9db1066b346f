"""Document pages: a title and three rows, as lines of text, as a small table, or as a bar chart."""

import random
from dataclasses import dataclass, replace
from functools import lru_cache

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from embedrl.world.facts import Fact, Truth

WIDTH, HEIGHT = 384, 512
KINDS = ("notes", "table", "chart")
TOPICS = ("coffee", "tea", "sugar", "rice", "cotton", "steel", "paper", "glass", "wool", "salt", "corn", "honey")
CITIES = ("oslo", "lima", "cairo", "paris", "delhi", "tokyo", "quito", "accra", "milan", "perth")
NUMBERS = tuple(str(number) for number in range(10, 100, 5))
LEVELS = ("low", "mid", "high", "top")
WORDS = ("cheap", "dear", "fresh", "late", "rare", "sold", "good", "bad", "new", "old")
INKS = ((20, 20, 24), (25, 40, 110), (120, 25, 30))
_FILL = ((66, 110, 190), (200, 90, 60), (80, 150, 90))
_HELD_OUT = {"test": 0, "rl": 1}


@dataclass(frozen=True)
class PageSpec:
    """Content of a page. A row is a city and a word, number or level."""

    kind: str
    topic: str
    rows: tuple[tuple[str, str], ...]
    ink: int = 0
    shift: tuple[int, int] = (0, 0)
    """Offset of the print, in pixels."""

    def draw(self) -> PIL.Image.Image:
        """Render it: RGB (HEIGHT, WIDTH)."""
        page = PIL.Image.new("RGB", (WIDTH, HEIGHT), (252, 252, 250))
        draw = PIL.ImageDraw.Draw(page)
        ink = INKS[self.ink]
        for text, x, y, size in self.prints():
            draw.text((x, y), text, font=_font(size), fill=ink, anchor="ls")
        left, top = 24 + self.shift[0], 150 + self.shift[1]
        for index in range(len(self.rows)):
            y = top + index * 108
            if self.kind == "table":
                draw.rectangle((left - 8, y - 60, WIDTH - 20, y + 32), outline=ink, width=3)
                draw.line((196 + self.shift[0], y - 60, 196 + self.shift[0], y + 32), fill=ink, width=3)
        for index, (_, *corners) in enumerate(self.bars()):
            draw.rectangle(corners, fill=_FILL[index])
        return page

    def bars(self) -> list[tuple[str, int, int, int, int]]:
        """Return the bars of a chart: level and corners in pixels."""
        if self.kind != "chart":
            return []
        left, top = 190 + self.shift[0], 110 + self.shift[1]
        return [
            (level, left, top + 108 * index, left + 40 * (LEVELS.index(level) + 1), top + 108 * index + 48)
            for index, (_, level) in enumerate(self.rows)
        ]

    def word_boxes(self) -> list[tuple[str, float, float, float, float]]:
        """Return all words with their corners in pixels."""
        boxes = []
        for text, x, y, size in self.prints():
            x1, y1, x2, y2 = _font(size).getbbox(text, anchor="ls")
            boxes.append((text, x + x1, y + y1, x + x2, y + y2))
        return boxes

    def prints(self) -> list[tuple[str, int, int, int]]:
        """Return all words on the page: text, x, y of the base line, font size."""
        dx, dy = self.shift
        words = [(self.topic, 24 + dx, 66 + dy, 60), (self.kind, 214 + dx, 66 + dy, 44)]
        for index, (city, value) in enumerate(self.rows):
            y = 150 + dy + index * 108
            words.append((city, 24 + dx, y, 52))
            if self.kind != "chart":
                words.append((value, 210 + dx, y, 52))
        return words

    def row_box(self, index: int) -> tuple[int, int, int, int]:
        """Return the bounding box of a row, 0..1000."""
        x, y = self.shift
        top = 150 + y + index * 108
        return (
            round((14 + x) / WIDTH * 1000),
            round((top - 50) / HEIGHT * 1000),
            round((364 + x) / WIDTH * 1000),
            round((top + 22) / HEIGHT * 1000),
        )

    def truth(self) -> Truth:
        """Ground-truth facts; the first row is more salient than later ones."""
        facts = tuple(Fact((("city", city), ("value", value)), box=self.row_box(index)) for index, (city, value) in enumerate(self.rows))
        return Truth(facts, f"{self.topic} {self.kind}", "page")

    def signature(self) -> str:
        """Identity up to layout."""
        return f"{self.kind}:{self.topic}:{self.rows}"


@lru_cache
def _font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)


def values(kind: str) -> tuple[str, ...]:
    """Return the possible values of a row on this kind of page."""
    return {"notes": WORDS, "table": NUMBERS, "chart": LEVELS}[kind]


def allowed(topic: str, city: str, split: str) -> bool:
    """Return whether a split allows a topic with a city; some combinations are held out."""
    owner = (TOPICS.index(topic) + CITIES.index(city)) % 11
    return owner not in {number for name, number in _HELD_OUT.items() if name != split}


def sample_page(rng: random.Random, split: str, *, kind: str | None = None) -> PageSpec:
    """Sample a page."""
    kind, topic = kind or rng.choice(KINDS), rng.choice(TOPICS)
    cities = rng.sample([city for city in CITIES if allowed(topic, city, split)], 3)
    rows = tuple((city, rng.choice(values(kind))) for city in cities)
    return PageSpec(kind, topic, rows, rng.randrange(len(INKS)), (rng.randrange(-6, 7), rng.randrange(-8, 9)))


def variant(rng: random.Random, page: PageSpec, split: str, *, row: int | None = None) -> PageSpec:
    """Sample a variant with another topic, or another city or value of one row."""
    while True:
        index = rng.randrange(3) if row is None else row
        attribute = rng.choice(("topic", "city", "value", "value"))
        city, value = page.rows[index]
        if attribute == "topic":
            new = replace(page, topic=rng.choice([topic for topic in TOPICS if topic != page.topic]))
        else:
            if attribute == "city":
                city = rng.choice([name for name in CITIES if name not in dict(page.rows)])
            else:
                value = rng.choice([other for other in values(page.kind) if other != value])
            new = replace(page, rows=(*page.rows[:index], (city, value), *page.rows[index + 1 :]))
        if all(allowed(new.topic, name, split) for name, _ in new.rows):
            return new
