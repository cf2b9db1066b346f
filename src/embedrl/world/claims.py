"""Claims of a T-CoT parsed from its answer, scored against the truth."""

import re
from collections.abc import Callable, Iterable

from embedrl.data.tcot import TCoT
from embedrl.world.clips import EVENTS
from embedrl.world.objects import COLOURS, PLACES, SHAPES, SIZES
from embedrl.world.pages import CITIES, KINDS, TOPICS

Claim = tuple[str, ...]
"""Attributes of one thing, event or row, in a fixed order; "" if not stated."""


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_THING = re.compile(
    rf"\b(?:({_any(SIZES)}) )?({_any(COLOURS)}) ({_any(SHAPES)})\b"
    rf"(?: at ({_any(PLACES[3])})\b)?(?: (turns (?:{_any(COLOURS)})|{_any(EVENTS)})\b)?"
)
_ROW = re.compile(rf"\b({_any(CITIES)})\b(?: ([a-z0-9]+))?")
_TITLE = re.compile(rf"\b({_any(TOPICS)}) ({_any(KINDS)})\b")


def read_claims(answer: str) -> list[Claim]:
    """Parse the things, events, titles and rows stated in an answer."""
    things = [match.groups(default="") for match in _THING.finditer(answer)]
    titles = [match.groups() for match in _TITLE.finditer(answer)]
    rows = [match.groups(default="") for match in _ROW.finditer(answer)] if titles else []
    return [*things, *titles, *rows]


def claims(tcot: TCoT, truth: TCoT) -> tuple[int, int, int]:
    """Count correct claims, claims made, and true claims (for precision and recall).

    A claim is correct if an unmatched true one agrees with every attribute that it states.
    """
    made, left = read_claims(tcot.answer), read_claims(truth.answer)
    num_true, right = len(left), 0
    for claim in sorted(made, key=lambda claim: claim.count("")):
        match = next(
            (
                true
                for true in left
                if len(true) == len(claim) and all(not said or said == fact for said, fact in zip(claim, true, strict=True))
            ),
            None,
        )
        if match is not None:
            left.remove(match)
            right += 1
    return right, len(made), num_true


def attributes(tcot: TCoT, truth: TCoT) -> tuple[int, int, int]:
    """Count correct, stated and true attributes; unlike in `claims`, omissions count.

    Each claim is matched greedily to the unmatched true one that agrees with it most.
    """
    left = read_claims(truth.answer)
    num_true = sum(len(claim) - claim.count("") for claim in left)
    right = stated = 0
    for claim in read_claims(tcot.answer):
        stated += len(claim) - claim.count("")
        same = [
            sum(bool(said) and said == fact for said, fact in zip(claim, true, strict=False)) * (len(claim) == len(true)) for true in left
        ]
        if same and max(same):
            right += max(same)
            left.pop(same.index(max(same)))
    return right, stated, num_true


def told(answer: str) -> list[str]:
    """Parse the distinct statements of a crowded-world answer, in order."""
    return list(dict.fromkeys(part for text in answer.split(",") if (part := " ".join(text.split()))))


def selected(tcot: TCoT, truth: TCoT) -> tuple[int, int, int]:
    """Count relevant statements made, statements made, and relevant ones: `claims` for the crowded world."""
    statements, matters = told(tcot.answer), set(told(truth.answer))
    return sum(text in matters for text in statements), len(statements), len(matters)


def claims_of(world: str) -> Callable[[TCoT, TCoT], tuple[int, int, int]]:
    """Return what counts the claims of T-CoTs in a world, roomy or crowded."""
    return selected if world == "crowded" else claims
