"""Paired comparison of two systems from their prediction files, with bootstrap intervals.

`<dataset>_pred.jsonl` lies beside the score file of a dataset. Two of them are of the same queries if line by line their labels and
grades agree. What the predictions give must be what the score file says: that also tells how grades were handed out.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embedrl.data.sources.row_file import PACKED_SUFFIX
from embedrl.data.sources.stream import read_json
from embedrl.evaluation.bootstrap import Figure, Replicates, figure, mean_over_tasks, replicates
from embedrl.evaluation.metrics import Mode, mmeb_compat_grades, score_one
from embedrl.evaluation.predictions import PREDICTION_SUFFIX
from embedrl.evaluation.tables import Dataset, Result

_EXACT = 1e-6
"""By how much predictions and score file may differ: both come from one ranking."""


@dataclass(frozen=True)
class Paired:
    """One system minus another; figures are fractions."""

    later: int
    """Place of the system that is compared, in the order they were given."""
    earlier: int
    datasets: Mapping[str, Figure]
    columns: Mapping[str, Figure]
    """Only where every dataset of the column is paired."""
    refused: Mapping[str, str]
    """Datasets that both have scores of, but that are not paired: why."""


class _Scored(NamedTuple):
    """One dataset's predictions, scored query by query."""

    values: np.ndarray
    """float64, one for each query."""
    asked: tuple[Any, ...]
    """Labels and grades of each query."""
    mode: Mode


def pair_systems(systems: Sequence[tuple[Path, Result]]) -> tuple[Paired, ...]:
    """Compare each system with every earlier one by paired bootstrap. Paths are the folders or files of the predictions."""
    scored = [
        {row.name: _score(path, row, result) for row in result.benchmark.datasets if row.name not in result.shortfalls()}
        for path, result in systems
    ]
    pairs = []
    for earlier, later in itertools.combinations(range(len(systems)), 2):
        benchmark = systems[later][1].benchmark
        tables: dict[str, Replicates] = {}
        refused: dict[str, str] = {}
        for name in scored[later].keys() & scored[earlier].keys():
            differences = _differences(scored[later][name], scored[earlier][name])
            if isinstance(differences, str):
                refused[name] = differences
            else:
                tables[name] = replicates(differences[:, None], task=name, seed=0)
        datasets = {row.name: tables[row.name] for row in benchmark.datasets if row.name in tables}
        for column, parts in benchmark.columns.items():
            if all(part in tables for part in parts):
                tables[column] = mean_over_tasks([tables[part] for part in parts])
        columns = {column: tables[column] for column in benchmark.columns if column in tables}
        pairs.append(Paired(later, earlier, _figures(datasets), _figures(columns), {name: refused[name] for name in sorted(refused)}))
    return tuple(pairs)


def _figures(tables: Mapping[str, Replicates]) -> dict[str, Figure]:
    return {name: interval for name, table in tables.items() if (interval := figure(table, bounds=(-1.0, 1.0)))}


def _differences(later: _Scored | str, earlier: _Scored | str) -> np.ndarray | str:
    if isinstance(later, str) or isinstance(earlier, str):
        return later if isinstance(later, str) else str(earlier)
    if len(later.asked) != len(earlier.asked):
        return f"the queries differ: {len(later.asked):,} and {len(earlier.asked):,}"
    for number, (mine, theirs) in enumerate(zip(later.asked, earlier.asked, strict=True), 1):
        if mine != theirs:
            return f"the queries differ: other labels or grades in line {number:,} of the predictions"
    if later.mode != earlier.mode:
        return f"grades were handed out in two ways ({later.mode}, {earlier.mode}); evaluate both alike"
    return later.values - earlier.values


def _score(path: Path, row: Dataset, result: Result) -> _Scored | str:
    """Score the predictions of a dataset, or return why that is not possible."""
    names = [
        f"{name}{PREDICTION_SUFFIX}{packed}" for name in (row.name, row.alias, row.corrected) if name for packed in ("", PACKED_SUFFIX)
    ]
    places = [folder / name for folder in (path / row.modality, path) for name in names]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return f"no predictions of {result.name} ({row.name}{PREDICTION_SUFFIX})"
    lines = list(read_json(file))
    for number, line in enumerate(lines, 1):
        if not _is_whole(line):
            return f"{file.name} of {result.name}: line {number:,} is broken; evaluate it again"
    expected = result.scores[row.name][row.metric]
    for mode in ("correct", "mmeb-compat"):
        values = np.array([_value(line, row.metric, mode) for line in lines])
        if values.size and abs(float(values.mean()) - expected) <= _EXACT:
            return _Scored(values, tuple((line["label"], _grades(line)) for line in lines), mode)
    return f"the predictions of {result.name} do not give its score; evaluate it again"


def _is_whole(line: Any) -> bool:
    if not isinstance(line, dict) or not isinstance(line.get("prediction"), list):
        return False
    label, grades = line.get("label"), line.get("rel_scores")
    listed = label if isinstance(label, list) else [label]
    named = all(isinstance(name, str | int) for name in (*listed, *line["prediction"]))
    return named and (grades is None or (isinstance(grades, list) and len(grades) == len(listed)))


def _labels(line: Mapping[str, Any]) -> list[str | int]:
    return line["label"] if isinstance(line["label"], list) else [line["label"]]


def _grades(line: Mapping[str, Any]) -> list[float]:
    return [float(grade) for grade in line["rel_scores"] or [1.0] * len(_labels(line))]


def _value(line: Mapping[str, Any], metric: str, mode: Mode) -> float:
    relevant = dict(zip(_labels(line), _grades(line), strict=True))
    if mode == "mmeb-compat":
        relevant = mmeb_compat_grades(relevant)
    return score_one(metric, line["prediction"], relevant)
