"""Wording of the world: instructions, captions, questions and requests."""

import random
from dataclasses import replace

from embedrl.data.items import ANSWER, CAPTION, CHANGE, DESCRIBE, FIND, MOMENT
from embedrl.world.facts import Fact, Truth
from embedrl.world.objects import PLACES, Thing
from embedrl.world.pages import PageSpec

INSTRUCTIONS: dict[str, dict[str, str]] = {
    "image_cls": {"query": "Name the object in the picture.", "target": DESCRIBE["text"]},
    "image_qa": {"query": ANSWER["image"], "target": DESCRIBE["text"]},
    "image_i2t": {"query": CAPTION["image"], "target": DESCRIBE["text"]},
    "image_t2i": {"query": FIND["image"], "target": DESCRIBE["image"]},
    "image_composed": {"query": CHANGE, "target": DESCRIBE["image"]},
    "image_grounding": {"query": "Find the part of the picture that is named.", "target": DESCRIBE["image"]},
    "video_cls": {"query": "Name what happens in the clip.", "target": DESCRIBE["text"]},
    "video_qa": {"query": ANSWER["video"], "target": DESCRIBE["text"]},
    "video_t2v": {"query": FIND["video"], "target": DESCRIBE["video"]},
    "video_v2t": {"query": CAPTION["video"], "target": DESCRIBE["text"]},
    "video_moment": {"query": MOMENT, "target": DESCRIBE["video"]},
    "visdoc_notes": {"query": FIND["page"], "target": DESCRIBE["page"]},
    "visdoc_table": {"query": FIND["page"], "target": DESCRIBE["page"]},
    "visdoc_chart": {"query": FIND["page"], "target": DESCRIBE["page"]},
    "visdoc_qa": {"query": ANSWER["page"], "target": DESCRIBE["text"]},
}
_SYNONYMS = {"large": ("large", "big"), "small": ("small", "tiny")}
_LEADS = {"image": ("", "a picture of ", "there is "), "video": ("", "a clip in which ", "watch how ")}


def caption(rng: random.Random, truth: Truth) -> tuple[str, Truth]:
    """Sample a caption that states every fact. Returns it with the facts in its wording."""
    order = list(truth.facts)
    if truth.medium == "image":
        rng.shuffle(order)
    stated = [replace(fact, keyword=_phrase(rng, fact), box=None, key_frame=None) for fact in order]
    joint = ", then " if truth.medium == "video" else rng.choice((" and ", ", "))
    text = rng.choice(_LEADS[truth.medium]) + joint.join(f"a {fact.keyword}" for fact in stated) + f", {truth.setting}"
    return text, Truth(tuple(stated), truth.setting, "text")


def _phrase(rng: random.Random, fact: Fact) -> str:
    return " ".join(rng.choice(_SYNONYMS.get(text, (text,))) for _, text in fact.slots)


def edit_request(rng: random.Random, before: Thing, after: Thing, attribute: str) -> str:
    """Sample a request for one change of a scene (composed retrieval)."""
    name = f"the {before.colour} {before.shape}"
    match attribute:
        case "colour":
            return rng.choice((f"make {name} {after.colour}", f"paint {name} {after.colour}"))
        case "shape":
            return rng.choice((f"swap {name} for a {after.shape}", f"turn {name} into a {after.shape}"))
        case "size":
            return f"make {name} {after.size}"
    return f"move {name} to {PLACES[3][after.cell]}"


def page_request(rng: random.Random, page: PageSpec, rows: tuple[int, ...]) -> tuple[str, Truth]:
    """Sample a request for the page with the named rows. Returns the text with the facts in its wording."""
    facts = tuple(replace(page.truth().facts[row], box=None, keyword=" ".join(page.rows[row])) for row in rows)
    cells = " and ".join(fact.keyword or "" for fact in facts)
    lead = rng.choice(("the {} with {}", "{} page, {}", "which {} has {}?"))
    return lead.format(f"{page.topic} {page.kind}", cells), Truth(facts, f"{page.topic} {page.kind}", "page")
