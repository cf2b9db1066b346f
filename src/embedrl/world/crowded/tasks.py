"""The tasks of the crowded world: the same objects, layout, events, cities or values, and descriptions of a part, as people type them.

A query and its target share what the task turns on, and nothing else but by chance: all other facts are drawn anew, so naming them
is of no use. Instructions say on both sides what that is.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embedrl.data.items import DESCRIBE, FIND
from embedrl.data.sample import Item, Role
from embedrl.media.content import Image, Page, Part, Text, Video
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
from embedrl.world.crowded.side import CrowdedFamily, CrowdedSide
from embedrl.world.facts import Fact
from embedrl.world.objects import COLOURS, PLACES, SHAPES, SIZES, Thing, held_out

INSTRUCTIONS: dict[str, dict[str, str]] = {
    "image_objects": {"query": "Find a picture of the same objects.", "target": "Name the objects."},
    "image_layout": {"query": "Find a picture with the same layout.", "target": "Say where things stand."},
    "image_part": {"query": FIND["image"], "target": DESCRIBE["image"]},
    "image_relation": {"query": FIND["image"], "target": "Say where things stand."},
    "video_objects": {"query": "Find a clip of the same objects.", "target": "Name the objects."},
    "video_events": {"query": "Find a clip in which the same happens.", "target": "Say what happens."},
    "video_part": {"query": FIND["video"], "target": DESCRIBE["video"]},
    "visdoc_cities": {"query": "Find a page about the same topic and cities.", "target": "Name topic and cities."},
    "visdoc_values": {"query": "Find a page with the same values.", "target": "Name the values."},
    "visdoc_part": {"query": FIND["page"], "target": DESCRIBE["page"]},
}
PARTIAL = ("image_part", "image_relation", "video_part", "visdoc_part")
"""Tasks whose queries are typed descriptions of a part: every candidate that holds it is relevant."""
NUM_TRIES = 60
Draw = Callable[[random.Random, str, int], CrowdedFamily]
"""(rng, split, number of variants) -> pairs of sides, the main pair first."""


@dataclass(frozen=True)
class _Seen:
    """A drawn medium: its facts, how to draw it, and what is true of it beyond its facts."""

    facts: Facts
    draw: Callable[[], Part]
    derived: frozenset[str] = frozenset()


def _scene(scene: scenes.Scene) -> _Seen:
    return _Seen(scene_facts(scene), lambda: Image(pixels=scene.draw()), relations(scene))


def _clip(clip: CrowdedClip) -> _Seen:
    return _Seen(clip.facts(), lambda: Video(frames=clip.frames()))


def _page(page: pages.PageSpec) -> _Seen:
    return _Seen(page_facts(page), lambda: Page(pixels=page.draw()))


def _medium_side(seen: _Seen, aspect: str, role: Role, task: str, side: str) -> CrowdedSide:
    facts = tuple(fact for found in seen.facts.values() for fact in found)
    matters = seen.facts[aspect]
    statements = frozenset(fact.tell() for fact in facts)
    return CrowdedSide(
        lambda: Item(content=(seen.draw(),), instruction=INSTRUCTIONS[task][side], role=role),
        facts,
        matters,
        f"{aspect}: " + ", ".join(sorted(fact.tell() for fact in matters)),
        holds=statements | seen.derived,
        others=tuple(text for text in _OTHERS[_medium(task)] if text not in statements),
        num_facts=len(matters),
    )


def _text_side(text: str, asked: Sequence[tuple[str, str]], task: str) -> CrowdedSide:
    """Make a typed query; `asked` are (statement, its words in the text)."""
    medium = _medium(task)
    facts = tuple(Fact((("asked", statement),), keyword=words) for statement, words in asked)
    role = Role.QUERY_TEXT_TO_VIDEO if medium == "video" else Role.QUERY_TEXT_TO_IMAGE
    asks = frozenset(statement for statement, _ in asked)
    return CrowdedSide(
        lambda: Item(content=(Text(text=text),), instruction=INSTRUCTIONS[task]["query"], role=role),
        facts,
        facts,
        f"asks: {', '.join(sorted(asks))}",
        asks=asks,
        others=tuple(other for other in _OTHERS[medium] if other not in asks),
        is_text=True,
        num_facts=len(facts),
    )


def _medium(task: str) -> str:
    return task.split("_")[0]


_OTHERS = {
    "image": tuple(
        [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
        + [f"{place} {shape}" for place in PLACES[scenes.GRID] for shape in SHAPES]
        + [f"{size} {shape}" for size in SIZES for shape in SHAPES]
    ),
    "video": tuple(
        [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
        + [f"{place} {shape}" for place in PLACES[clips.GRID] for shape in SHAPES]
        + [f"{shape} {verb}" for shape in SHAPES for verb in clips.EVENTS[:-1]]
    ),
    "visdoc": tuple(
        [f"about {topic}" for topic in pages.TOPICS]
        + [f"lists {city}" for city in pages.CITIES]
        + [f"says {value}" for value in (*pages.NUMBERS, *pages.LEVELS, *pages.WORDS)]
    ),
}


_ROLES = {
    "image": (Role.QUERY_IMAGE, Role.TARGET_IMAGE),
    "video": (Role.QUERY_VIDEO, Role.TARGET_VIDEO),
    "visdoc": (Role.QUERY_IMAGE, Role.TARGET_IMAGE),
}

Wanted = tuple[Any, ...]
"""What an aspect is to be: (colour, shape) of all things, (shape, cell), (shape, what happens), (topic, cities) or (kind, values)."""


@dataclass(frozen=True)
class _Aspect:
    """How media that share an aspect are drawn."""

    name: str
    want: Callable[[random.Random, str], Wanted]
    vary: Callable[[random.Random, str, Wanted], Wanted]
    """Change one attribute."""
    draw: Callable[[random.Random, str, Wanted], _Seen]


def _variants(rng: random.Random, split: str, aspect: _Aspect, count: int) -> Iterator[Wanted]:
    """Yield what is wanted first, and then what differs from it in one attribute, without an end that matters."""
    first = aspect.want(rng, split)
    yield first
    for _ in range(NUM_TRIES * count):
        yield aspect.vary(rng, split, first)


def _same(task: str, aspect: _Aspect) -> Draw:
    """Make a task of two media that share an aspect."""
    query_role, target_role = _ROLES[_medium(task)]

    def draw(rng: random.Random, split: str, count: int) -> CrowdedFamily:
        family: dict[str, tuple[CrowdedSide, CrowdedSide]] = {}
        for wanted in _variants(rng, split, aspect, count):
            query, target = (aspect.draw(rng, split, wanted) for _ in range(2))
            side = _medium_side(target, aspect.name, target_role, task, "target")
            family.setdefault(side.signature, (_medium_side(query, aspect.name, query_role, task, "query"), side))
            if len(family) > count:
                break
        return list(family.values())

    return draw


def _part(task: str, aspect: _Aspect, ask: Callable[[random.Random, _Seen], tuple[str, list[tuple[str, str]]]]) -> Draw:
    """Make a task of a typed description and a medium that holds it; no variant holds what another one is asked for."""
    target_role = _ROLES[_medium(task)][1]

    def draw(rng: random.Random, split: str, count: int) -> CrowdedFamily:
        family: list[tuple[CrowdedSide, CrowdedSide]] = []
        for wanted in _variants(rng, split, aspect, count):
            seen = aspect.draw(rng, split, wanted)
            query = _text_side(*ask(rng, seen), task)
            target = _medium_side(seen, aspect.name, target_role, task, "target")
            if all(not query.asks <= other.holds and not asked.asks <= target.holds for asked, other in family):
                family.append((query, target))
            if len(family) > count:
                break
        return family

    return draw


def _want_objects(rng: random.Random, split: str, count: int) -> Wanted:
    """Draw colours and shapes; half of the test (and RL) draws hold a combination that only their split shows."""
    unseen = [(colour, shape) for colour in COLOURS for shape in SHAPES if held_out(Thing(shape, colour, "large", 0), split)]
    first = [rng.choice(unseen)] if unseen and rng.random() < 0.5 else []
    shapes = rng.sample([shape for shape in SHAPES if shape not in {shape for _, shape in first}], count - len(first))
    drawn = [*first, *((rng.choice([colour for colour in COLOURS if _shown(colour, shape, split)]), shape) for shape in shapes)]
    return tuple(rng.sample(drawn, count))


def _vary_objects(rng: random.Random, split: str, wanted: Wanted) -> Wanted:
    index = rng.randrange(len(wanted))
    colour, shape = wanted[index]
    taken = {shape for _, shape in wanted}
    options = [(other, shape) for other in COLOURS if other != colour and _shown(other, shape, split)]
    if rng.random() < 0.5:
        options = [(colour, other) for other in SHAPES if other not in taken and _shown(colour, other, split)] or options
    return (*wanted[:index], rng.choice(options), *wanted[index + 1 :])


def _shown(colour: str, shape: str, split: str) -> bool:
    """Say whether a split shows a large thing of this colour and shape, as clips need it, and so do all others."""
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
    """Draw what happens to a shape; it turns into a colour that the split shows it in."""
    verb = rng.choice(clips.EVENTS)
    return shape, f"turns {rng.choice([colour for colour in COLOURS if _shown(colour, shape, split)])}" if verb == "turns" else verb


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
    """Draw values of notes or a table; a chart has too few levels to tell many pages apart."""
    kind = rng.choice(("notes", "table", "table"))
    return kind, tuple(rng.sample(pages.values(kind), len(ORDER)))


def _vary_values(rng: random.Random, _: str, wanted: Wanted) -> Wanted:
    kind, values = wanted
    index = rng.randrange(len(values))
    new = rng.choice([value for value in pages.values(kind) if value not in values])
    return kind, (*values[:index], new, *values[index + 1 :])


_OBJECTS = _Aspect(
    "objects",
    lambda rng, split: _want_objects(rng, split, NUM_THINGS),
    _vary_objects,
    lambda rng, split, wanted: _scene(sample_scene(rng, split, objects=wanted)),
)
_LAYOUT = _Aspect("places", _want_layout, _vary_layout, lambda rng, split, wanted: _scene(sample_scene(rng, split, places=wanted)))
_CLIP_OBJECTS = _Aspect(
    "objects",
    lambda rng, split: _want_objects(rng, split, rng.choice((3, 4))),
    _vary_objects,
    lambda rng, split, wanted: _clip(sample_clip(rng, split, objects=wanted)),
)
_EVENTS = _Aspect("events", _want_events, _vary_events, lambda rng, split, wanted: _clip(sample_clip(rng, split, events=wanted)))
_CITIES = _Aspect("cities", _want_cities, _vary_cities, lambda rng, split, wanted: _page(sample_page(rng, split, cities=wanted)))
_VALUES = _Aspect("values", _want_values, _vary_values, lambda rng, split, wanted: _page(sample_page(rng, split, values=wanted)))

Asked = tuple[str, list[tuple[str, str]]]


def _ask_objects(rng: random.Random, seen: _Seen) -> Asked:
    """Name one thing, or two, as people type it."""
    names = [fact.tell() for fact in rng.sample(seen.facts["objects"], 1 if rng.random() < 0.4 else 2)]
    lead = rng.choice(("a ", "", "a picture of a ", "find the ", "the "))
    joint = {"": " ", "find the ": " and the ", "the ": " and the "}.get(lead, " and a ")
    return lead + joint.join(names), [(name, name) for name in names]


def _ask_relation(rng: random.Random, seen: _Seen) -> Asked:
    """Say what stands left of or above what, and where that, or something else, stands."""
    while True:
        first = rng.choice(sorted(seen.derived))
        one, relation, other = first.partition(" left of " if " left of " in first else " above ")
        lead = rng.choice(("a ", "the "))
        asked = [(first, f"{one}{relation}{lead}{other}")]
        if rng.random() < 0.5:
            fact = rng.choice(seen.facts["places"])
            if fact.get("shape") in (one, other):
                continue
            words = f"{fact.get('shape')} at {fact.get('place')}"
            asked.append((fact.tell(), words))
        else:
            second = rng.choice(
                sorted(text for text in seen.derived if text.startswith(f"{one} ") and not text.endswith(f" {other}")) or [""]
            )
            if not second:
                continue
            rest = second.removeprefix(one).strip()
            relation, third = rest.rsplit(" ", 1)
            asked.append((second, f"{relation} {lead}{third}"))
            return f"{lead}{asked[0][1]} and {asked[1][1]}", asked
        return f"{lead}{asked[0][1]}, {lead}{asked[1][1]}", asked


def _ask_event(rng: random.Random, seen: _Seen) -> Asked:
    """Name one event of a clip, or one and that it comes last."""
    verb, order = rng.choice((seen.facts["events"][:2], seen.facts["events"][2:]))
    words = verb.tell()
    if order.get("order") == "last" and rng.random() < 0.4:
        return f"in the end a {words}", [(words, words), (order.tell(), "in the end")]
    return rng.choice(("a ", "a clip in which a ", "the ", "watch the ")) + words, [(words, words)]


def _ask_words(rng: random.Random, seen: _Seen) -> Asked:
    """Name the topic of a page, and a city or two."""
    topic, *cities = seen.facts["cities"]
    facts = [topic, *rng.sample(cities, rng.choice((1, 2)))]
    words = [fact.tell().split()[-1] for fact in facts]
    lead = rng.choice(("", "a page with ", "find "))
    return lead + rng.choice((" ", " and ")).join(words), [(fact.tell(), word) for fact, word in zip(facts, words, strict=True)]


DRAWS: dict[str, Draw] = {
    "image_objects": _same("image_objects", _OBJECTS),
    "image_layout": _same("image_layout", _LAYOUT),
    "image_part": _part("image_part", _OBJECTS, _ask_objects),
    "image_relation": _part("image_relation", _LAYOUT, _ask_relation),
    "video_objects": _same("video_objects", _CLIP_OBJECTS),
    "video_events": _same("video_events", _EVENTS),
    "video_part": _part("video_part", _EVENTS, _ask_event),
    "visdoc_cities": _same("visdoc_cities", _CITIES),
    "visdoc_values": _same("visdoc_values", _VALUES),
    "visdoc_part": _part("visdoc_part", _CITIES, _ask_words),
}

assert set(INSTRUCTIONS) == set(DRAWS)
