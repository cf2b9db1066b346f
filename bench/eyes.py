"""Where reasoning pays: hit@1 without T-CoTs, before RL, after RL and with true ones, by how much the Embedder sees.

    python bench/eyes.py [NAME=]EMBEDDER ... [--tasks NAMES] [--cache DIR] [--plot FILE] [seed ...]      (104 105 106 by default)

The world's image tasks with hard negatives (test split). Each Embedder ranks the same queries and pools by the same T-CoTs: none, those of
`nano-sft` (before RL) and `nano` (after RL), and true ones. Train the Embedders with one recipe that differs in its budget alone:

    embedrl train embedder nano/eyes.toml out=runs/nano/eyes/16 budget.image.max_pixels=4608

Two tables: means over tasks with the difference of after RL to none and to before RL, and each task by itself. Intervals are clustered by
family, differences paired. `--cache` keeps T-CoTs for the next call; `--plot` draws the means over NAMEs that are numbers of visual tokens;
`--small`: few queries, to see that it runs.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrl.data.protocols import Embeds
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.evaluation.bootstrap import mean_of_queries, mean_percentage
from embedrl.evaluation.cache import Cache, CachedReasoner
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.log import table
from embedrl.reports.plots import plot_intervals
from embedrl.runtime.names import load_embedder, load_reasoner

TASKS = ("image_cls", "image_qa", "image_i2t", "image_t2i", "image_composed", "image_grounding")
SEEDS, NUM_QUERIES, POOL = (104, 105, 106), 17, 256
NONE, BEFORE, AFTER, TRUE = "none", "before RL", "after RL", "true"
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
    given, options = _split(arguments)
    small = "--small" in given
    tasks = tuple(options["--tasks"].split(",")) if "--tasks" in options else TASKS
    seeds = [int(argument) for argument in given if argument.isdigit()] or list(SEEDS[: 1 if small else None])
    names = [argument for argument in given if not argument.isdigit() and argument != "--small"]
    embedders = {name.split("=")[0]: load_embedder(name.split("=")[-1]) for name in names or ["nano"]}
    rows: dict[str, list[Measured]] = {name: [] for name in embedders}
    with tempfile.TemporaryDirectory() as folder, Cache(Path(options.get("--cache", folder))) as cache:
        reasoners = {kind: CachedReasoner(load_reasoner(name), cache) for kind, name in REASONERS.items()}
        for seed in seeds:
            drawn = world_tasks(seed=seed, tasks=tasks, num_queries=3 if small else NUM_QUERIES, pool_size=24 if small else POOL)
            items = {key: item for task in drawn for key, item in task.items.items()}
            tcots: dict[str, TCoTs] = {
                NONE: dict.fromkeys(items),
                TRUE: {key: truth for task in drawn for key, truth in task.truths.items()},
            }
            for kind, reasoner in reasoners.items():
                outcomes = zip(items, reasoner.reason(list(items.values())), strict=True)
                tcots[kind] = {key: outcome if isinstance(outcome, TCoT) else None for key, outcome in outcomes}
            for name, embedder in embedders.items():
                rows[name] += rank(drawn, items, tcots, embedder, seed)
    kinds = (NONE, BEFORE, AFTER, TRUE)
    if out := options.get("--plot"):
        lines = {
            kind: {float(name): mean_of_queries(of_name, [row.hits[kind] for row in of_name]) for name, of_name in rows.items()}
            for kind in kinds
        }
        plot_intervals(lines, Path(out), x_label="visual tokens of a scene that the Embedder sees", y_label="hit@1, %")
    num_queries = len(next(iter(rows.values())))
    title = f"hit@1, %: {num_queries} queries, seeds {', '.join(map(str, seeds))}, pools of {POOL} or more"
    table(title, ["Embedder", *kinds, "after - none", "after - before"], [[name, *_line(of_name)] for name, of_name in rows.items()])
    by_task = [
        [name, task, *(mean_percentage(of_task, [row.hits[kind] for row in of_task]) for kind in kinds)]
        for name, of_name in rows.items()
        for task in tasks
        if (of_task := [row for row in of_name if row.task == task])
    ]
    table("by task", ["Embedder", "task", *kinds], by_task)


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
    shares = [mean_percentage(rows, [row.hits[kind] for row in rows]) for kind in (NONE, BEFORE, AFTER, TRUE)]
    gains = [mean_percentage(rows, [row.hits[AFTER] - row.hits[kind] for row in rows], low=-1.0) for kind in (NONE, BEFORE)]
    return [*shares, *gains]


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments apart from the options that have a value, and those."""
    rest, options = list(arguments), {}
    for name in ("--tasks", "--cache", "--plot"):
        if name in rest:
            place = rest.index(name)
            options[name] = rest[place + 1]
            del rest[place : place + 2]
    return rest, options


if __name__ == "__main__":
    main(*sys.argv[1:])
