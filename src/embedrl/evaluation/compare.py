"""Per-query comparison before and after training: changed T-CoTs, similarity, rank."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT, render
from embedrl.errors import ConfigError
from embedrl.evaluation.evaluate import Outcome, SystemResult, best_target
from embedrl.evaluation.task import Modality, RetrievalTask

_BOUNDARY = re.compile(r"\s*(?:,|;|[.:!?]+(?:\s|$))\s*")
"""Between two statements; a point inside a number is none."""


@dataclass(frozen=True)
class Change:
    """T-CoTs of one item before and after training."""

    item: Item
    before: Outcome | None
    after: Outcome | None
    dropped: tuple[str, ...]
    """Runs of words only in the T-CoT before."""
    added: tuple[str, ...]
    """Runs of words only in the T-CoT after."""
    noise: tuple[str, ...] = ()
    """Statements that are gone and that the ground truth does not make: remarks, mistakes, what does not matter."""
    lost: tuple[str, ...] = ()
    """Statements that are gone though the ground truth makes them."""
    invented: tuple[str, ...] = ()
    """Statements that are new and that the ground truth does not make."""
    num_frames: tuple[int | None, int | None] = (None, None)
    """Frames of a video (at most) that the Reasoners before and after saw."""


@dataclass(frozen=True)
class Case:
    """One query: T-CoTs of it and its target, similarity and rank as (before, after)."""

    task: str
    modality: Modality
    query: Change
    target: Change
    cosine: tuple[float, float]
    """Cosine between the query and its target."""
    rank: tuple[int, int]
    """1-based rank of the target."""

    @property
    def gain(self) -> float:
        """Increase of the cosine between query and target."""
        return self.cosine[1] - self.cosine[0]


def compare(tasks: Sequence[RetrievalTask], before: SystemResult, after: SystemResult) -> list[Case]:
    """Pair the results of two systems on the same tasks, largest gain of positive cosine first; queries without a target are left out.

    Raises ConfigError if the systems were not evaluated on these tasks.
    """
    cases = []
    for task, first, second in zip(tasks, before.tasks, after.tasks, strict=True):
        if not task.name == first.name == second.name or first.query_keys != second.query_keys:
            raise ConfigError(f"task {task.name!r}: {before.name!r} and {after.name!r} were evaluated on other queries")
        items = task.items
        for query, relevant, *rankings in zip(task.queries, task.relevant, first.rankings, second.rankings, strict=True):
            if not relevant:
                continue
            target = items[best_target(relevant)]
            cases.append(
                Case(
                    task=task.name,
                    modality=task.modality,
                    query=_change(query, before, after, task.truths.get(query.key)),
                    target=_change(target, before, after, task.truths.get(target.key)),
                    cosine=(rankings[0].positive, rankings[1].positive),
                    rank=(rankings[0].rank, rankings[1].rank),
                )
            )
    return sorted(cases, key=lambda case: (-case.gain, case.task, case.query.item.key))


def extremes(cases: Sequence[Case], count: int = 3) -> tuple[list[Case], list[Case]]:
    """Return the largest gains, and the largest losses worst first; cases without a change are in neither."""
    gains = [case for case in cases[:count] if case.gain > 0]
    return gains, [case for case in reversed(cases[-count:]) if case.gain < 0]


def case_row(case: Case) -> dict[str, Any]:
    """Return a case as JSON values."""
    return {
        "task": case.task,
        "modality": case.modality,
        "cosine": {"before": case.cosine[0], "after": case.cosine[1]},
        "rank": {"before": case.rank[0], "after": case.rank[1]},
        **{
            name: {
                "key": change.item.key,
                "text": change.item.text,
                "before": text(change.before),
                "after": text(change.after),
                "dropped": change.dropped,
                "added": change.added,
                "noise": change.noise,
                "lost": change.lost,
                "invented": change.invented,
            }
            for name, change in (("query", case.query), ("target", case.target))
        },
    }


def text(outcome: Outcome | None) -> str:
    """Return the output as text: a T-CoT in canonical form, other output verbatim, "" for none."""
    if outcome is None:
        return ""
    return outcome.text if isinstance(outcome, ParseFailure) else render(outcome)


def difference(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the runs of words that were removed and added (word diff)."""
    old, new = before.split(), after.split()
    edits = [edit for edit in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes() if edit[0] != "equal"]
    dropped = tuple(" ".join(old[start:end]) for _, start, end, _, _ in edits if end > start)
    added = tuple(" ".join(new[start:end]) for _, _, _, start, end in edits if end > start)
    return dropped, added


def judged(before: Outcome | None, after: Outcome | None, truth: TCoT | None) -> dict[str, tuple[str, ...]]:
    """Sort the statements that are gone into noise and losses by the ground truth, and find those that are new without its support.

    A statement is a sentence or a part of one between commas; the ground truth makes it if one of its own has all its words.
    """
    if truth is None:
        return {"noise": (), "lost": (), "invented": ()}
    gone, new = (
        [statement for statement in statements(side) if statement not in statements(other)]
        for side, other in ((before, after), (after, before))
    )
    backing = [set(statement.split()) for statement in statements(truth)]

    def is_true(statement: str) -> bool:
        return any(set(statement.split()) <= words for words in backing)

    return {
        "noise": tuple(statement for statement in gone if not is_true(statement)),
        "lost": tuple(statement for statement in gone if is_true(statement)),
        "invented": tuple(statement for statement in new if not is_true(statement)),
    }


def statements(outcome: Outcome | None) -> list[str]:
    """Return what a T-CoT states in its thinking, rethink and answer, in order, what is repeated once; nothing for other output."""
    if not isinstance(outcome, TCoT):
        return []
    parts = _BOUNDARY.split(f"{outcome.thinking}. {outcome.rethink}. {outcome.answer}")
    return list(dict.fromkeys(" ".join(part.split()) for part in parts if part.strip()))


def _change(item: Item, before: SystemResult, after: SystemResult, truth: TCoT | None) -> Change:
    earlier, later = before.tcots.get(item.key), after.tcots.get(item.key)
    frames = (before.num_frames, after.num_frames)
    return Change(item, earlier, later, *difference(_said(earlier), _said(later)), **judged(earlier, later, truth), num_frames=frames)


def _said(outcome: Outcome | None) -> str:
    return f"{outcome.thinking} {outcome.answer}" if isinstance(outcome, TCoT) else text(outcome)
