"""Rejection rules of the filter: each returns its reason in words, or None."""

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
"""A target of fewer words may stand in an answer because the answer is right."""

Sides = tuple[TCoT | ParseFailure | str, TCoT | ParseFailure | str]
"""What came of the query and of the target; a text is why the item failed."""


class Reason(StrEnum):
    """Why a pair is rejected: the first that applies, in this order."""

    UNREADABLE = "unreadable"
    """A medium cannot be read. Such a pair is of no use for RL either."""
    MALFORMED = "malformed"
    """A side has no T-CoT."""
    UNGROUNDED = "ungrounded"
    """A T-CoT points at what is not there."""
    LEAK = "leak"
    """The query's answer repeats the target's text, which the query does not hold and the Reasoner was not shown."""
    NO_MATCH = "no_match"
    """The judge says that the two T-CoTs do not belong together."""
    JUDGE_FAILED = "judge_failed"
    """The judge gave no verdict."""


def unread(pair: Pair, sides: Sides, store: Annotations, reasoner: str) -> str | None:
    """Tell which side has a medium that the Reasoner could not read, and why; None if there is none."""
    for name, item, side in (("query", pair.query, sides[0]), ("target", pair.target, sides[1])):
        if isinstance(side, str) and store.is_unreadable(item, reasoner):
            return f"the {name}: {side}"
    return None


def malformed(sides: Sides) -> str | None:
    """Tell which side has no T-CoT, and why; None if both have one."""
    for name, side in zip(("query", "target"), sides, strict=True):
        if not isinstance(side, TCoT):
            return f"the {name}: {side.reason.value if isinstance(side, ParseFailure) else side}"
    return None


def ungrounded(name: str, item: Item, tcot: TCoT, num_frames: int) -> str | None:
    """Tell what evidence of a side does not hold; None if all does. Raises MediaError for a medium that cannot be read."""
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
    """Say that the query's answer holds the target's text, word by word, while the query does not; None if it does not.

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
