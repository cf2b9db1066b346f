"""Images, clips and pages of the crowded world, with all their facts by aspect."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import PIL.Image

from embedrl.media.content import Frames
from embedrl.world import clips, pages, scenes
from embedrl.world.facts import Fact
from embedrl.world.objects import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Thing, allowed, draw_things

Facts = dict[str, tuple[Fact, ...]]
"""Every fact of a medium, by aspect."""

NUM_THINGS = 5
MAX_TRIES = 2000
ORDER = ("first", "second", "last")


def object_fact(thing: Thing, grid: int | None) -> Fact:
    """Fact: the colour of a shape; `grid` is None where it has no box."""
    return Fact((("colour", thing.colour), ("shape", thing.shape)), box=None if grid is None else thing.box(grid))


def place_word(cell: int, grid: int) -> str:
    """Name of a cell in one word ("top-left"): facts of all aspects have two words, so that all carry equal information."""
    return PLACES[grid][cell].replace(" ", "-")


def place_fact(thing: Thing, grid: int, *, boxed: bool = True) -> Fact:
    """Fact: the place of a shape."""
    return Fact((("place", place_word(thing.cell, grid)), ("shape", thing.shape)), box=thing.box(grid) if boxed else None)


def scene_facts(scene: scenes.Scene) -> Facts:
    """Return the facts of an image: objects, places, sizes and the background."""
    things = sorted(scene.things, key=lambda thing: thing.cell)
    return {
        "objects": tuple(object_fact(thing, scenes.GRID) for thing in things),
        "places": tuple(place_fact(thing, scenes.GRID) for thing in things),
        "sizes": tuple(Fact((("size", thing.size), ("shape", thing.shape)), box=thing.box(scenes.GRID)) for thing in things),
        "setting": (Fact((("setting", f"on {scene.background}"),)),),
    }


def relations(scene: scenes.Scene) -> frozenset[str]:
    """Return the spatial relations: left of, and above."""
    columns = {thing.shape: thing.cell % scenes.GRID for thing in scene.things}
    rows = {thing.shape: thing.cell // scenes.GRID for thing in scene.things}
    left = {f"{first} left of {second}" for first in columns for second in columns if columns[first] < columns[second]}
    above = {f"{first} above {second}" for first in rows for second in rows if rows[first] < rows[second]}
    return frozenset(left | above)


def sample_scene(
    rng: random.Random,
    split: str,
    *,
    objects: Sequence[tuple[str, str]] | None = None,
    places: Sequence[tuple[str, int]] | None = None,
) -> scenes.Scene:
    """Sample five objects of distinct shapes and colours, conditioned on (colour, shape) or (shape, cell) pairs."""
    shapes = [shape for _, shape in objects] if objects else [shape for shape, _ in places] if places else rng.sample(SHAPES, NUM_THINGS)
    cells = [cell for _, cell in places] if places else rng.sample(range(scenes.GRID**2), len(shapes))
    things = []
    free = list(COLOURS)
    for index, (shape, cell) in enumerate(zip(shapes, cells, strict=True)):
        colours = [objects[index][0]] if objects else [colour for colour in free if may_show(colour, shape, split)]
        options = [(colour, size) for colour in colours for size in SIZES if allowed(Thing(shape, colour, size, cell), split)]
        colour, size = rng.choice(options)
        free = [other for other in free if other != colour]
        things.append(Thing(shape, colour, size, cell, rng.uniform(-0.09, 0.09), rng.uniform(-0.09, 0.09)))
    return scenes.Scene(tuple(things), rng.choice(list(BACKGROUNDS)))


def may_show(colour: str, shape: str, split: str, sizes: Sequence[str] = tuple(SIZES)) -> bool:
    """Return whether a split allows a colour and shape in one of some sizes."""
    return any(allowed(Thing(shape, colour, size, 0), split) for size in sizes)


@dataclass(frozen=True)
class CrowdedClip:
    """Two consecutive events, and resting objects."""

    events: tuple[clips.Event, clips.Event]
    bystanders: tuple[Thing, ...]
    background: str

    def frames(self) -> Frames:
        """Render all frames, with their times."""
        images = tuple(self.frame(number) for number in range(1, clips.NUM_FRAMES + 1))
        return Frames(images, tuple(number / clips.FPS for number in range(clips.NUM_FRAMES)))

    def frame(self, number: int) -> PIL.Image.Image:
        """Render a 1-based frame: RGB (SIDE, SIDE)."""
        moving = tuple(thing for event in self.events if (thing := event.at(number)) is not None)
        return draw_things((*moving, *self.bystanders), self.background, clips.GRID, clips.SIDE)

    @property
    def things(self) -> tuple[Thing, ...]:
        """All objects, in reading order of their initial positions."""
        return tuple(sorted((*(event.thing for event in self.events), *self.bystanders), key=lambda thing: thing.cell))

    def facts(self) -> Facts:
        """Return its facts: objects, places, events with their order, and the background."""
        verbs = []
        for event, order in zip(self.events, ("first", "last"), strict=True):
            shape = event.thing.shape
            verbs.append(Fact((("shape", shape), ("event", verb_text(event))), key_frame=event.start + 1))
            verbs.append(Fact((("shape", shape), ("order", order))))
        return {
            "objects": tuple(object_fact(thing, None) for thing in self.things),
            "places": tuple(place_fact(thing, clips.GRID, boxed=False) for thing in self.things),
            "events": tuple(verbs),
            "setting": (Fact((("setting", f"on {self.background}"),)),),
        }


def verb_text(event: clips.Event) -> str:
    """Text of an event's action."""
    return f"turns {event.to}" if event.verb == "turns" else event.verb


def sample_clip(
    rng: random.Random,
    split: str,
    *,
    objects: Sequence[tuple[str, str]] | None = None,
    events: Sequence[tuple[str, str]] | None = None,
) -> CrowdedClip:
    """Sample a clip of four shapes and colours, at most one of them moving.

    It can be conditioned on (colour, shape) of all objects, or (shape, action).
    """
    for _ in range(MAX_TRIES):
        cells = rng.sample(range(clips.GRID**2), 4)
        shapes = _shapes(rng, objects, events)
        made = []
        for index in (0, 1):
            verb, _, to = (events[index][1] if events else rng.choice(clips.EVENTS)).partition(" ")
            event = clips.sample_event(rng, split, cells[index], index, verb=verb)
            colour = {shape: colour for colour, shape in objects}[shapes[index]] if objects else event.thing.colour
            event = replace(event, thing=replace(event.thing, shape=shapes[index], colour=colour), to=to or event.to)
            made.append(replace(event, to_cell=cells[3]) if verb == "moves" else event)
        moving = sum(event.verb == "moves" for event in made)
        if moving > 1 or not all(clips._may_show(event, split) and event.to != event.thing.colour for event in made):
            continue
        by = []
        for shape, cell in zip(shapes[2:], cells[2 : 4 - moving], strict=False):
            colour = {shape: colour for colour, shape in objects}[shape] if objects else rng.choice(list(COLOURS))
            thing = Thing(shape, colour, "large", cell, rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06))
            by.append(thing)
        if objects and 2 + len(by) != len(objects):
            continue
        distinct = {thing.colour for thing in (*(event.thing for event in made), *by)}
        if all(allowed(thing, split) for thing in by) and len(distinct) == 2 + len(by):
            return CrowdedClip((made[0], made[1]), tuple(by), rng.choice(list(BACKGROUNDS)))
    raise AssertionError(f"no clip of {split} holds {objects or events}")


def _shapes(rng: random.Random, objects: Sequence[tuple[str, str]] | None, events: Sequence[tuple[str, str]] | None) -> list[str]:
    if objects:
        return rng.sample([shape for _, shape in objects], len(objects))
    acting = [shape for shape, _ in events] if events else rng.sample(SHAPES, 2)
    return [*acting, *rng.sample([shape for shape in SHAPES if shape not in acting], 2)]


def page_facts(page: pages.PageSpec) -> Facts:
    """Return the facts of a page: topic and cities, kind and values, and the order of rows."""
    boxes = [page.row_box(index) for index in range(len(page.rows))]
    return {
        "cities": (
            Fact((("topic", f"about {page.topic}"),)),
            *(Fact((("city", f"lists {city}"),), box=box) for (city, _), box in zip(page.rows, boxes, strict=True)),
        ),
        "values": (
            Fact((("kind", f"a {page.kind}"),)),
            *(Fact((("value", f"says {value}"),), box=box) for (_, value), box in zip(page.rows, boxes, strict=True)),
        ),
        "order": tuple(
            Fact((("order", order), ("city", city)), box=box) for order, (city, _), box in zip(ORDER, page.rows, boxes, strict=True)
        ),
    }


def sample_page(
    rng: random.Random,
    split: str,
    *,
    cities: tuple[str, Sequence[str]] | None = None,
    values: tuple[str, Sequence[str]] | None = None,
) -> pages.PageSpec:
    """Sample a page of three rows and values, conditioned on (topic, cities) or (kind, values), in any row order."""
    kind = values[0] if values else rng.choice(pages.KINDS)
    topic = cities[0] if cities else rng.choice(pages.TOPICS)
    names = (
        rng.sample(list(cities[1]), 3) if cities else rng.sample([name for name in pages.CITIES if pages.allowed(topic, name, split)], 3)
    )
    cells = rng.sample(list(values[1]), 3) if values else rng.sample(pages.values(kind), 3)
    rows = tuple(zip(names, cells, strict=True))
    return pages.PageSpec(kind, topic, rows, rng.randrange(len(pages.INKS)), (rng.randrange(-6, 7), rng.randrange(-8, 9)))
