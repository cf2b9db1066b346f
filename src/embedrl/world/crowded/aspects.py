"""Aspects that media of the crowded world share: sampled, varied in one attribute, and rendered with everything else resampled."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from embedrl.media.content import Image, Page, Part, Video, map_images
from embedrl.world import clips, pages, scenes
from embedrl.world.crowded.media import (
    NUM_THINGS,
    ORDER,
    CrowdedClip,
    Facts,
    may_show,
    page_facts,
    relations,
    sample_clip,
    sample_page,
    sample_scene,
    scene_facts,
)
from embedrl.world.geometry import sample_geometry
from embedrl.world.objects import COLOURS, SHAPES, Thing, held_out

NUM_TRIES = 60


@dataclass(frozen=True)
class Seen:
    """A sampled medium: its facts, its renderer, and truths beyond its facts."""

    facts: Facts
    draw: Callable[[], Part]
    derived: frozenset[str] = frozenset()


def _scene(rng: random.Random, split: str, scene: scenes.Scene) -> Seen:
    return _moved(rng, split, Seen(scene_facts(scene), lambda: Image(pixels=scene.draw()), relations(scene)), 1.0)


def _clip(rng: random.Random, split: str, clip: CrowdedClip) -> Seen:
    return _moved(rng, split, Seen(clip.facts(), lambda: Video(frames=clip.frames())), 1.0)


def _page(rng: random.Random, split: str, page: pages.PageSpec) -> Seen:
    return _moved(rng, split, Seen(page_facts(page), lambda: Page(pixels=page.draw())), pages.HEIGHT / pages.WIDTH)


def _moved(rng: random.Random, split: str, seen: Seen, aspect: float) -> Seen:
    """Geometric augmentation of a medium and its boxes, in the training splits only."""
    geometry = sample_geometry(rng, split)
    if geometry is None:
        return seen
    facts = {
        name: tuple(replace(fact, box=geometry.box(fact.box, aspect)) if fact.box else fact for fact in facts_of_aspect)
        for name, facts_of_aspect in seen.facts.items()
    }
    return replace(seen, facts=facts, draw=lambda: map_images(seen.draw(), lambda image, _: geometry.image(image)))


Wanted = tuple[Any, ...]
"""What an aspect is to be: (colour, shape) of all things, (shape, cell), (shape, what happens), (topic, cities) or (kind, values)."""


@dataclass(frozen=True)
class Aspect:
    """Sampler and renderer of media that share an aspect."""

    name: str
    want: Callable[[random.Random, str], Wanted]
    vary: Callable[[random.Random, str, Wanted], Wanted]
    """Change one attribute."""
    draw: Callable[[random.Random, str, Wanted], Seen]


def variants(rng: random.Random, split: str, aspect: Aspect, count: int) -> Iterator[Wanted]:
    """Yield the wanted value, then variants that differ from it in one attribute, practically endlessly."""
    first = aspect.want(rng, split)
    yield first
    for _ in range(NUM_TRIES * count):
        yield aspect.vary(rng, split, first)


def _want_objects(rng: random.Random, split: str, count: int) -> Wanted:
    """Sample colours and shapes; half of the test (and RL) samples hold a held-out combination."""
    unseen = [(colour, shape) for colour in COLOURS for shape in SHAPES if held_out(Thing(shape, colour, "large", 0), split)]
    drawn = [rng.choice(unseen)] if unseen and rng.random() < 0.5 else []
    for shape in rng.sample(SHAPES, len(SHAPES)):
        colours = [colour for colour in COLOURS if is_shown(colour, shape, split) and colour not in {taken for taken, _ in drawn}]
        if len(drawn) < count and colours and shape not in {taken for _, taken in drawn}:
            drawn.append((rng.choice(colours), shape))
    return tuple(rng.sample(drawn, count))


def _vary_objects(rng: random.Random, split: str, wanted: Wanted) -> Wanted:
    index = rng.randrange(len(wanted))
    colour, shape = wanted[index]
    taken = {shape for _, shape in wanted}
    used = {colour for colour, _ in wanted}
    options = [(other, shape) for other in COLOURS if other not in used and is_shown(other, shape, split)]
    if rng.random() < 0.5:
        options = [(colour, other) for other in SHAPES if other not in taken and is_shown(colour, other, split)] or options
    return (*wanted[:index], rng.choice(options or [(colour, shape)]), *wanted[index + 1 :])


def is_shown(colour: str, shape: str, split: str) -> bool:
    """Return whether a split allows a large object of this colour and shape, as clips require."""
    return may_show(colour, shape, split, ("large",))


def _want_layout(rng: random.Random, _: str) -> Wanted:
    return tuple(zip(rng.sample(SHAPES, NUM_THINGS), rng.sample(range(scenes.GRID**2), NUM_THINGS), strict=True))


def _vary_layout(rng: random.Random, _: str, wanted: Wanted) -> Wanted:
    index = rng.randrange(len(wanted))
    shape, cell = wanted[index]
    kind = rng.random()
    if kind < 0.4:
        new = shape, rng.choice([other for other in range(scenes.GRID**2) if other not in {taken for _, taken in wanted}])
    elif kind < 0.7:
        new = rng.choice([other for other in SHAPES if other not in {taken for taken, _ in wanted}]), cell
    else:
        other = (index + 1) % len(wanted)
        swapped = {index: (shape, wanted[other][1]), other: (wanted[other][0], cell)}
        return tuple(swapped.get(place, row) for place, row in enumerate(wanted))
    return (*wanted[:index], new, *wanted[index + 1 :])


def _event(rng: random.Random, shape: str, split: str) -> tuple[str, str]:
    """Sample an event of a shape; colour changes stay within the split's combinations."""
    verb = rng.choice(clips.EVENTS)
    return shape, f"turns {rng.choice([colour for colour in COLOURS if is_shown(colour, shape, split)])}" if verb == "turns" else verb


def _want_events(rng: random.Random, split: str) -> Wanted:
    first, last = (_event(rng, shape, split) for shape in rng.sample(SHAPES, 2))
    return _want_events(rng, split) if first[1] == last[1] == "moves" else (first, last)


def _vary_events(rng: random.Random, split: str, wanted: Wanted) -> Wanted:
    if rng.random() < 0.25:
        return wanted[1], wanted[0]
    index = rng.randrange(2)
    shape, verb = wanted[index]
    if rng.random() < 0.4 and not verb.startswith("turns"):
        new = rng.choice([other for other in SHAPES if other not in {taken for taken, _ in wanted}]), verb
    else:
        new = _event(rng, shape, split)
    changed = (new, wanted[1]) if index == 0 else (wanted[0], new)
    return _vary_events(rng, split, wanted) if changed == wanted or changed[0][1] == changed[1][1] == "moves" else changed


def _want_cities(rng: random.Random, split: str) -> Wanted:
    topic = rng.choice(pages.TOPICS)
    return topic, tuple(rng.sample([city for city in pages.CITIES if pages.allowed(topic, city, split)], len(ORDER)))


def _vary_cities(rng: random.Random, split: str, wanted: Wanted) -> Wanted:
    topic, cities = wanted
    if rng.random() < 0.25:
        topics = [other for other in pages.TOPICS if other != topic and all(pages.allowed(other, city, split) for city in cities)]
        if topics:
            return rng.choice(topics), cities
    index = rng.randrange(len(cities))
    new = rng.choice([city for city in pages.CITIES if city not in cities and pages.allowed(topic, city, split)])
    return topic, (*cities[:index], new, *cities[index + 1 :])


def _want_values(rng: random.Random, _: str) -> Wanted:
    """Sample the values of notes or a table; charts have too few levels to distinguish many pages."""
    kind = rng.choice(("notes", "table", "table"))
    return kind, tuple(rng.sample(pages.values(kind), len(ORDER)))


def _vary_values(rng: random.Random, _: str, wanted: Wanted) -> Wanted:
    kind, values = wanted
    index = rng.randrange(len(values))
    new = rng.choice([value for value in pages.values(kind) if value not in values])
    return kind, (*values[:index], new, *values[index + 1 :])


OBJECTS = Aspect(
    "objects",
    lambda rng, split: _want_objects(rng, split, NUM_THINGS),
    _vary_objects,
    lambda rng, split, wanted: _scene(rng, split, sample_scene(rng, split, objects=wanted)),
)
LAYOUT = Aspect(
    "places", _want_layout, _vary_layout, lambda rng, split, wanted: _scene(rng, split, sample_scene(rng, split, places=wanted))
)
CLIP_OBJECTS = Aspect(
    "objects",
    lambda rng, split: _want_objects(rng, split, rng.choice((3, 4))),
    _vary_objects,
    lambda rng, split, wanted: _clip(rng, split, sample_clip(rng, split, objects=wanted)),
)
EVENTS = Aspect("events", _want_events, _vary_events, lambda rng, split, wanted: _clip(rng, split, sample_clip(rng, split, events=wanted)))
CITIES = Aspect("cities", _want_cities, _vary_cities, lambda rng, split, wanted: _page(rng, split, sample_page(rng, split, cities=wanted)))
VALUES = Aspect("values", _want_values, _vary_values, lambda rng, split, wanted: _page(rng, split, sample_page(rng, split, values=wanted)))
