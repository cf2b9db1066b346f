"""One side of a world pair: item, ground truth and T-CoTs."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Protocol, TypeVar

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import TCoT
from embedrl.media.content import Part, Text
from embedrl.world.annotator import Habits, write_tcot
from embedrl.world.facts import Fact, Truth
from embedrl.world.wording import INSTRUCTIONS, caption


@dataclass(frozen=True)
class Rendered:
    """An item whose media are rendered when they are read."""

    make_item: Callable[[], Item] = field(compare=False)
    """Render the item (milliseconds): equal bytes with every call."""

    @cached_property
    def item(self) -> Item:
        """The item, rendered on first access and kept."""
        return self.make_item()


@dataclass(frozen=True)
class Side(Rendered):
    """One item with its facts."""

    seen: Truth
    wanted: Truth
    """Facts that its answer should state: those seen, or those looked for."""
    signature: str
    """Two sides with one signature mean the same."""
    is_text: bool = False
    """Whether the item is a text alone."""

    asks: ClassVar[frozenset[str]] = frozenset()
    """Empty: queries of this world describe their target completely, so no other candidate is relevant."""
    holds: ClassVar[frozenset[str]] = frozenset()

    @property
    def meaning(self) -> str:
        """Identity of a candidate in a pool."""
        return self.truth.answer

    @property
    def statements(self) -> frozenset[str]:
        """Every fact in full, and the setting."""
        return frozenset([*(fact.tell() for fact in self.seen.facts), self.seen.setting])

    @property
    def truth(self) -> TCoT:
        """The ground-truth T-CoT."""
        return write_tcot(self.seen, self.wanted)

    def annotated(self, rng: random.Random, habits: Habits | None = None) -> TCoT:
        """Sample the annotator's T-CoT."""
        return write_tcot(self.seen, self.wanted, rng=rng, habits=habits or Habits())


Family = list[tuple[Side, Side]]
"""A pair of sides, and its variants."""


class _Medium(Protocol):
    def signature(self) -> str:
        """Return its identity up to geometry."""
        ...

    def truth(self) -> Truth:
        """Return its facts."""
        ...


M = TypeVar("M", bound=_Medium)


def item(role: Role, task: str, side: str, *parts: Part, text: str = "") -> Item:
    """Create the Item of a side ("query" or "target"), with the task's instruction; `text` stands behind its media."""
    return Item(content=(*parts, *([Text(text=text)] if text else [])), instruction=INSTRUCTIONS[task][side], role=role)


def text_side(text: str, facts: Truth, role: Role, task: str, side: str) -> Side:
    """Create a text side; `facts` are those that the text states."""
    wanted = tuple(replace(fact, box=None, key_frame=None) for fact in facts.facts)
    return Side(lambda: item(role, task, side, text=text), facts, replace(facts, facts=wanted), text, is_text=True)


def label(fact: Fact, setting: str) -> tuple[str, Truth]:
    """Return a class label ("large red star on white") and its facts, with keywords."""
    kept = replace(no_place(fact), box=None, key_frame=None)
    text = " ".join(filter(None, [kept.tell(), setting]))
    return text, Truth((replace(kept, keyword=kept.tell()),), setting, "text")


def no_place(fact: Fact) -> Fact:
    """Drop the place of a fact, for questions that name it."""
    return replace(fact, slots=tuple(slot for slot in fact.slots if slot[0] != "place"))


def captioned(
    rng: random.Random, media: Sequence[M], draw: Callable[[M, Role, str, str], Side], task: str, roles: tuple[Role, Role]
) -> Family:
    """Pair each medium with a caption; `roles` say which of query and target is the text. `draw` makes the other side."""
    family = []
    for medium in media:
        text, facts = caption(rng, medium.truth())
        if roles[1] is Role.TARGET_TEXT:
            family.append((draw(medium, roles[0], task, "query"), text_side(text, facts, roles[1], task, "target")))
        else:
            family.append((text_side(text, facts, roles[0], task, "query"), draw(medium, roles[1], task, "target")))
    return family


def distinct(make: Callable[[], M], first: M, count: int) -> list[M]:
    """Return `first` and `count` variants of it, all with distinct signatures."""
    by_signature = {first.signature(): first}
    for _ in range(count * 20):
        if len(by_signature) > count:
            break
        new = make()
        by_signature.setdefault(new.signature(), new)
    return list(by_signature.values())
