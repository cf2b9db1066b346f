"""How well a question is supported by what an item says: which of its words stand there, next to each other as in the question."""

import re
from collections.abc import Sequence
from functools import lru_cache

from embedrl.data.segments import WORD

_ASKING = frozenset(
    WORD.findall(
        "a an and any are as at be been being behind by can could did do does for from get give had happen happens happened has have "
        "how i in into is it its me my of on or our please say said says see seen show shown shows stand stands stood tell that the "
        "their them then there these they this those to was we were what when where which who whose why will with would write written "
        "you your picture pictures image images photo photos video videos clip clips page pages document documents moment time "
        "much many often "
    )
)
"""Words that ask, or hold a question together: they name nothing that an item could show."""
_CLAUSE_ENDS = re.compile(r"[,;!?\n]|\.(?!\d)")
_ENDINGS = ("ing", "ed", "es", "s")
_SCRIPTS_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


def chunks(question: str) -> list[list[str]]:
    """Split a question into runs of words that name something, each word by its stem."""
    runs: list[list[str]] = [[]]
    for word in _words(question):
        if word in _ASKING:
            runs.append([])
        else:
            runs[-1].append(_stem(word))
    return [run for run in runs if run]


def support(question: str, text: str) -> float:
    """Return the share of a question's words that a text holds, 0..1; of words side by side, the longest run that is so there too.

    1 if the question names nothing: everything is said about it then.
    """
    wanted = chunks(question)
    lines = [[_stem(word) for word in _words(line) if word not in _ASKING] for line in re.split(f"{_CLAUSE_ENDS.pattern}|:", text)]
    if not wanted:
        return 1.0
    return sum(max((_longest(run, line) for line in lines), default=0) for run in wanted) / sum(map(len, wanted))


def clauses(text: str) -> list[str]:
    """Split a text at its marks of punctuation; of a clause with a heading ("salt table: lima 65") the heading is left out."""
    return [last for clause in _CLAUSE_ENDS.split(text) if (last := clause.rpartition(":")[2].strip())]


def answering(question: str, pieces: Sequence[str], *, adds: bool = True) -> int | None:
    """Return the position of the piece that answers: it holds most of the question's words, a whole run of them at least, and with
    `adds` it says something more. None if there is no such piece; of equals, the first.
    """
    wanted = chunks(question)
    asked = {stem for run in wanted for stem in run}
    best, best_rank = None, 0
    for position, piece in enumerate(pieces):
        line = [_stem(word) for word in _words(piece) if word not in _ASKING]
        runs = [_longest(run, line) for run in wanted]
        is_whole = any(length == len(run) for length, run in zip(runs, wanted, strict=True))
        if is_whole and sum(runs) > best_rank and (not adds or set(line) - asked):
            best, best_rank = position, sum(runs)
    return best


def _longest(run: list[str], line: list[str]) -> int:
    """Return the length of the longest part of a run that stands in a line as it is."""
    for length in range(len(run), 0, -1):
        parts = {tuple(run[start : start + length]) for start in range(len(run) - length + 1)}
        if any(tuple(line[start : start + length]) in parts for start in range(len(line) - length + 1)):
            return length
    return 0


def _words(text: str) -> list[str]:
    """Cut a text into words; in scripts that write no spaces, into characters."""
    words = []
    for word in WORD.findall(text.casefold()):
        words += list(word) if _SCRIPTS_WITHOUT_SPACES.search(word) else [word]
    return words


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending).removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word
