"""Tasks of the crowded world: equal objects, layout, events, cities or values, and typed partial descriptions.

A query and its target share what the task turns on, and nothing else but by chance: all other facts are drawn anew, so naming them
is of no use. Instructions say on both sides what that is.
"""

import random
from collections.abc import Callable, Iterable, Sequence

from embedrl.data.items import DESCRIBE, FIND
from embedrl.data.sample import Item, Role
from embedrl.media.content import Text
from embedrl.world import clips, pages, scenes
from embedrl.world.crowded.aspects import CITIES, CLIP_OBJECTS, EVENTS, LAYOUT, OBJECTS, VALUES, Aspect, Seen, Wanted, is_shown, variants
from embedrl.world.crowded.media import place_word
from embedrl.world.crowded.side import CrowdedFamily, CrowdedSide
from embedrl.world.facts import Fact
from embedrl.world.objects import COLOURS, SHAPES, SIZES

INSTRUCTIONS: dict[str, dict[str, str]] = {
    "image_objects": {"query": "Find a picture of the same objects.", "target": "Name the objects."},
    "image_layout": {"query": "Find a picture with the same layout.", "target": "Say where things stand."},
    "image_opposite": {"query": "Find the picture in opposite colours.", "target": "Name the objects."},
    "image_mirrored": {"query": "Find the mirrored picture.", "target": "Say where things stand."},
    "image_part": {"query": FIND["image"], "target": DESCRIBE["image"]},
    "image_relation": {"query": FIND["image"], "target": "Say where things stand."},
    "video_objects": {"query": "Find a clip of the same objects.", "target": "Name the objects."},
    "video_events": {"query": "Find a clip in which the same happens.", "target": "Say what happens."},
    "video_undone": {"query": "Find the clip in which this is undone.", "target": "Say what happens."},
    "video_part": {"query": FIND["video"], "target": DESCRIBE["video"]},
    "visdoc_cities": {"query": "Find a page about the same topic and cities.", "target": "Name topic and cities."},
    "visdoc_values": {"query": "Find a page with the same values.", "target": "Name the values."},
    "visdoc_part": {"query": FIND["page"], "target": DESCRIBE["page"]},
}
_NAMED = {
    "Name the objects.": "objects",
    "Say where things stand.": "places",
    "Say what happens.": "events",
    "Name topic and cities.": "cities",
    "Name the values.": "values",
}
"""Instructions that name an aspect literally."""
PARTIAL = ("image_part", "image_relation", "video_part", "visdoc_part")
"""Tasks whose queries are typed descriptions of a part: every candidate that holds it is relevant."""
MAX_DRAWS = 50
"""Families that are drawn until one has as many variants as asked for."""
Draw = Callable[[random.Random, str, int], CrowdedFamily]
"""(rng, split, number of variants) -> pairs of sides, the main pair first."""


def _medium_side(seen: Seen, aspect: str, role: Role, task: str, side: str) -> CrowdedSide:
    facts = tuple(fact for facts_of_aspect in seen.facts.values() for fact in facts_of_aspect)
    matters = seen.facts[aspect]
    statements = frozenset(fact.tell() for fact in facts)
    instruction = INSTRUCTIONS[task][side]
    return CrowdedSide(
        lambda: Item(content=(seen.draw(),), instruction=instruction, role=role),
        instruction,
        facts,
        matters,
        f"{aspect}: " + ", ".join(sorted(fact.tell() for fact in matters)),
        aspects=tuple(name for name, facts_of_aspect in seen.facts.items() for _ in facts_of_aspect),
        asked=_NAMED.get(instruction),
        holds=statements | seen.derived,
        others=tuple(text for text in _OTHERS[_medium(task)] if text not in statements),
        num_facts=len(matters),
    )


def _text_side(text: str, asked: Sequence[tuple[str, str]], task: str) -> CrowdedSide:
    """Create a typed query; `asked` are (statement, its words in the text)."""
    medium = _medium(task)
    facts = tuple(Fact((("asked", statement),), keyword=words) for statement, words in asked)
    role = Role.QUERY_TEXT_TO_VIDEO if medium == "video" else Role.QUERY_TEXT_TO_IMAGE
    asks = frozenset(statement for statement, _ in asked)
    instruction = INSTRUCTIONS[task]["query"]
    return CrowdedSide(
        lambda: Item(content=(Text(text=text),), instruction=instruction, role=role),
        instruction,
        facts,
        facts,
        f"asks: {', '.join(sorted(asks))}",
        aspects=("asked",) * len(facts),
        asks=asks,
        others=tuple(text for text in _OTHERS[medium] if text not in asks),
        is_text=True,
        num_facts=len(facts),
    )


def _medium(task: str) -> str:
    return task.split("_")[0]


def _pairs(slot: str, texts: Iterable[str]) -> list[str]:
    return [Fact(((slot, text), ("shape", shape))).tell() for text in texts for shape in SHAPES]


_OTHERS = {
    "image": (
        *_pairs("colour", COLOURS),
        *_pairs("place", [place_word(cell, scenes.GRID) for cell in range(scenes.GRID**2)]),
        *_pairs("size", SIZES),
    ),
    "video": (
        *_pairs("colour", COLOURS),
        *_pairs("place", [place_word(cell, clips.GRID) for cell in range(clips.GRID**2)]),
        *(Fact((("shape", shape), ("event", verb))).tell() for shape in SHAPES for verb in clips.EVENTS[:-1]),
    ),
    "visdoc": (
        *(f"about {topic}" for topic in pages.TOPICS),
        *(f"lists {city}" for city in pages.CITIES),
        *(f"says {value}" for value in (*pages.NUMBERS, *pages.LEVELS, *pages.WORDS)),
    ),
}
"""Statements of a medium's facts, for mistakes and inventions."""


_ROLES = {
    "image": (Role.QUERY_IMAGE, Role.TARGET_IMAGE),
    "video": (Role.QUERY_VIDEO, Role.TARGET_VIDEO),
    "visdoc": (Role.QUERY_IMAGE, Role.TARGET_IMAGE),
}


def _same(task: str, aspect: Aspect, counterpart: Callable[[str, Wanted], Wanted | None] | None = None) -> Draw:
    """Create a task of two media with the same aspect, or with counterparts in it.

    Equal aspects can be matched by words. A counterpart (opposite colours, mirrored layout, inverse event) cannot:
    the Embedder has to learn it. `counterpart` returns None where the split does not allow it.
    """
    query_role, target_role = _ROLES[_medium(task)]

    def draw(rng: random.Random, split: str, count: int) -> CrowdedFamily:
        family: dict[str, tuple[CrowdedSide, CrowdedSide]] = {}
        for _ in range(MAX_DRAWS):  # the first draw of an aspect may have no counterpart that the split shows, or too few variants
            family = {}
            for wanted in variants(rng, split, aspect, count):
                other = counterpart(split, wanted) if counterpart else wanted
                if other is None:
                    continue
                query, target = (aspect.draw(rng, split, spec) for spec in (wanted, other))
                side = _medium_side(target, aspect.name, target_role, task, "target")
                family.setdefault(side.signature, (_medium_side(query, aspect.name, query_role, task, "query"), side))
                if len(family) > count:
                    return list(family.values())
        return list(family.values())

    return draw


_OPPOSITES = {"red": "green", "blue": "orange", "yellow": "purple", "cyan": "pink"}
_OPPOSITES |= {other: colour for colour, other in _OPPOSITES.items()}
_UNDOES = {"enters": "leaves", "leaves": "enters", "grows": "shrinks", "shrinks": "grows"}


def _opposite(split: str, wanted: Wanted) -> Wanted | None:
    objects = tuple((_OPPOSITES[colour], shape) for colour, shape in wanted)
    return objects if all(is_shown(colour, shape, split) for colour, shape in objects) else None


def _mirrored(_: str, wanted: Wanted) -> Wanted:
    return tuple((shape, cell - cell % scenes.GRID + scenes.GRID - 1 - cell % scenes.GRID) for shape, cell in wanted)


def _undone(_: str, wanted: Wanted) -> Wanted | None:
    """Inverse events in reverse order."""
    (first, verb), (last, last_verb) = wanted
    return ((last, _UNDOES[last_verb]), (first, _UNDOES[verb])) if {verb, last_verb} <= _UNDOES.keys() else None


def _part(task: str, aspect: Aspect, ask: Callable[[random.Random, Seen], tuple[str, list[tuple[str, str]]]]) -> Draw:
    """Create a task of a typed partial description and a matching medium; variants match no other query."""
    target_role = _ROLES[_medium(task)][1]

    def draw(rng: random.Random, split: str, count: int) -> CrowdedFamily:
        family: list[tuple[CrowdedSide, CrowdedSide]] = []
        for wanted in variants(rng, split, aspect, count):
            seen = aspect.draw(rng, split, wanted)
            query = _text_side(*ask(rng, seen), task)
            target = _medium_side(seen, aspect.name, target_role, task, "target")
            if all(not query.asks <= other.holds and not asked.asks <= target.holds for asked, other in family):
                family.append((query, target))
            if len(family) > count:
                break
        return family

    return draw


Asked = tuple[str, list[tuple[str, str]]]


def _ask_objects(rng: random.Random, seen: Seen) -> Asked:
    """Typed query: one or two objects."""
    names = [fact.tell() for fact in rng.sample(seen.facts["objects"], 1 if rng.random() < 0.4 else 2)]
    lead = rng.choice(("a ", "", "a picture of a ", "find the ", "the "))
    joint = {"": " ", "find the ": " and the ", "the ": " and the "}.get(lead, " and a ")
    return lead + joint.join(names), [(name, name) for name in names]


def _ask_relation(rng: random.Random, seen: Seen) -> Asked:
    """Typed query: a spatial relation, and the place of an object."""
    while True:
        first = rng.choice(sorted(seen.derived))
        subject, relation, other = first.partition(" left of " if " left of " in first else " above ")
        lead = rng.choice(("a ", "the "))
        asked = [(first, f"{subject}{relation}{lead}{other}")]
        if rng.random() < 0.5:
            fact = rng.choice(seen.facts["places"])
            if fact.get("shape") in (subject, other):
                continue
            words = f"{fact.get('shape')} at {fact.get('place').replace('-', ' ')}"
            asked.append((fact.tell(), words))
        else:
            second = rng.choice(
                sorted(text for text in seen.derived if text.startswith(f"{subject} ") and not text.endswith(f" {other}")) or [""]
            )
            if not second:
                continue
            rest = second.removeprefix(subject).strip()
            relation, third = rest.rsplit(" ", 1)
            asked.append((second, f"{relation} {lead}{third}"))
            return f"{lead}{asked[0][1]} and {asked[1][1]}", asked
        return f"{lead}{asked[0][1]}, {lead}{asked[1][1]}", asked


def _ask_event(rng: random.Random, seen: Seen) -> Asked:
    """Typed query: one event of a clip, optionally that it is the last."""
    verb, order = rng.choice((seen.facts["events"][:2], seen.facts["events"][2:]))
    words = verb.tell()
    if order.get("order") == "last" and rng.random() < 0.4:
        return f"in the end a {words}", [(words, words), (order.tell(), "in the end")]
    return rng.choice(("a ", "a clip in which a ", "the ", "watch the ")) + words, [(words, words)]


def _ask_words(rng: random.Random, seen: Seen) -> Asked:
    """Typed query: the topic of a page, and one or two cities."""
    topic, *cities = seen.facts["cities"]
    facts = [topic, *rng.sample(cities, rng.choice((1, 2)))]
    words = [fact.tell().split()[-1] for fact in facts]
    lead = rng.choice(("", "a page with ", "find "))
    return lead + rng.choice((" ", " and ")).join(words), [(fact.tell(), word) for fact, word in zip(facts, words, strict=True)]


DRAWS: dict[str, Draw] = {
    "image_objects": _same("image_objects", OBJECTS),
    "image_layout": _same("image_layout", LAYOUT),
    "image_opposite": _same("image_opposite", OBJECTS, _opposite),
    "image_mirrored": _same("image_mirrored", LAYOUT, _mirrored),
    "image_part": _part("image_part", OBJECTS, _ask_objects),
    "image_relation": _part("image_relation", LAYOUT, _ask_relation),
    "video_objects": _same("video_objects", CLIP_OBJECTS),
    "video_events": _same("video_events", EVENTS),
    "video_undone": _same("video_undone", EVENTS, _undone),
    "video_part": _part("video_part", EVENTS, _ask_event),
    "visdoc_cities": _same("visdoc_cities", CITIES),
    "visdoc_values": _same("visdoc_values", VALUES),
    "visdoc_part": _part("visdoc_part", CITIES, _ask_words),
}

assert set(INSTRUCTIONS) == set(DRAWS)
