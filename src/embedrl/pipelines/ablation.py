"""Ablation: train Reasoners under several settings and evaluate them on the same held-out queries."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from embedrl import log
from embedrl.config import load_recipe
from embedrl.errors import ConfigError, StoreError
from embedrl.evaluation.evaluate import SystemResult, evaluate
from embedrl.evaluation.report import make_report, read_figure, write_report
from embedrl.evaluation.task import MODALITIES, RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.files import read_json_file
from embedrl.pipelines.eg_rl import local_reasoner, train_reasoner
from embedrl.rl.config import Ablation, AblationRow, Recipe
from embedrl.runtime.names import load_embedder
from embedrl.world.claims import claims_of

FILE = "ablation.json"
COLUMNS = (
    "row",
    "seed",
    *(f"hit@1 {group}" for group in ("all", *MODALITIES)),
    "difference (95 %)",
    "cosine",
    "valid",
    "tokens",
    "precision",
    "true",
)


class Result(NamedTuple):
    """One way to train, with one seed."""

    name: str
    seed: int
    report: dict[str, Any]
    """The figures of "after", and of "after-before", by group ("overall", a modality)."""


def ablate(ablation: Ablation, *, only: tuple[str, ...] = ()) -> list[Result]:
    """Train and evaluate every row, or those that are named, and write ablation.json. What is done is not done again.

    Raises ConfigError for a row that does not exist, or one whose recipe is wrong, before anything is trained.
    """
    if unknown := sorted(set(only) - {row.name for row in ablation.rows}):
        raise ConfigError(f"row {unknown[0]!r}: choose from {', '.join(repr(row.name) for row in ablation.rows)}")
    runs = [(row, seed, _recipe(ablation, row, seed)) for row in ablation.rows if row.name in only or not only for seed in row.seeds]
    reports = {run.out: report for _, _, run in runs if (report := kept_report(run.out / FILE))}
    missing = [run for _, _, run in runs if run.out not in reports]
    if missing:
        world, names = missing[0].world, missing[0].tasks
        tasks = world_tasks(
            seed=ablation.test_seed, tasks=names, num_queries=ablation.num_queries, pool_size=ablation.pool_size, world=world
        )
        before = _evaluate(tasks, missing[0], missing[0].start_from, "before")
        for run in missing:
            log.info(f"{run.out}")
            finished = run.out / "model"
            model = finished if finished.is_dir() else train_reasoner(run)
            report = make_report([before, _evaluate(tasks, run, str(model), "after")], seed=ablation.test_seed, seconds=0)
            reports[run.out] = {"after": report["systems"]["after"], "after-before": report["differences"]["after-before"]}
            write_report(reports[run.out], run.out / FILE)
    results = [Result(row.name, seed, reports[run.out]) for row, seed, run in runs]
    write_report({"rows": [result._asdict() for result in results]}, ablation.out / FILE)
    return results


def kept_report(path: Path) -> dict[str, Any] | None:
    """Return the figures of a run that was evaluated before; None without them, or if they are damaged: it is evaluated again."""
    if not path.exists():
        return None
    try:
        report = read_json_file(path, StoreError, "its run is evaluated again")
        read_figure(report["after"]["overall"]["hit@1"])
        read_figure(report["after-before"]["overall"]["hit@1"])
    except StoreError as error:
        log.warn(str(error))
        return None
    except (KeyError, TypeError, ValueError):
        log.warn(f"{str(path)!r} is no report of an ablation: its run is evaluated again")
        return None
    return report


def table_rows(results: list[Result]) -> list[list[str]]:
    """Return rows of a console table, in the order of `COLUMNS`.

    Precision is the share of the facts told that matter (in the crowded world) or hold; "true", in the crowded world, of those that hold.
    """
    rows = []
    for name, seed, report in results:
        after, change = report["after"], report["after-before"]["overall"]["hit@1"]
        hits = [f"{after[group]['hit@1']['value']:.3f}" for group in ("overall", *MODALITIES)]
        difference = read_figure(change).text("+.3f")
        overall = after["overall"]
        claims = overall.get("claims", {})
        others = [
            f"{overall['positive_cosine']['value']:.3f}",
            f"{overall['tcot_valid']['value']:.3f}",
            f"{overall['tcot_tokens']['value']:.1f}",
            *(f"{claims[name]['value']:.3f}" if name in claims else "" for name in ("precision", "true")),
        ]
        rows.append([name, str(seed), *hits, difference, *others])
    return rows


def _recipe(ablation: Ablation, row: AblationRow, seed: int) -> Recipe:
    out = ablation.out / f"{re.sub(r'[^a-z0-9]+', '-', row.name.lower()).strip('-')}-{seed}"
    return load_recipe(ablation.recipe, [*ablation.overrides, *row.overrides, f"seed={seed}", f'out="{out}"'], Recipe)


def _evaluate(tasks: list[RetrievalTask], run: Recipe, reasoner: str, name: str) -> SystemResult:
    loaded = local_reasoner(reasoner)
    settings: dict[str, Any] = {"claims": claims_of(run.world), "count_tokens": loaded.num_tokens}
    return evaluate(tasks, load_embedder(run.embedder), name=name, reasoner=loaded, **settings)
