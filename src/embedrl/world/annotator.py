"""T-CoTs of world items: ground truth, or an oracle annotator with simulated errors.

The annotator stands in for a general-purpose model (in the paper: Qwen3-VL-8B): it stops half way, forgets attributes,
adds remarks that nobody needs, and is now and then wrong, all at the rates stated in `Habits`. A habit holds for a whole
T-CoT and leaves out the same things each time. What is left out at random is noise that a small model cannot fit, and
that makes it unlearn how to see (docs/LOG.md).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedrl.data.tcot import Evidence, TCoT
from embedrl.world.clips import EVENTS
from embedrl.world.facts import Fact, Truth, coarse
from embedrl.world.objects import COLOURS, SHAPES, SIZES
from embedrl.world.pages import CITIES, LEVELS, NUMBERS, WORDS


@dataclass(frozen=True)
class Habits:
    """Error rates of the annotator: probabilities per T-CoT (`mistake`: per fact)."""

    careful: float = 0.2
    """Complete and without additions. Otherwise each of the following happens independently."""
    stops_half_way: float = 0.7
    forgets_size: float = 0.8
    forgets_place: float = 0.8
    forgets_setting: float = 0.8
    """(A page always keeps its title.)"""
    remarks: float = 0.85
    """Once in the thinking and once in the rethink."""
    mistake: float = 0.01


REMARKS = (
    "It looks calm and tidy.",
    "The style is plain and simple.",
    "It may have been made by a computer.",
    "Nothing else stands out here.",
    "The mood is rather neutral.",
    "It could be part of a larger set.",
)
_IN_THOUGHT = {"size", "place", "value"}
"""Slots that only the answer states, to keep the thinking short."""
_SLOTS = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "event": EVENTS[:-1],
    "city": CITIES,
    "value": (*NUMBERS, *LEVELS, *WORDS),
}


def write_tcot(seen: Truth, wanted: Truth, *, rng: random.Random | None = None, habits: Habits | None = None) -> TCoT:
    """Write the T-CoT of an item: facts `seen` as evidence, facts `wanted` as answer.

    Without habits it is the ground truth.
    """
    if habits is None or rng is None or rng.random() < habits.careful:
        return _compose(seen, wanted)
    if rng.random() < habits.stops_half_way:
        seen, wanted = _half(seen), _half(wanted)
    forgotten = {name for name, rate in (("size", habits.forgets_size), ("place", habits.forgets_place)) if rng.random() < rate}
    if rng.random() < habits.forgets_setting and wanted.medium != "page":
        seen, wanted = replace(seen, setting=""), replace(wanted, setting="")
    remarks = rng.sample(REMARKS, 2) if rng.random() < habits.remarks else ("", "")
    facts = {fact.name: fact for fact in (*seen.facts, *wanted.facts)}
    mistakes = {name: _mistake(fact, rng) for name, fact in facts.items() if rng.random() < habits.mistake}
    return _compose(_mistaken(seen, mistakes), _mistaken(wanted, mistakes), frozenset(forgotten), remarks)


def _half(truth: Truth) -> Truth:
    return replace(truth, facts=truth.facts[: (len(truth.facts) + 1) // 2])


def _mistake(fact: Fact, rng: random.Random) -> tuple[str, str]:
    slot = rng.choice([name for name, _ in fact.slots if name in _SLOTS])
    return slot, rng.choice(_SLOTS[slot])


def _mistaken(truth: Truth, mistakes: dict[tuple[str, str], tuple[str, str]]) -> Truth:
    def treat(fact: Fact) -> Fact:
        wrong_slot, wrong = mistakes.get(fact.name, ("", ""))
        return replace(fact, slots=tuple((slot, wrong if slot == wrong_slot else text) for slot, text in fact.slots))

    return replace(truth, facts=tuple(treat(fact) for fact in truth.facts))


def _compose(seen: Truth, wanted: Truth, forgotten: frozenset[str] = frozenset(), remarks: Sequence[str] = ("", "")) -> TCoT:
    thought = ", ".join(fact.tell(forgotten | _IN_THOUGHT) for fact in seen.facts)
    lead = f"{seen.setting}: " if seen.medium == "page" else ""
    evidence = Evidence(
        boxes=tuple(coarse(fact.box) for fact in seen.facts if fact.box),
        key_frames=tuple(sorted({fact.key_frame for fact in seen.facts if fact.key_frame})),
        keywords=tuple(dict.fromkeys(fact.keyword for fact in seen.facts if fact.keyword)),
    )
    count = len(seen.facts)
    return TCoT(
        thinking=f"{lead}{thought}. {remarks[0]}".rstrip(),
        evidence=evidence,
        rethink=f"{count} seen, evidence fits. {remarks[1]}".rstrip(),
        answer=tell(wanted, forgotten),
    )


def tell(truth: Truth, without: frozenset[str] = frozenset()) -> str:
    """Return all facts and the setting in the canonical wording of answers."""
    facts = ", ".join(fact.tell(without) for fact in truth.facts)
    return f"{truth.setting}: {facts}" if truth.medium == "page" else " ".join(filter(None, [facts, truth.setting]))
