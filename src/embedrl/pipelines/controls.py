"""Is a gain real? What is left of it with T-CoTs of other items, without media, and for a judge who reads T-CoTs only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from embedrl.annotate.rules import LEAK_WORDS, leak
from embedrl.data.protocols import Judges, Question
from embedrl.data.sample import Item, Pair
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.errors import ConfigError
from embedrl.evaluate.bootstrap import Figure, figure, mean_over_tasks, replicates
from embedrl.evaluate.evaluate import SystemResult, best_target, evaluate
from embedrl.evaluate.report import figure_row
from embedrl.evaluate.task import RetrievalTask
from embedrl.evaluate.world import world_tasks
from embedrl.pipelines.annotate import load_judge
from embedrl.runtime.names import load_embedder, load_reasoner

NUM_RIVALS = 4
"""Candidates that a judge sees beside the target: the best-ranked others of the Reasoner's own results."""
COLUMNS = (
    "Reasoner",
    "hit@1",
    "with T-CoTs of other items",
    "T-CoTs without media",
    "judge names the target",
    "answers that hold the target's text",
)


class Control(NamedTuple):
    """The figures of one Reasoner; each is the mean over tasks, with its 95 % interval over queries."""

    name: str
    hits: Figure
    shuffled: Figure
    """hit@1 with each item's T-CoT exchanged for that of another item of its role."""
    unseen: Figure
    """hit@1 of an Embedder that is shown texts and T-CoTs only."""
    judged: Figure
    """Share of the queries for which the judge, reading T-CoTs only, picks the target among its best-ranked rivals."""
    num_leaks: int
    """Queries whose answer repeats the target's text word by word, which the query does not hold."""


class WithoutMedia:
    """An Embedder that is shown no picture of an item."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.fingerprint, self.dim = embedder, f"{embedder.fingerprint}-without-media", embedder.dim

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order."""
        return self.embedder.embed(items, tcots, show_media=False)


def measure_controls(
    reasoners: Sequence[str], embedder: str, judge: str, *, num_queries: int = 20, pool_size: int = 256, seed: int = 0
) -> list[Control]:
    """Evaluate Reasoners by name on the world's held-out tasks, in the four ways. Raises ConfigError for models that cannot do it."""
    embeds, judges = load_embedder(embedder), load_judge(judge)
    if not isinstance(embeds, Embedder):
        raise ConfigError(f"embedder={embedder!r}: a model with loaded weights is needed")
    tasks = world_tasks(seed=seed, num_queries=num_queries, pool_size=pool_size)
    found = []
    for name in reasoners:
        own = evaluate(tasks, embeds, name=name, reasoner=load_reasoner(name))
        tcots = {key: outcome for key, outcome in own.tcots.items() if isinstance(outcome, TCoT)}
        shuffled, unseen = (
            _hits(evaluate(tasks, embeds_with, name=name, tcots=given), seed)
            for embeds_with, given in ((embeds, exchanged(tasks, tcots)), (WithoutMedia(embeds), tcots))
        )
        found.append(Control(name, _hits(own, seed), shuffled, unseen, _judged(tasks, own, tcots, judges, seed), _num_leaks(tasks, tcots)))
    return found


def table_rows(controls: Sequence[Control]) -> list[list[str]]:
    """Return rows of a console table, in the order of `COLUMNS`."""
    return [
        [row.name, *(f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})" for each in row[1:5]), str(row.num_leaks)] for row in controls
    ]


def control_row(control: Control) -> dict[str, Any]:
    """Return the figures as JSON values."""
    figures = {name: figure_row(each) for name, each in control._asdict().items() if isinstance(each, Figure)}
    return {"name": control.name, **figures, "num_leaks": control.num_leaks}


def exchanged(tasks: Sequence[RetrievalTask], tcots: Mapping[str, TCoT]) -> dict[str, TCoT]:
    """Give each item the T-CoT of the next one of its role: those of queries move by one place, those of targets by two.

    One step for both would leave the two sides of a pair in agreement, about another pair.
    """
    by_role: dict[str, list[str]] = defaultdict(list)
    for key, item in {key: item for task in tasks for key, item in task.items.items()}.items():
        if key in tcots:
            by_role[item.role].append(key)
    steps = {role: 1 if role.startswith("query") else 2 for role in by_role}
    return {key: tcots[keys[(place + steps[role]) % len(keys)]] for role, keys in by_role.items() for place, key in enumerate(keys)}


def _hits(result: SystemResult, seed: int) -> Figure:
    return _mean({task.name: task.figures["hit@1"] for task in result.tasks}, seed)


def _mean(values: Mapping[str, np.ndarray], seed: int) -> Figure:
    tables = [replicates(column[:, None], task=task, seed=seed) for task, column in values.items()]
    found = figure(mean_over_tasks(tables)[:, 0])
    assert found is not None
    return found


def _judged(tasks: Sequence[RetrievalTask], result: SystemResult, tcots: Mapping[str, TCoT], judge: Judges, seed: int) -> Figure:
    values = {}
    for task, found in zip(tasks, result.tasks, strict=True):
        rng = np.random.default_rng([seed, len(values)])
        questions: list[Question] = []
        places: list[int] = []
        rows: list[int] = []
        for row, (query, relevant, ranking) in enumerate(zip(task.queries, task.relevant, found.rankings, strict=True)):
            target = best_target(relevant)
            rivals = [key for key, _ in ranking.top if key not in relevant and key in tcots][:NUM_RIVALS]
            if query.key in tcots and target in tcots and rivals:
                place = int(rng.integers(len(rivals) + 1))
                shown = [*rivals[:place], target, *rivals[place:]]
                questions.append((tcots[query.key], [tcots[key] for key in shown]))
                places.append(place)
                rows.append(row)
        right = np.zeros(len(task.queries))
        for row, place, choice in zip(rows, places, judge.pick(questions) if questions else [], strict=True):
            right[row] = np.nan if choice is None else choice == place
        values[task.name] = right
    return _mean(values, seed)


def _num_leaks(tasks: Sequence[RetrievalTask], tcots: Mapping[str, TCoT]) -> int:
    return sum(
        leak(Pair(task=task.name, query=query, target=task.items[best_target(relevant)]), tcots[query.key], LEAK_WORDS) is not None
        for task in tasks
        for query, relevant in zip(task.queries, task.relevant, strict=True)
        if query.key in tcots
    )
