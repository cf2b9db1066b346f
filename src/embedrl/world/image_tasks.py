"""Tasks about still images: classification, question answering, captions both ways, composed queries, grounding."""

import random
from dataclasses import replace
from functools import partial

from embedrl.data.sample import Item, Role
from embedrl.media.content import Image
from embedrl.world import scenes
from embedrl.world.facts import Truth
from embedrl.world.objects import BACKGROUNDS, PLACES, Thing
from embedrl.world.side import Family, Side, captioned, distinct, item, label, no_place, text_side
from embedrl.world.wording import edit_request


def _scene_side(
    scene: scenes.Scene, role: Role, task: str, side: str, *, text: str = "", wanted: Truth | None = None, seen: Truth | None = None
) -> Side:
    seen = seen or scene.truth()
    return Side(lambda: item(role, task, side, Image(pixels=scene.draw()), text=text), seen, wanted or seen, scene.signature() + text)


def _scene_family(rng: random.Random, split: str, count: int) -> list[scenes.Scene]:
    base = scenes.sample_scene(rng, split)
    return distinct(lambda: scenes.variant(rng, base, split), base, count)


def text_to_image(rng: random.Random, split: str, count: int) -> Family:
    """A full caption, and its scene."""
    return captioned(rng, _scene_family(rng, split, count), _scene_side, "image_t2i", (Role.QUERY_TEXT_TO_IMAGE, Role.TARGET_IMAGE))


def image_to_text(rng: random.Random, split: str, count: int) -> Family:
    """A scene, and its full caption."""
    return captioned(rng, _scene_family(rng, split, count), _scene_side, "image_i2t", (Role.QUERY_IMAGE, Role.TARGET_TEXT))


def classify(rng: random.Random, split: str, count: int) -> Family:
    """A scene of one object, and its class label."""
    base = scenes.sample_scene(rng, split, num_things=1)

    def changed() -> scenes.Scene:
        if rng.random() < 0.25:
            return replace(base, background=rng.choice(list(BACKGROUNDS)))
        return scenes.variant(rng, base, split, attributes=("size", "colour", "shape"))

    family = []
    for scene in distinct(changed, base, count):
        truth = scene.truth()
        text, facts = label(truth.facts[0], truth.setting)
        wanted = replace(truth, facts=(no_place(truth.facts[0]),))
        family.append(
            (
                _scene_side(scene, Role.QUERY_IMAGE, "image_cls", "query", wanted=wanted),
                text_side(text, facts, Role.TARGET_TEXT, "image_cls", "target"),
            )
        )
    return family


def answer(rng: random.Random, split: str, count: int) -> Family:
    """A scene with a question about the object in one place, and the answer."""
    base = scenes.sample_scene(rng, split, num_things=rng.choice((3, 4)))
    index = rng.randrange(len(base.things))
    place = PLACES[scenes.GRID][base.things[index].cell]

    def changed() -> scenes.Scene:
        return scenes.change(rng, base, index, rng.choice(("size", "colour", "shape")), split)

    family = []
    for scene in distinct(changed, base, count):
        fact = no_place(scenes.thing_fact(scene.things[index]))
        setting = f"on {scene.background}"
        text, facts = label(fact, setting)
        seen = Truth((fact,), setting, "image")
        query = _scene_side(scene, Role.QUERY_IMAGE, "image_qa", "query", text=f"What is at {place}?", seen=seen)
        family.append((query, text_side(text, facts, Role.TARGET_TEXT, "image_qa", "target")))
    return family


def composed(rng: random.Random, split: str, count: int) -> Family:
    """A scene with a request for one change, and the changed scene."""
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


def grounding(rng: random.Random, split: str, count: int) -> Family:
    """A scene with the name of an object in it, and the crop of that object."""
    scene = scenes.sample_scene(rng, split, num_things=4)
    family = []
    for thing in scene.things[: count + 1]:
        fact, setting = no_place(scenes.thing_fact(thing)), f"on {scene.background}"
        seen = Truth((fact,), setting, "image")
        query = _scene_side(scene, Role.QUERY_IMAGE, "image_grounding", "query", text=f"the {thing.colour} {thing.shape}", seen=seen)
        inner = replace(fact, slots=fact.slots[1:], box=(140, 140, 860, 860))
        target = Side(
            partial(_crop, scene, thing),
            Truth((inner,), setting, "image"),
            Truth((inner,), setting, "image"),
            f"crop: {inner.tell()} {setting}",
        )
        family.append((query, target))
    return family


def _crop(scene: scenes.Scene, thing: Thing) -> Item:
    """The crop of a thing, with a margin of a fifth of its width."""
    x1, y1, x2, y2 = (value / 1000 * scenes.SIDE for value in thing.box(scenes.GRID))
    margin = (x2 - x1) * 0.2
    left, top, right, bottom = (round(min(max(v, 0), scenes.SIDE)) for v in (x1 - margin, y1 - margin, x2 + margin, y2 + margin))
    return item(Role.TARGET_IMAGE, "image_grounding", "target", Image(pixels=scene.draw().crop((left, top, right, bottom))))
