"""The world's retrieval tasks. They mirror the families of MMEB-V2: classification, QA, retrieval, grounding, moments, pages.

A task draws a *family*: a pair and variants of it that differ in one attribute. In a test, the variants' targets are the
hard negatives of the first pair; in training, all of a family's pairs stand in one batch.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from embedrl.data.sample import Item, Pair, Role
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError
from embedrl.media.content import Image, Page, Part, Text, Video
from embedrl.world import clips, pages, scenes
from embedrl.world.annotator import Habits, write_tcot
from embedrl.world.facts import Fact, Truth
from embedrl.world.objects import BACKGROUNDS, PLACES, SPLITS
from embedrl.world.wording import INSTRUCTIONS, caption, edit_request, page_request

NUM_VARIANTS = 4


@dataclass(frozen=True)
class Side:
    """One item with all that is true of it."""

    item: Item
    seen: Truth
    wanted: Truth
    """What its answer should state: what is seen, or what is looked for."""
    signature: str
    """Two sides with one signature mean the same."""

    @property
    def truth(self) -> TCoT:
        """The ground-truth T-CoT."""
        return write_tcot(self.seen, self.wanted)

    def annotated(self, rng: random.Random, habits: Habits | None = None) -> TCoT:
        """Return what the annotator writes about it."""
        return write_tcot(self.seen, self.wanted, rng=rng, habits=habits or Habits())


@dataclass(frozen=True)
class WorldPair:
    """A pair, with the truth of both sides and of its hard negatives."""

    query: Side
    target: Side
    negatives: tuple[Side, ...]
    task: str
    modality: str

    @property
    def pair(self) -> Pair:
        """The pair as anyone's data would hold it."""
        return Pair(task=self.task, query=self.query.item, target=self.target.item, negatives=tuple(side.item for side in self.negatives))

    @property
    def query_truth(self) -> TCoT:
        """Ground-truth T-CoT of the query."""
        return self.query.truth

    @property
    def target_truth(self) -> TCoT:
        """Ground-truth T-CoT of the target."""
        return self.target.truth

    @property
    def negative_truths(self) -> tuple[TCoT, ...]:
        """Ground-truth T-CoTs of the negatives."""
        return tuple(side.truth for side in self.negatives)


Family = list[tuple[Side, Side]]


@dataclass(frozen=True)
class WorldTask:
    """A row of the task table."""

    name: str
    modality: str
    """"image", "video" or "visdoc"."""
    family: str
    """The family of MMEB-V2 that it mirrors."""
    draw: Callable[[random.Random, str, int], Family]
    """(rng, split, number of variants) -> pairs of sides, the main pair first."""


def _item(role: Role, task: str, side: str, *parts: Part) -> Item:
    return Item(content=parts, instruction=INSTRUCTIONS[task][side], role=role)


def _scene_side(scene: scenes.Scene, role: Role, task: str, side: str, *, text: str = "", wanted: Truth | None = None, seen: Truth | None = None) -> Side:
    parts: tuple[Part, ...] = (Image(pixels=scene.draw()), *((Text(text=text),) if text else ()))
    seen = seen or scene.truth()
    return Side(_item(role, task, side, *parts), seen, wanted or seen, scene.signature() + text)


def _text_side(text: str, facts: Truth, role: Role, task: str, side: str) -> Side:
    return Side(_item(role, task, side, Text(text=text)), facts, replace(facts, facts=tuple(_unplaced(fact) for fact in facts.facts)), text)


def _unplaced(fact: Fact) -> Fact:
    return replace(fact, box=None, key_frame=None)


def _distinct(make: Callable[[], object], first: object, count: int) -> list:
    """Return `first` and `count` others made from it, all with distinct signatures."""
    found = {first.signature(): first}
    for _ in range(count * 20):
        if len(found) > count:
            break
        new = make()
        found.setdefault(new.signature(), new)
    return list(found.values())


def _scene_family(rng: random.Random, split: str, count: int) -> list[scenes.Scene]:
    base = scenes.sample_scene(rng, split)
    return _distinct(lambda: scenes.variant(rng, base, split), base, count)


def _t2i(rng: random.Random, split: str, count: int) -> Family:
    family = []
    for scene in _scene_family(rng, split, count):
        text, facts = caption(rng, scene.truth())
        query = _text_side(text, facts, Role.QUERY_TEXT_TO_IMAGE, "image_t2i", "query")
        family.append((query, _scene_side(scene, Role.TARGET_IMAGE, "image_t2i", "target")))
    return family


def _i2t(rng: random.Random, split: str, count: int) -> Family:
    family = []
    for scene in _scene_family(rng, split, count):
        text, facts = caption(rng, scene.truth())
        query = _scene_side(scene, Role.QUERY_IMAGE, "image_i2t", "query")
        family.append((query, _text_side(text, facts, Role.TARGET_TEXT, "image_i2t", "target")))
    return family


def _label(fact: Fact, setting: str, *, without: frozenset[str] = frozenset({"place"})) -> tuple[str, Truth]:
    """Return a label text ("large red star on white") and its truth, with the keyword that states it."""
    kept = replace(fact, slots=tuple(slot for slot in fact.slots if slot[0] not in without), box=None, key_frame=None)
    text = " ".join(filter(None, [kept.tell(), setting]))
    return text, Truth((replace(kept, keyword=kept.tell()),), setting, "text")


def _no_place(fact: Fact) -> Fact:
    return replace(fact, slots=tuple(slot for slot in fact.slots if slot[0] != "place"), salience=1.0)


def _image_cls(rng: random.Random, split: str, count: int) -> Family:
    base = scenes.sample_scene(rng, split, num_things=1)

    def changed() -> scenes.Scene:
        if rng.random() < 0.25:
            return replace(base, background=rng.choice(list(BACKGROUNDS)))
        return scenes.variant(rng, base, split, attributes=("size", "colour", "shape"))

    family = []
    for scene in _distinct(changed, base, count):
        truth = scene.truth()
        text, facts = _label(truth.facts[0], truth.setting)
        wanted = replace(truth, facts=(_no_place(truth.facts[0]),))
        family.append(
            (_scene_side(scene, Role.QUERY_IMAGE, "image_cls", "query", wanted=wanted), _text_side(text, facts, Role.TARGET_TEXT, "image_cls", "target"))
        )
    return family


def _image_qa(rng: random.Random, split: str, count: int) -> Family:
    base = scenes.sample_scene(rng, split, num_things=rng.choice((3, 4)))
    index = rng.randrange(len(base.things))
    place = PLACES[scenes.GRID][base.things[index].cell]

    def changed() -> scenes.Scene:
        return scenes.change(rng, base, index, rng.choice(("size", "colour", "shape")), split)

    family = []
    for scene in _distinct(changed, base, count):
        fact = _no_place(scenes.thing_fact(scene.things[index]))
        setting = f"on {scene.background}"
        text, facts = _label(fact, setting)
        seen = Truth((fact,), setting, "image")
        query = _scene_side(scene, Role.QUERY_IMAGE, "image_qa", "query", text=f"What is at {place}?", seen=seen)
        family.append((query, _text_side(text, facts, Role.TARGET_TEXT, "image_qa", "target")))
    return family


def _composed(rng: random.Random, split: str, count: int) -> Family:
    source = scenes.sample_scene(rng, split)
    family, seen = [], {source.signature()}
    for _ in range(20 * (count + 1)):
        if len(family) > count:
            break
        index, attribute = rng.randrange(len(source.things)), rng.choice(("colour", "shape", "size", "cell"))
        scene = scenes.change(rng, source, index, attribute, split)
        if scene.signature() in seen or len({(thing.colour, thing.shape) for thing in scene.things}) < len(scene.things):
            continue
        seen.add(scene.signature())
        text = edit_request(rng, source.things[index], scene.things[index], attribute)
        query = _scene_side(source, Role.QUERY_IMAGE, "image_composed", "query", text=text, wanted=scene.truth())
        family.append((query, _scene_side(scene, Role.TARGET_IMAGE, "image_composed", "target")))
    return family


def _grounding(rng: random.Random, split: str, count: int) -> Family:
    scene = scenes.sample_scene(rng, split, num_things=4)
    picture, family = scene.draw(), []
    for thing in scene.things[: count + 1]:
        x1, y1, x2, y2 = (value / 1000 * scenes.SIDE for value in thing.box(scenes.GRID))
        margin = (x2 - x1) * 0.2
        corners = tuple(round(min(max(v, 0), scenes.SIDE)) for v in (x1 - margin, y1 - margin, x2 + margin, y2 + margin))
        crop = picture.crop(corners)
        fact, setting = _no_place(scenes.thing_fact(thing)), f"on {scene.background}"
        seen = Truth((fact,), setting, "image")
        query = _scene_side(scene, Role.QUERY_IMAGE, "image_grounding", "query", text=f"the {thing.colour} {thing.shape}", seen=seen)
        inner = replace(fact, slots=fact.slots[1:], box=(140, 140, 860, 860))
        target = Side(
            _item(Role.TARGET_IMAGE, "image_grounding", "target", Image(pixels=crop)),
            Truth((inner,), setting, "image"),
            Truth((inner,), setting, "image"),
            f"crop: {inner.tell()} {setting}",
        )
        family.append((query, target))
    return family


def _clip_family(rng: random.Random, split: str, count: int, index: int | None = None) -> list[clips.Clip]:
    base = clips.sample_clip(rng, split)
    return _distinct(lambda: clips.variant(rng, base, split, index=index), base, count)


def _clip_side(clip: clips.Clip, role: Role, task: str, side: str, *, text: str = "", seen: Truth | None = None) -> Side:
    parts: tuple[Part, ...] = (Video(frames=clip.frames()), *((Text(text=text),) if text else ()))
    seen = seen or clip.truth()
    return Side(_item(role, task, side, *parts), seen, seen, clip.signature() + text)


def _half_side(clip: clips.Clip, index: int, role: Role, task: str, side: str, signature: str) -> Side:
    frames, truth = clip.half(index)
    return Side(_item(role, task, side, Video(frames=frames)), truth, truth, signature)


def _t2v(rng: random.Random, split: str, count: int) -> Family:
    family = []
    for clip in _clip_family(rng, split, count):
        text, facts = caption(rng, clip.truth())
        query = _text_side(text, facts, Role.QUERY_TEXT_TO_VIDEO, "video_t2v", "query")
        family.append((query, _clip_side(clip, Role.TARGET_VIDEO, "video_t2v", "target")))
    return family


def _v2t(rng: random.Random, split: str, count: int) -> Family:
    family = []
    for clip in _clip_family(rng, split, count):
        text, facts = caption(rng, clip.truth())
        query = _clip_side(clip, Role.QUERY_VIDEO, "video_v2t", "query")
        family.append((query, _text_side(text, facts, Role.TARGET_TEXT, "video_v2t", "target")))
    return family


def _video_cls(rng: random.Random, split: str, count: int) -> Family:
    family, index = [], rng.randrange(2)
    for clip in _clip_family(rng, split, count, index):
        text, facts = _label(clip.events[index].fact(1.0), "")
        query = _half_side(clip, index, Role.QUERY_VIDEO, "video_cls", "query", _moment_signature(clip, index))
        family.append((query, _text_side(text, facts, Role.TARGET_TEXT, "video_cls", "target")))
    return family


def _video_qa(rng: random.Random, split: str, count: int) -> Family:
    family, index = [], rng.randrange(2)
    for clip in _clip_family(rng, split, count, index):
        fact, setting = clip.events[index].fact(1.0), f"on {clip.background}"
        text, facts = _label(fact, setting)
        question = f"What happens {('first', 'last')[index]}?"
        query = _clip_side(clip, Role.QUERY_VIDEO, "video_qa", "query", text=question, seen=Truth((fact,), setting, "video"))
        family.append((query, _text_side(text, facts, Role.TARGET_TEXT, "video_qa", "target")))
    return family


def _moment(rng: random.Random, split: str, count: int) -> Family:
    base = clips.sample_clip(rng, split)
    moments = {_moment_signature(base, index): (base, index) for index in (0, 1)}
    for attempt in range(20 * count):
        if len(moments) > count:
            break
        index = attempt % 2
        clip = clips.variant(rng, base, split, index=index)
        moments.setdefault(_moment_signature(clip, index), (clip, index))
    family = []
    for signature, (clip, index) in list(moments.items())[: count + 1]:
        fact = clip.events[index].fact(1.0)
        seen = Truth((fact,), f"on {clip.background}", "video")
        query = _clip_side(clip, Role.QUERY_VIDEO, "video_moment", "query", text=f"the moment when the {fact.tell()}", seen=seen)
        family.append((query, _half_side(clip, index, Role.TARGET_VIDEO, "video_moment", "target", signature)))
    return family


def _moment_signature(clip: clips.Clip, index: int) -> str:
    return f"half: {clip.events[index].fact(1.0).tell()} on {clip.background}"


def _page_side(page: pages.PageSpec, role: Role, task: str, side: str, *, text: str = "", seen: Truth | None = None) -> Side:
    parts: tuple[Part, ...] = (Page(pixels=page.draw()), *((Text(text=text),) if text else ()))
    seen = seen or page.truth()
    return Side(_item(role, task, side, *parts), seen, seen, page.signature() + text)


def _pages(kind: str) -> Callable[[random.Random, str, int], Family]:
    task = f"visdoc_{kind}"

    def draw(rng: random.Random, split: str, count: int) -> Family:
        rows = tuple(sorted(rng.sample(range(3), 2)))
        base = pages.sample_page(rng, split, kind=kind)
        family = []
        for page in _distinct(lambda: pages.variant(rng, base, split, row=rng.choice(rows)), base, count):
            text, facts = page_request(rng, page, rows)
            query = _text_side(text, facts, Role.QUERY_TEXT_TO_IMAGE, task, "query")
            family.append((query, _page_side(page, Role.TARGET_IMAGE, task, "target")))
        return family

    return draw


def _page_qa(rng: random.Random, split: str, count: int) -> Family:
    base, row = pages.sample_page(rng, split), rng.randrange(3)
    city = base.rows[row][0]
    options = [value for value in pages.values(base.kind) if value != base.rows[row][1]]
    family = []
    for value in (base.rows[row][1], *rng.sample(options, min(count, len(options)))):
        page = replace(base, rows=(*base.rows[:row], (city, value), *base.rows[row + 1 :]))
        truth = page.truth()
        fact = replace(truth.facts[row], salience=1.0)
        seen = replace(truth, facts=(fact,))
        query = _page_side(page, Role.QUERY_IMAGE, "visdoc_qa", "query", text=f"What stands behind {city}?", seen=seen)
        text = f"{truth.setting}: {fact.tell()}"
        facts = Truth((replace(fact, box=None, keyword=fact.tell()),), truth.setting, "page")
        family.append((query, _text_side(text, facts, Role.TARGET_TEXT, "visdoc_qa", "target")))
    return family


_ROWS = (
    WorldTask("image_cls", "image", "classification", _image_cls),
    WorldTask("image_qa", "image", "question answering", _image_qa),
    WorldTask("image_i2t", "image", "retrieval", _i2t),
    WorldTask("image_t2i", "image", "retrieval", _t2i),
    WorldTask("image_composed", "image", "retrieval", _composed),
    WorldTask("image_grounding", "image", "grounding", _grounding),
    WorldTask("video_cls", "video", "classification", _video_cls),
    WorldTask("video_qa", "video", "question answering", _video_qa),
    WorldTask("video_t2v", "video", "retrieval", _t2v),
    WorldTask("video_v2t", "video", "retrieval", _v2t),
    WorldTask("video_moment", "video", "moment retrieval", _moment),
    WorldTask("visdoc_notes", "visdoc", "retrieval", _pages("notes")),
    WorldTask("visdoc_table", "visdoc", "retrieval", _pages("table")),
    WorldTask("visdoc_chart", "visdoc", "retrieval", _pages("chart")),
    WorldTask("visdoc_qa", "visdoc", "question answering", _page_qa),
)
TASKS = {row.name: row for row in _ROWS}


def draw_family(task: str, split: str, rng: random.Random, *, num_variants: int = NUM_VARIANTS) -> Family:
    """Draw a pair and its one-attribute variants. Raises ConfigError for an unknown task or split."""
    if task not in TASKS:
        raise ConfigError(f"task={task!r}: choose one of {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ConfigError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
    return TASKS[task].draw(rng, split, num_variants)


def make_pairs(split: str, seed: int, tasks: Sequence[str] | None = None, num_pairs_per_task: int = 64) -> list[WorldPair]:
    """Draw pairs with hard negatives, task by task. Within a task, sides that mean the same are one side.

    Every query singles out its target: no negative, and no other target of the task, shares its signature.
    """
    made = []
    for name in tasks or TASKS:
        rng = random.Random(f"{split}:{seed}:{name}")
        known: dict[str, Side] = {}
        for _ in range(num_pairs_per_task):
            family = draw_family(name, split, rng)
            targets = [known.setdefault(target.signature, target) for _, target in family]
            assert len({side.signature for side in targets}) == len(targets), f"{name}: a variant equals its base"
            made.append(WorldPair(family[0][0], targets[0], tuple(targets[1:]), name, TASKS[name].modality))
    return made


assert set(INSTRUCTIONS) == set(TASKS)
