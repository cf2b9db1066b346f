"""Where reasoning pays: hit@1 without T-CoTs, before RL, after RL and with true ones, by how much the Embedder sees.

    python bench/eyes.py [NAME=]EMBEDDER ... [--plot FILE]      (-h: every option)

The world's image tasks with hard negatives (test split). Each Embedder ranks the same queries and pools by the same T-CoTs: none, those of
`nano-sft` (before RL) and `nano` (after RL), and true ones. Train the Embedders with one recipe that differs in its budget alone:

    embedrl train embedder nano/eyes.toml out=runs/nano/eyes/16 budget.image.max_pixels=4608

Two tables: means over tasks with the difference of after RL to none and to before RL, and each task by itself. Intervals are clustered by
family, differences paired. A NAME that is given several times stands for several trainings: rows are means over them, and a third table has
each by itself.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _image_tasks import cache_of, draw, options, seeds_of, sizes_of

from embedrl.data.protocols import Embeds
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, tcot_or_none
from embedrl.evaluation.bootstrap import mean_of_queries, mean_percentage
from embedrl.evaluation.cache import CachedReasoner
from embedrl.evaluation.task import RetrievalTask
from embedrl.log import table
from embedrl.reports.plots import plot_intervals
from embedrl.runtime.names import load_embedder, load_reasoner

NONE, BEFORE, AFTER, TRUE = "none", "before RL", "after RL", "true"
KINDS = (NONE, BEFORE, AFTER, TRUE)
REASONERS = {BEFORE: "nano-sft", AFTER: "nano"}

TCoTs = Mapping[str, TCoT | None]
"""By item key."""


@dataclass(frozen=True)
class Measured:
    """A query, ranked with each kind of T-CoT on both sides."""

    task: str
    family: str
    hits: Mapping[str, float]


def main(*arguments: str) -> None:
    """Print both tables."""
    parser = options(__doc__)
    parser.add_argument("embedders", nargs="*", default=["nano"], metavar="[NAME=]EMBEDDER")
    parser.add_argument("--plot", type=Path, help="draw the means over NAMEs that are numbers of visual tokens")
    given = parser.parse_args(arguments)
    seeds = seeds_of(given)
    embedders = [(name.split("=")[0], name.split("=")[-1]) for name in given.embedders]
    loaded = {folder: load_embedder(folder) for _, folder in embedders}
    rows: dict[str, list[Measured]] = {name: [] for name, _ in embedders}
    by_training: dict[tuple[str, str], list[Measured]] = {embedder: [] for embedder in embedders}
    with cache_of(given) as cache:
        reasoners = {kind: CachedReasoner(load_reasoner(name), cache) for kind, name in REASONERS.items()}
        for seed in seeds:
            drawn = draw(given, seed)
            items = {key: item for task in drawn for key, item in task.items.items()}
            tcots: dict[str, TCoTs] = {
                NONE: dict.fromkeys(items),
                TRUE: {key: truth for task in drawn for key, truth in task.truths.items()},
            }
            for kind, reasoner in reasoners.items():
                outcomes = zip(items, reasoner.reason(list(items.values())), strict=True)
                tcots[kind] = {key: tcot_or_none(outcome) for key, outcome in outcomes}
            for name, folder in embedders:
                ranked = rank(drawn, items, tcots, loaded[folder], seed)
                rows[name] += ranked
                by_training[name, folder] += ranked
    if given.plot:
        lines = {
            kind: {float(name): mean_of_queries(of_name, [row.hits[kind] for row in of_name]) for name, of_name in rows.items()}
            for kind in KINDS
        }
        plot_intervals(lines, given.plot, x_label="visual tokens of a scene that the Embedder sees", y_label="hit@1, %")
    num_queries = len(next(iter(by_training.values())))
    title = f"hit@1, %: {num_queries} queries, seeds {', '.join(map(str, seeds))}, pools of {sizes_of(given)[1]} or more"
    table(title, ["Embedder", *KINDS, "after - none", "after - before"], [[name, *_line(of_name)] for name, of_name in rows.items()])
    if len(by_training) > len(rows):
        lines = [[name, folder, *_line(of_training)] for (name, folder), of_training in by_training.items()]
        table("by training", ["Embedder", "folder", *KINDS, "after - none", "after - before"], lines)
    by_task = [
        [name, task, *(mean_percentage(of_task, [row.hits[kind] for row in of_task]) for kind in KINDS)]
        for name, of_name in rows.items()
        for task in given.tasks
        if (of_task := [row for row in of_name if row.task == task])
    ]
    table("by task", ["Embedder", "task", *KINDS], by_task)


def rank(
    tasks: Sequence[RetrievalTask], items: Mapping[str, Item], tcots: Mapping[str, TCoTs], embedder: Embeds, seed: int
) -> list[Measured]:
    """Rank the candidates of each query, with each kind of T-CoT on both sides."""
    vectors = {
        kind: dict(zip(items, embedder.embed(list(items.values()), [of_kind[key] for key in items]), strict=True))
        for kind, of_kind in tcots.items()
    }
    rows = []
    for task in tasks:
        candidates = {kind: np.stack([of_kind[key] for key in task.candidate_ids]) for kind, of_kind in vectors.items()}
        for query, relevant, family in zip(task.queries, task.relevant, task.families, strict=True):
            scores = {kind: np.round(candidates[kind] @ of_kind[query.key], 6) for kind, of_kind in vectors.items()}
            hits = {kind: float(task.candidate_ids[int(of_kind.argmax())] in relevant) for kind, of_kind in scores.items()}
            rows.append(Measured(task.name, f"{seed}:{family}", hits))
    return rows


def _line(rows: Sequence[Measured]) -> list[str]:
    shares = [mean_percentage(rows, [row.hits[kind] for row in rows]) for kind in KINDS]
    gains = [mean_percentage(rows, [row.hits[AFTER] - row.hits[kind] for row in rows], low=-1.0) for kind in (NONE, BEFORE)]
    return [*shares, *gains]


if __name__ == "__main__":
    main(*sys.argv[1:])
