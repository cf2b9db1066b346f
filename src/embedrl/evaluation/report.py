"""The evaluation report, `report.json`.

A task's figure is the mean over its queries; a modality's is the unweighted mean over its tasks, and `overall` the unweighted
mean over all tasks (MMEB-V2 aggregates so). Intervals come from the paired, task-stratified bootstrap over families, and every resample
is aggregated the same way, so they are intervals of exactly the figures they stand beside. `groups` says of how many queries and families.
`tcots` is there if items of a system have no T-CoT: how many, by reason; `think` if a gate decided which queries were reasoned about: which
gate, how many it wanted, and the share of their tokens in those of all queries (null where these are not known).
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embedrl.data.reasoning import TCoTCounts
from embedrl.errors import ConfigError
from embedrl.evaluation.bootstrap import NUM_RESAMPLES, Figure, Replicates, figure, mean_over_tasks, replicates
from embedrl.evaluation.evaluate import BOUNDS, FIGURES, GATE_FIGURES, SystemResult, TaskResult
from embedrl.evaluation.task import MODALITIES
from embedrl.files import write_bytes

Report = dict[str, Any]


def make_report(
    systems: Sequence[SystemResult], *, seed: int, seconds: float, num_resamples: int = NUM_RESAMPLES, seeds: Sequence[int] = ()
) -> Report:
    """Make the report of systems evaluated on the same queries, with paired differences to every earlier system.

    `seeds` are those that the queries were drawn with, if they are not `seed` alone, which the resamples are drawn with.
    Raises ConfigError if there is no system, if names repeat, or if the queries differ: their differences would not be paired.
    """
    _check(systems)
    groups = {system.name: _groups(system, seed, num_resamples) for system in systems}
    first = systems[0]
    return {
        "systems": {
            name: {group: _figures(table) for group, table in tables.items()}
            | {"tasks": {task: _figures(table) for task, table in tasks.items()}}
            for name, (tables, tasks) in groups.items()
        },
        "differences": {
            f"{later.name}-{earlier.name}": {
                group: _figures(table - groups[earlier.name][0][group], differ=True) for group, table in groups[later.name][0].items()
            }
            for earlier, later in itertools.combinations(systems, 2)
        },
        "groups": {group: _size(tasks) for group, tasks in _members(first).items()},
        "seeds": list(seeds) or [seed],
        "num_queries": sum(len(task.query_keys) for task in first.tasks),
        "num_candidates": sum(task.num_candidates for task in first.tasks),
        "pools": {
            task.name: {"modality": task.modality, "num_queries": len(task.query_keys), "num_candidates": task.num_candidates}
            for task in first.tasks
        },
        "seconds": round(seconds, 1),
        "seconds_per_system": {system.name: round(system.seconds, 1) for system in systems},
        "seed": seed,
        **({"tcots": counts} if (counts := {s.name: s.tcot_counts.model_dump() for s in systems if s.tcot_counts.failed}) else {}),
        **({"think": gated} if (gated := {s.name: _think(s) for s in systems if s.gate is not None}) else {}),
    }


def _think(system: SystemResult) -> dict[str, Any]:
    """Return what a gate decided about a system's queries."""
    reasoned, tokens, always = (np.concatenate([task.figures[name] for task in system.tasks]) for name in GATE_FIGURES)
    all_tokens = float(always.sum())  # NaN if those of some query are not known
    return {
        "gate": system.gate,
        "num_queries": len(reasoned),
        "num_reasoned": int(reasoned.sum()),
        "share_of_queries": round(float(reasoned.mean()), 6),
        "share_of_tokens": round(float(tokens.sum()) / all_tokens, 6) if all_tokens > 0 else None,
    }


def gain_kept(student: SystemResult, plain: SystemResult, reasoned: SystemResult, *, seed: int = 0) -> Figure | None:
    """Return the share of a gain in hit@1, from `plain` to `reasoned`, that a third system has; paired. None without a gain."""
    column = FIGURES.index("hit@1")
    student_R, plain_R, reasoned_R = (
        _groups(system, seed, NUM_RESAMPLES)[0]["overall"].values[:, [column]] for system in (student, plain, reasoned)
    )
    gain_R = reasoned_R - plain_R
    kept_R = np.divide(student_R - plain_R, gain_R, out=np.full(gain_R.shape, np.nan), where=gain_R != 0)
    return figure(Replicates(kept_R, np.array([np.inf]), seed))


def tcot_counts(report: Report) -> dict[str, TCoTCounts]:
    """Return the counts of T-CoTs of those systems of a report that lack some."""
    return {name: TCoTCounts.model_validate(counts) for name, counts in report.get("tcots", {}).items()}


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON, atomically. Raises StoreError."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def _check(systems: Sequence[SystemResult]) -> None:
    names = [system.name for system in systems]
    if not systems or len(set(names)) < len(names):
        raise ConfigError(f"systems {names!r}: give at least one, each with a name of its own")
    expected = [(task.name, task.query_keys) for task in systems[0].tasks]
    for system in systems[1:]:
        if [(task.name, task.query_keys) for task in system.tasks] != expected:
            raise ConfigError(f"system {system.name!r} was evaluated on other queries than {names[0]!r}; evaluate both on the same tasks")


def _members(system: SystemResult) -> dict[str, list[TaskResult]]:
    """Return the tasks of "overall" and of each modality present."""
    by_modality = {modality: [task for task in system.tasks if task.modality == modality] for modality in MODALITIES}
    return {"overall": list(system.tasks), **{modality: tasks for modality, tasks in by_modality.items() if tasks}}


def _size(tasks: Sequence[TaskResult]) -> dict[str, int]:
    return {
        "num_tasks": len(tasks),
        "num_queries": sum(len(task.query_keys) for task in tasks),
        "num_families": sum(task.num_families for task in tasks),
    }


def _groups(system: SystemResult, seed: int, num_resamples: int) -> tuple[dict[str, Replicates], dict[str, Replicates]]:
    """Return the replicates of "overall" and each modality present, and those of each task."""
    tasks = {
        task.name: replicates(
            np.stack([task.figures[name] for name in FIGURES], axis=1),
            task=task.name,
            seed=seed,
            num_resamples=num_resamples,
            families=task.families or None,
        )
        for task in system.tasks
    }
    groups = {group: mean_over_tasks([tasks[task.name] for task in members]) for group, members in _members(system).items()}
    return groups, tasks


def _figures(table: Replicates, *, differ: bool = False) -> dict[str, Any]:
    """Nest one table of replicates by figure name ("evidence/box_iou50"), without figures that are not defined.

    A difference of shares lies between -1 and 1.
    """
    nested: dict[str, Any] = {}
    for number, name in enumerate(FIGURES):
        bounds = BOUNDS.get(name)
        interval = figure(table, number, bounds=(-1.0, 1.0) if differ and bounds else bounds)
        if interval is None:
            continue
        *outer, last = name.split("/")
        place = nested
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = figure_row(interval)
    return nested


def figure_row(interval: Figure) -> dict[str, Any]:
    """Return a figure and its interval as JSON values."""
    return {"value": round(interval.value, 6), "ci95": [round(interval.low, 6), round(interval.high, 6)]}


def figure_fields(row: NamedTuple) -> dict[str, Any]:
    """Return a row's fields as JSON values, figures with their intervals."""
    return {name: figure_row(value) if isinstance(value, Figure) else value for name, value in row._asdict().items()}


def read_figure(row: Mapping[str, Any]) -> Figure:
    """Return what `figure_row` wrote."""
    return Figure(row["value"], *row["ci95"])
