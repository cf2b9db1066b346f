"""Rejection rules of the filter. Each returns the detail of a rejection, or None."""

import re
import unicodedata
from collections.abc import Sequence
from enum import StrEnum

from embedrl.annotate.store import Annotations
from embedrl.data.evidence import verify
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.sample import Item, Pair
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.media.content import Page, Text
from embedrl.media.decode import count_frames, page_text

LEAK_WORDS = 6
"""Shortest target, in words, that counts as leaked: a correct answer may contain a shorter one."""

Sides = tuple[TCoT | ParseFailure | str, TCoT | ParseFailure | str]
"""Outcomes of the query and of the target; a str is the item's error."""


class Reason(StrEnum):
    """Reasons of rejection, in order of precedence."""

    UNREADABLE = "unreadable"
    """A medium cannot be read. Not used for RL either."""
    MALFORMED = "malformed"
    """A side has no T-CoT."""
    UNGROUNDED = "ungrounded"
    """A piece of evidence does not hold for its medium."""
    LEAK = "leak"
    """The query's answer repeats the target's text, which the query does not hold and the Reasoner was not shown."""
    NO_MATCH = "no_match"
    """The judge finds that the two T-CoTs do not match."""
    JUDGE_FAILED = "judge_failed"
    """The judge gave no verdict."""


def unread(pair: Pair, sides: Sides, store: Annotations, reasoner: str) -> str | None:
    """Return which side has an unreadable medium, and why; None if neither has."""
    for name, item, side in (("query", pair.query, sides[0]), ("target", pair.target, sides[1])):
        if isinstance(side, str) and store.is_unreadable(item, reasoner):
            return f"the {name}: {side}"
    return None


def malformed(sides: Sides) -> str | None:
    """Return which side has no T-CoT, and why; None if both have one."""
    for name, side in zip(("query", "target"), sides, strict=True):
        if not isinstance(side, TCoT):
            return f"the {name}: {side.reason.value if isinstance(side, ParseFailure) else side}"
    return None


def ungrounded(name: str, item: Item, tcot: TCoT, num_frames: int) -> str | None:
    """Return the invalid evidence of a side; None if all is valid. Raises MediaError for an unreadable medium."""
    evidence = tcot.evidence
    if evidence.keywords and isinstance(item.visual, Page):
        item = item.model_copy(update={"content": (*item.content, Text(text=page_text(item.visual)))})
    shown = count_frames(item.visual, num_frames=num_frames) if evidence.key_frames else None
    checked = verify(evidence, item, shown)
    if checked.valid:
        return None
    wrong = [f"{kind.noun} {piece!r}" for kind in EVIDENCE_KINDS for piece, holds in kind.checked(evidence, checked) if not holds]
    wrong += [f"{checked.num_unread} that cannot be read"] if checked.num_unread else []
    return f"the {name}: {', '.join(wrong)}"


def leak(pair: Pair, query_tcot: TCoT, leak_words: int = LEAK_WORDS) -> str | None:
    """Return a message if the query's answer contains the target's text verbatim and the query does not; else None.

    Case, punctuation and white space do not count. A target of fewer than `leak_words` words is no leak.
    """
    target = _words(pair.target.text)
    if len(target) < leak_words or not _holds(_words(query_tcot.answer), target):
        return None
    if _holds(_words(f"{pair.query.instruction} {pair.query.text}"), target):
        return None
    return f"the query's answer holds the {len(target)} words of the target"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _holds(words: Sequence[str], wanted: Sequence[str]) -> bool:
    return f" {' '.join(wanted)} " in f" {' '.join(words)} "
