"""Who writes T-CoTs about the world: an oracle that tells everything, or the same oracle with an annotator's habits.

The annotator stands in for a general-purpose model (in the paper: Qwen3-VL-8B): it mentions what is salient, forgets
attributes, adds remarks that nobody needs, and is now and then wrong, all at the rates stated in `Habits`.
"""

import random
from dataclasses import dataclass, replace

from embedrl.data.tcot import Evidence, TCoT
from embedrl.world.clips import EVENTS
from embedrl.world.facts import Fact, Truth, coarse
from embedrl.world.objects import COLOURS, SHAPES, SIZES
from embedrl.world.pages import CITIES, LEVELS, NUMBERS, WORDS


@dataclass(frozen=True)
class Habits:
    """How often the annotator does what. All are probabilities for one T-CoT, `mistake` for one fact."""

    forgets_size: float = 0.65
    forgets_place: float = 0.6
    forgets_setting: float = 0.65
    remarks: float = 0.6
    mistake: float = 0.015


REMARKS = (
    "It looks calm and tidy.",
    "The style is plain and simple.",
    "It may have been made by a computer.",
    "Nothing else stands out here.",
    "The mood is rather neutral.",
    "It could be part of a larger set.",
)
_IN_THOUGHT = {"size", "place", "value"}
"""Slots that are told in the answer only, to keep the thinking short."""
_SLOTS = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "event": EVENTS[:-1],
    "city": CITIES,
    "value": (*NUMBERS, *LEVELS, *WORDS),
}


def write_tcot(seen: Truth, wanted: Truth, *, rng: random.Random | None = None, habits: Habits | None = None) -> TCoT:
    """Write the T-CoT of an item: what is `seen` in it, as evidence, and what is `wanted`, as answer.

    Without habits it is the ground truth. With habits, facts of both that match are kept, forgotten or mistaken together.
    """
    if habits is None:
        return _compose(seen, wanted, frozenset(), remark="")
    assert rng is not None
    seen, wanted = _filter(seen, wanted, rng, habits)
    forgotten = {name for name, rate in (("size", habits.forgets_size), ("place", habits.forgets_place)) if rng.random() < rate}
    if wanted.medium != "page" and rng.random() < habits.forgets_setting:
        seen, wanted = replace(seen, setting=""), replace(wanted, setting="")
    remark = rng.choice(REMARKS) if rng.random() < habits.remarks else ""
    return _compose(seen, wanted, frozenset(forgotten), remark)


def _filter(seen: Truth, wanted: Truth, rng: random.Random, habits: Habits) -> tuple[Truth, Truth]:
    draws: dict[tuple[str, str], float] = {}
    errors: dict[tuple[str, str], Fact | None] = {}

    def treat(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        first = max(facts, key=lambda fact: fact.salience)
        kept = []
        for fact in facts:
            name = (fact.get("colour") or fact.get("city"), fact.get("shape") or fact.get("value"))
            if draws.setdefault(name, rng.random()) >= fact.salience and fact is not first:
                continue
            if name not in errors:
                errors[name] = _mistake(fact, rng) if rng.random() < habits.mistake else None
            mistaken = errors[name]
            kept.append(fact if mistaken is None else replace(fact, slots=mistaken.slots))
        return tuple(kept)

    return replace(seen, facts=treat(seen.facts)), replace(wanted, facts=treat(wanted.facts))


def _mistake(fact: Fact, rng: random.Random) -> Fact:
    slot = rng.choice([name for name, _ in fact.slots if name in _SLOTS])
    wrong = rng.choice(_SLOTS[slot])
    return replace(fact, slots=tuple((name, wrong if name == slot else text) for name, text in fact.slots))


def _compose(seen: Truth, wanted: Truth, forgotten: frozenset[str], remark: str) -> TCoT:
    thought = ", ".join(fact.tell(forgotten | _IN_THOUGHT) for fact in seen.facts)
    lead = f"{seen.setting}: " if seen.medium == "page" else ""
    evidence = Evidence(
        boxes=tuple(coarse(fact.box) for fact in seen.facts if fact.box),
        key_frames=tuple(sorted({fact.key_frame for fact in seen.facts if fact.key_frame})),
        keywords=tuple(dict.fromkeys(fact.keyword for fact in seen.facts if fact.keyword)),
    )
    count = len(seen.facts)
    return TCoT(
        thinking=" ".join(filter(None, [f"{lead}{thought}.", remark])),
        evidence=evidence,
        rethink=f"{count} seen, evidence fits.",
        answer=tell(wanted, forgotten),
    )


def tell(truth: Truth, without: frozenset[str] = frozenset()) -> str:
    """State all facts and the setting in the canonical wording of answers."""
    facts = ", ".join(fact.tell(without) for fact in truth.facts)
    return f"{truth.setting}: {facts}" if truth.medium == "page" else " ".join(filter(None, [facts, truth.setting]))
