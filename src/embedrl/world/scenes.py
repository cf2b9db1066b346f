"""Scenes: images of two to four objects on a 3 x 3 grid."""

import random
from dataclasses import dataclass, replace

import PIL.Image

from embedrl.world.facts import Fact, Truth
from embedrl.world.objects import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Thing, draw_things, held_out, sample_other, sample_thing

GRID = 3
SIDE = 288


@dataclass(frozen=True)
class Scene:
    """Objects on a background; no two share a cell or a colour-shape combination."""

    things: tuple[Thing, ...]
    background: str

    def draw(self, side: int = SIDE) -> PIL.Image.Image:
        """Render it: RGB (side, side)."""
        return draw_things(self.things, self.background, GRID, side)

    def truth(self) -> Truth:
        """Ground-truth facts in reading order; large objects are salient, small ones easily overlooked."""
        things = sorted(self.things, key=lambda thing: thing.cell)
        return Truth(tuple(thing_fact(thing) for thing in things), f"on {self.background}", "image")

    def signature(self) -> str:
        """Identity up to exact geometry."""
        return f"{self.background}:" + "|".join(sorted(thing.phrase(GRID) for thing in self.things))


def thing_fact(thing: Thing) -> Fact:
    """Fact: an object with its place and box."""
    slots = (("size", thing.size), ("colour", thing.colour), ("shape", thing.shape), ("place", f"at {PLACES[GRID][thing.cell]}"))
    return Fact(slots, box=thing.box(GRID))


def sample_scene(rng: random.Random, split: str, *, num_things: int | None = None) -> Scene:
    """Sample a scene; half of the test (and RL) scenes show a held-out combination."""
    num_things = num_things or rng.choice((2, 3, 3, 4))
    cells = rng.sample(range(GRID * GRID), num_things)
    want_held_out = split != "train" and rng.random() < 0.5
    while True:
        things = tuple(sample_thing(rng, split, cell) for cell in cells)
        names = {(thing.colour, thing.shape) for thing in things}
        if len(names) == num_things and (not want_held_out or any(held_out(thing, split) for thing in things)):
            return Scene(things, rng.choice(list(BACKGROUNDS)))


def variant(rng: random.Random, scene: Scene, split: str, *, attributes: tuple[str, ...] = ("colour", "shape", "size", "cell")) -> Scene:
    """Sample a variant that differs in one attribute of one object."""
    for _ in range(100):
        index, attribute = rng.randrange(len(scene.things)), rng.choice(attributes)
        changed = change(rng, scene, index, attribute, split)
        names = {(thing.colour, thing.shape) for thing in changed.things}
        if len(names) == len(changed.things) and changed != scene:
            return changed
    raise AssertionError("a scene of this world always has a variant")


def change(rng: random.Random, scene: Scene, index: int, attribute: str, split: str) -> Scene:
    """Resample the named attribute of one object within the split."""
    thing = scene.things[index]
    if attribute == "cell":
        free = set(range(GRID * GRID)) - {other.cell for other in scene.things}
        new = replace(thing, cell=rng.choice(sorted(free)))
    else:
        choices = {"colour": tuple(COLOURS), "shape": SHAPES, "size": tuple(SIZES)}[attribute]
        new = sample_other(rng, thing, attribute, split, choices)
    return replace(scene, things=(*scene.things[:index], new, *scene.things[index + 1 :]))
