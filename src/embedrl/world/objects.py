"""Objects of scenes and clips: coloured shapes of two sizes on a grid."""

import math
import random
from dataclasses import dataclass, replace

import PIL.Image
import PIL.ImageDraw

COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 40),
    "purple": (130, 50, 170),
    "orange": (245, 130, 30),
    "cyan": (40, 190, 210),
    "pink": (245, 140, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
SIZES = {"small": 0.25, "large": 0.39}
"""Radius of each size, as a fraction of its grid cell."""
BACKGROUNDS = {"white": (250, 250, 248), "grey": (150, 150, 150), "black": (25, 25, 28)}
PLACES = {
    2: ("top left", "top right", "bottom left", "bottom right"),
    3: ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"),
}
"""Names of the cells of a 2 x 2 and a 3 x 3 grid, row by row."""

SPLITS = ("train", "rl", "test")
_HELD_OUT = {
    "test": {
        *(("small", "red", "star"), ("large", "blue", "ring"), ("small", "yellow", "heart"), ("large", "cyan", "cross")),
        *(("small", "green", "circle"), ("large", "purple", "square"), ("small", "orange", "triangle"), ("large", "pink", "diamond")),
    },
    "rl": {
        *(("large", "green", "square"), ("small", "purple", "circle"), ("large", "orange", "diamond"), ("small", "pink", "triangle")),
        *(("large", "red", "ring"), ("small", "blue", "star"), ("large", "yellow", "cross"), ("small", "cyan", "heart")),
    },
}
"""Held-out combinations of size, colour and shape by split, together an eighth of all."""


@dataclass(frozen=True)
class Thing:
    """One coloured shape. `dx`, `dy` move its centre, in cells; `scale` changes its radius."""

    shape: str
    colour: str
    size: str
    cell: int
    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0

    def phrase(self, grid: int | None = None) -> str:
        """Return all attributes in words: "large red star", with "at top left" if a grid is given."""
        place = f" at {PLACES[grid][self.cell]}" if grid else ""
        return f"{self.size} {self.colour} {self.shape}{place}"

    def box(self, grid: int) -> tuple[int, int, int, int]:
        """Bounding box x1 y1 x2 y2, 0..1000, clipped to the image."""
        row, column = divmod(self.cell, grid)
        x, y = (column + 0.5 + self.dx) / grid, (row + 0.5 + self.dy) / grid
        radius = SIZES[self.size] * self.scale / grid
        x1, y1, x2, y2 = (round(1000 * min(max(v, 0.0), 1.0)) for v in (x - radius, y - radius, x + radius, y + radius))
        return x1, y1, x2, y2


def allowed(thing: Thing, split: str) -> bool:
    """Return whether a split allows this combination: test allows all but RL's held-out ones, train only the common ones."""
    return not any(_kind(thing) in held for owner, held in _HELD_OUT.items() if owner != split)


def held_out(thing: Thing, split: str) -> bool:
    """Return whether the combination is held out for this split."""
    return _kind(thing) in _HELD_OUT.get(split, set())


def _kind(thing: Thing) -> tuple[str, str, str]:
    return thing.size, thing.colour, thing.shape


def sample_thing(rng: random.Random, split: str, cell: int, *, jitter: float = 0.09) -> Thing:
    """Sample an object that the split allows."""
    while True:
        thing = Thing(
            rng.choice(SHAPES),
            rng.choice(list(COLOURS)),
            rng.choice(list(SIZES)),
            cell,
            rng.uniform(-jitter, jitter),
            rng.uniform(-jitter, jitter),
        )
        if allowed(thing, split):
            return thing


def sample_other(rng: random.Random, thing: Thing, attribute: str, split: str, choices: tuple[str, ...]) -> Thing:
    """Resample one attribute within the split; unchanged if there is no other value."""
    options = [replace(thing, **{attribute: value}) for value in choices if value != getattr(thing, attribute)]
    return rng.choice([option for option in options if allowed(option, split)] or [thing])


def draw_thing(draw: PIL.ImageDraw.ImageDraw, thing: Thing, grid: int, side: int, background: tuple[int, int, int]) -> None:
    """Render an object on a square canvas of `side` pixels."""
    row, column = divmod(thing.cell, grid)
    unit = side / grid
    x, y = (column + 0.5 + thing.dx) * unit, (row + 0.5 + thing.dy) * unit
    r = SIZES[thing.size] * thing.scale * unit
    colour = COLOURS[thing.colour]
    if thing.shape in ("circle", "ring"):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        if thing.shape == "ring":
            draw.ellipse((x - r * 0.5, y - r * 0.5, x + r * 0.5, y + r * 0.5), fill=background)
        return
    draw.polygon([(x + r * px, y + r * py) for px, py in _OUTLINES[thing.shape]], fill=colour)


def _star() -> list[tuple[float, float]]:
    points = []
    for i in range(10):
        radius, angle = (1.0 if i % 2 == 0 else 0.42), math.pi * i / 5 - math.pi / 2
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _heart() -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / 40 for i in range(40)]
    return [(math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) + 2.5) / 15) for t in turns]


_ARM = 0.34
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1), (1, 0.9), (-1, 0.9)],
    "diamond": [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)],
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
    "star": _star(),
    "heart": _heart(),
}  # fmt: skip


def draw_things(things: tuple[Thing, ...], background: str, grid: int, side: int) -> PIL.Image.Image:
    """Render objects on a background, anti-aliased: RGB (side, side)."""
    canvas = PIL.Image.new("RGB", (side * 2, side * 2), BACKGROUNDS[background])
    draw = PIL.ImageDraw.Draw(canvas)
    for thing in things:
        draw_thing(draw, thing, grid, side * 2, BACKGROUNDS[background])
    return canvas.reduce(2)
