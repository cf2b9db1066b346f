"""One side of a crowded pair, with its ground-truth and its annotated T-CoT.

Every medium holds 12 to 20 facts, a T-CoT has room for `BUDGET` of them, and the instruction says which matter. The annotator does not ask:
it names a random selection of true facts in reading order, always as many, so that no sample of it is fuller than another. Often it keeps
to one aspect, as people do, but to any: its share of relevant facts is that of a random selection. Half of the time it does what a
target's instruction says literally ("Name the objects."); what a query's turns on it never infers.
"""

import random
from dataclasses import dataclass, replace

from embedrl.data.tcot import Evidence, TCoT
from embedrl.world.annotator import REMARKS
from embedrl.world.facts import Fact, coarse
from embedrl.world.side import Rendered

BUDGET = 5
"""Facts that a T-CoT has room for."""
MAX_BOXES = 2
"""Boxes that a T-CoT has room for: those of what it names first."""


@dataclass(frozen=True)
class Selection:
    """Rates of the annotator's habits. The number of facts it names is the task's."""

    focus: float = 0.9
    """Probability that it tells one aspect first, whichever, and fills up with others."""
    obeys: float = 0.5
    """Probability that it tells the aspect that is asked for, where an instruction names one."""
    remarks: float = 0.5
    """Probability of an idle remark, in the thinking and in the rethink alike."""
    invents: float = 0.3
    """Probability that it fills up the T-CoT of a short text with one or two facts that nobody stated."""
    mistake: float = 0.01
    """Probability that a fact is exchanged for one that is not true."""


@dataclass(frozen=True)
class CrowdedSide(Rendered):
    """One item with all its facts and those relevant to its task."""

    instruction: str
    facts: tuple[Fact, ...]
    """All that can be said."""
    matters: tuple[Fact, ...]
    """What the task and its instruction turn on: the ground-truth T-CoT names these."""
    signature: str
    """Two sides with one signature mean the same for their task."""
    aspects: tuple[str, ...] = ()
    """Of which aspect each fact is: "objects", "places", …; "asked" in a typed query."""
    asked: str | None = None
    """Aspect that its instruction names literally."""
    asks: frozenset[str] = frozenset()
    """Statements that a candidate must hold to answer a partial description; none: its own target answers it alone."""
    holds: frozenset[str] = frozenset()
    """Statements that are true of it, derived ones ("star left of ring") among them."""
    others: tuple[str, ...] = ()
    """Facts that are not true of it, for mistakes and inventions."""
    is_text: bool = False
    num_facts: int = BUDGET
    """As many facts does a T-CoT of its task name, whichever they are."""

    @property
    def meaning(self) -> str:
        """Identity of a candidate within a pool."""
        return self.signature

    @property
    def truth(self) -> TCoT:
        """The ground-truth T-CoT: the relevant facts in reading order."""
        return compose(self.matters)

    @property
    def statements(self) -> frozenset[str]:
        """Every fact in T-CoT wording."""
        return frozenset(fact.tell() for fact in self.facts)

    def annotated(self, rng: random.Random, selection: Selection | None = None) -> TCoT:
        """Sample the annotator's T-CoT."""
        habits = selection or Selection()
        chosen = self._select(rng, habits)
        if self.is_text and self.others and rng.random() < habits.invents:
            chosen += [Fact((("invented", text),)) for text in rng.sample(self.others, min(rng.choice((1, 2)), len(self.others)))]
        if self.others:
            chosen = [
                replace(fact, slots=(("mistake", rng.choice(self.others)),)) if rng.random() < habits.mistake else fact for fact in chosen
            ]
        remarks = [remark if rng.random() < habits.remarks else "" for remark in rng.sample(REMARKS, 2)]
        return compose(chosen, remarks)

    def _select(self, rng: random.Random, habits: Selection) -> list[Fact]:
        about = rng.choice(sorted(set(self.aspects))) if rng.random() < habits.focus else None
        if self.asked and rng.random() < habits.obeys:
            about = self.asked
        first = [place for place, aspect in enumerate(self.aspects) if aspect == about]
        rest = [place for place, aspect in enumerate(self.aspects) if aspect != about]
        first = rng.sample(first, min(len(first), self.num_facts))
        return [self.facts[place] for place in sorted(first + rng.sample(rest, self.num_facts - len(first)))]


CrowdedFamily = list[tuple[CrowdedSide, CrowdedSide]]
"""A pair of sides, and its variants."""


def compose(facts: tuple[Fact, ...] | list[Fact], remarks: tuple[str, str] | list[str] = ("", "")) -> TCoT:
    """Compose a T-CoT of the given facts, with evidence of the first ones."""
    evidence = Evidence(
        boxes=tuple(dict.fromkeys(coarse(fact.box) for fact in facts if fact.box))[:MAX_BOXES],
        key_frames=tuple(sorted({fact.key_frame for fact in facts if fact.key_frame})),
        keywords=tuple(dict.fromkeys(fact.keyword for fact in facts if fact.keyword)),
    )
    return TCoT(
        thinking=f"{len(facts)} facts. {remarks[0]}".rstrip(),
        evidence=evidence,
        rethink=f"Evidence fits. {remarks[1]}".rstrip(),
        answer=", ".join(fact.tell() for fact in facts),
    )
