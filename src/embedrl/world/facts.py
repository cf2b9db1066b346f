"""Facts about a medium.

A fact is a phrase made of slots (`size`, `colour`, `shape`, `place`, `event`, `row`, …), where it can be seen (a box, a
key frame). T-CoTs, captions and questions are written from facts, and T-CoTs are checked against them.
"""

from dataclasses import dataclass

from embedrl.data.tcot import Box


@dataclass(frozen=True)
class Fact:
    """One fact: (slot, text) pairs in the order of wording."""

    slots: tuple[tuple[str, str], ...]
    box: Box | None = None
    """Bounding box, 0..1000."""
    key_frame: int | None = None
    """1-based key frame."""
    keyword: str | None = None
    """Words of the text that state it."""

    def tell(self, without: frozenset[str] = frozenset()) -> str:
        """Return the fact in words, without the named slots."""
        return " ".join(text for name, text in self.slots if name not in without)

    def get(self, name: str) -> str:
        """Return a slot's text ("" if it has no such slot)."""
        return dict(self.slots).get(name, "")

    @property
    def name(self) -> tuple[str, str]:
        """Slots that identify a fact within its medium: colour and shape, or city and value."""
        return self.get("colour") or self.get("city"), self.get("shape") or self.get("value")


@dataclass(frozen=True)
class Truth:
    """All facts of one medium, in reading order, and its setting ("on white", "a coffee table")."""

    facts: tuple[Fact, ...]
    setting: str
    medium: str
    """"image", "video", "page" or "text"."""


def coarse(box: Box) -> Box:
    """Round a box to multiples of 20, as T-CoTs write them; never empty."""
    x1, y1, x2, y2 = (20 * round(value / 20) for value in box)
    return x1, y1, max(x2, x1 + 20), max(y2, y1 + 20)
