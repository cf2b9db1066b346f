"""Controls of a gain: T-CoTs of other items, T-CoTs without media, a judge on T-CoTs only, leaks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from embedrl.annotate.rules import LEAK_WORDS, leak
from embedrl.data.protocols import Judges, Question
from embedrl.data.sample import Item, Pair
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.evaluation.bootstrap import Figure, mean_figure
from embedrl.evaluation.evaluate import SystemResult, best_target, evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.pipelines.annotate import load_judge
from embedrl.runtime.names import load_local_embedder, load_reasoner

NUM_RIVALS = 4
"""Number of distractors of a judge question: the best-ranked other candidates of the Reasoner's results."""
COLUMNS = (
    "Reasoner",
    "hit@1",
    "with T-CoTs of other items",
    "T-CoTs without media",
    "judge names the target",
    "answers that hold the target's text",
    "of six words or more",
    "a wrong candidate's text",
    "queries (families)",
)


class Control(NamedTuple):
    """Control figures of one Reasoner: means over tasks with 95 % intervals over queries."""

    name: str
    hits: Figure
    shuffled: Figure
    """hit@1 with T-CoTs shuffled between items of one role."""
    unseen: Figure
    """hit@1 of an Embedder without media: texts and T-CoTs only."""
    judged: Figure
    """Share of queries for which the judge, given T-CoTs only, picks the target among the best-ranked distractors."""
    num_leaks: int
    """Queries whose answer repeats the target's text word by word, which the query does not hold; targets of six words or more."""
    num_holding: int
    """The same for targets of any length: where targets are worded as answers are, a right answer holds its target."""
    num_wrong: int
    """Queries whose answer holds the text of a candidate that is wrong: what a right answer does not do."""
    num_text_targets: int
    """Queries whose target is a text."""
    num_queries: int
    num_families: int


class WithoutMedia:
    """An Embedder wrapper that drops all media."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.fingerprint, self.dim = embedder, f"{embedder.fingerprint}-without-media", embedder.dim

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order."""
        return self.embedder.embed(items, tcots, show_media=False)


def measure_controls(
    reasoners: Sequence[str], embedder: str, judge: str, *, num_queries: int = 20, pool_size: int = 256, seed: int = 0
) -> list[Control]:
    """Evaluate Reasoners by name on the world's held-out tasks with all controls. Raises ConfigError for unsuitable models."""
    embeds, judges = load_local_embedder(embedder), load_judge(judge)
    tasks = world_tasks(seed=seed, num_queries=num_queries, pool_size=pool_size)
    controls = []
    for name in reasoners:
        own = evaluate(tasks, embeds, name=name, reasoner=load_reasoner(name))
        tcots = {key: outcome for key, outcome in own.tcots.items() if isinstance(outcome, TCoT)}
        shuffled, unseen = (
            _hits(evaluate(tasks, embeds_with, name=name, tcots=shown_tcots), seed)
            for embeds_with, shown_tcots in ((embeds, exchanged(tasks, tcots)), (WithoutMedia(embeds), tcots))
        )
        size = sum(len(task.query_keys) for task in own.tasks), sum(task.num_families for task in own.tasks)
        judged = _judged(tasks, own, tcots, judges, seed)
        controls.append(Control(name, _hits(own, seed), shuffled, unseen, judged, *count_leaks(tasks, tcots), *size))
    return controls


def table_rows(controls: Sequence[Control]) -> list[list[str]]:
    """Return rows of a console table, in the order of `COLUMNS`."""
    return [
        [
            row.name,
            *(interval.text() for interval in row[1:5]),
            *(f"{number} of {row.num_text_targets}" for number in (row.num_holding, row.num_leaks, row.num_wrong)),
            f"{row.num_queries} ({row.num_families})",
        ]
        for row in controls
    ]


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
    families = {task.name: task.families for task in result.tasks}
    return _mean({task.name: task.figures["hit@1"] for task in result.tasks}, families, seed)


def _mean(values: Mapping[str, np.ndarray], families: Mapping[str, tuple[str, ...]], seed: int) -> Figure:
    mean = mean_figure(values, families, seed=seed, bounds=(0.0, 1.0))
    assert mean is not None
    return mean


def _judged(tasks: Sequence[RetrievalTask], result: SystemResult, tcots: Mapping[str, TCoT], judge: Judges, seed: int) -> Figure:
    values = {}
    for task, task_result in zip(tasks, result.tasks, strict=True):
        rng = np.random.default_rng([seed, len(values)])
        questions: list[Question] = []
        places: list[int] = []
        rows: list[int] = []
        for row, (query, relevant, ranking) in enumerate(zip(task.queries, task.relevant, task_result.rankings, strict=True)):
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
    return _mean(values, {task.name: task.families for task in tasks}, seed)


def count_leaks(tasks: Sequence[RetrievalTask], tcots: Mapping[str, TCoT]) -> tuple[int, int, int, int]:
    """Count the queries whose answer holds their target's text (six words or more; any length) or a wrong candidate's, and text targets."""
    num_long = num_holding = num_wrong = num_text = 0
    for task in tasks:
        for query, relevant in zip(task.queries, task.relevant, strict=True):
            target = task.items[best_target(relevant)]
            if query.key not in tcots or target.visual is not None:
                continue
            num_text += 1
            answer = tcots[query.key]
            num_holding += leak(_pair(task, query, target), answer, 1) is not None
            num_long += leak(_pair(task, query, target), answer, LEAK_WORDS) is not None
            wrong = (item for item in task.candidates if item.key not in relevant and item.visual is None)
            num_wrong += any(leak(_pair(task, query, item), answer, 1) is not None for item in wrong)
    return num_long, num_holding, num_wrong, num_text


def _pair(task: RetrievalTask, query: Item, target: Item) -> Pair:
    return Pair(task=task.name, query=query, target=target)
