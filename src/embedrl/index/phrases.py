"""Phrases that two T-CoTs, or a query and a T-CoT, have in common: why one matches the other, in words."""

import re
from collections.abc import Iterable, Iterator, Sequence

from embedrl.data.segments import FILLERS
from embedrl.data.tcot import TCoT
from embedrl.index.hit import Hit

MAX_PHRASES = 6


def shared_phrases(texts: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return the longest runs of words that stand in both, without fillers at their ends, at most `MAX_PHRASES`, as they follow."""
    theirs = "|".join(f" {' '.join(_words(other))} " for other in others)
    phrases = dict.fromkeys(run for text in texts for run in _runs(_words(text), theirs))
    longest = [phrase for phrase in phrases if not any(f" {phrase} " in f" {other} " for other in phrases if other != phrase)]
    kept = set(sorted(longest, key=lambda phrase: -len(phrase.split()))[:MAX_PHRASES])
    return tuple(phrase for phrase in longest if phrase in kept)


def _runs(words: Sequence[str], theirs: str) -> Iterator[str]:
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and f" {' '.join(words[start : end + 1])} " in theirs:
            end += 1
        run = list(words[start:end])
        while run and run[-1] in FILLERS:
            run.pop()
        while run and run[0] in FILLERS:
            run.pop(0)
        if run:
            yield " ".join(run)
        start = max(end, start + 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def named(hit: Hit, text: str = "") -> list[str]:
    """Return what an item's T-CoT names: its answer and the keywords that hold; without a T-CoT, its text, or how that begins."""
    if hit.tcot is None:
        return [text or hit.excerpt]
    holds = hit.verification.keywords if hit.verification else ()
    return named_by(hit.tcot, [keyword for keyword, quoted in zip(hit.tcot.evidence.keywords, holds, strict=False) if quoted])


def named_by(tcot: TCoT, keywords: Iterable[str]) -> list[str]:
    """Return what a T-CoT names: the clauses of its answer, and keywords."""
    return [*re.split(r"[.,;:!?\n]", tcot.answer), *keywords]
