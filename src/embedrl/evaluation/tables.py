"""Benchmark score tables: datasets, score files, and the aggregate means that papers print.

Score files are those of MMEB-V2's evaluator (github.com/TIGER-AI-Lab/VLM2Vec): a folder of `<dataset>_score.json`, each with 24
metrics and two counts, as they are or sorted into folders by modality; or one leaderboard file with all of them:
{"metadata": {"model_name": ...}, "metrics": {modality: {dataset: scores, or a status such as "FILE_N/A"}}}.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from embedrl.errors import ConfigError, StoreError, unreadable
from embedrl.evaluation.metrics import METRIC_NAMES
from embedrl.evaluation.report import write_report
from embedrl.evaluation.task import MODALITIES, Modality

Scores = Mapping[str, float]
"""Metrics of one dataset, each in 0..1, and the counts `num_pred` and `num_data`."""

COUNTS = ("num_pred", "num_data")
STATUSES = ("FILE_N/A", "DIR_N/A", "JSON_ERROR", "READ_ERROR")
"""What stands in a leaderboard file instead of scores."""

SCORE_SUFFIX = "_score.json"
_ROUNDING = 0.1
"""Points by which a printed mean may differ: it has one decimal, and so have the scores that some papers print."""


@dataclass(frozen=True)
class Dataset:
    """One row of a benchmark."""

    name: str
    modality: Modality
    groups: tuple[str, ...]
    """Columns of the paper that it counts in, besides those of its modality and of all datasets."""
    metric: str
    """The metric that counts, one of METRIC_NAMES."""
    num_queries: int
    in_distribution: bool | None = None
    """Whether its training split is in the usual training data; None if the paper does not say."""
    alias: str = ""
    """Alternative name in files."""
    corrected: str = ""
    """Name in leaderboard files since its labels were corrected."""


@dataclass(frozen=True)
class Benchmark:
    """Datasets, and the columns of a paper's table."""

    name: str
    datasets: tuple[Dataset, ...]
    columns: Mapping[str, tuple[str, ...]]
    """Each is the unweighted mean of what it names: datasets, or columns before it. The last is the mean over all."""
    unscored: Mapping[str, Modality] = field(default_factory=dict)
    """Datasets that its evaluator also runs, but that no column counts."""

    def __post_init__(self) -> None:
        """Check that the table fits together."""
        known = [name for row in self.datasets for name in {row.name, row.alias, row.corrected} - {""}] + list(self.unscored)
        assert len(set(known)) == len(known), f"{self.name}: two datasets share a name"
        assert all(row.metric in METRIC_NAMES for row in self.datasets), f"{self.name}: unknown metric"
        for column, parts in self.columns.items():
            assert parts, f"{self.name}: {column} names what is not there"
            assert set(parts) <= set(known), f"{self.name}: {column} names what is not there"
            known.append(column)

    def find(self, name: str) -> Dataset | None:
        """Return the dataset of a name in a file, or None."""
        return next((row for row in self.datasets if name in (row.name, row.alias, row.corrected) and name), None)

    def members(self, column: str) -> tuple[str, ...]:
        """Return the names of all datasets that a column counts."""
        names = (name for part in self.columns[column] for name in (self.members(part) if part in self.columns else (part,)))
        return tuple(dict.fromkeys(names))


def by_group(datasets: Iterable[Dataset], *groups: str) -> dict[str, tuple[str, ...]]:
    """Return columns: for each group the names of its datasets."""
    datasets = list(datasets)
    return {group: tuple(row.name for row in datasets if group in row.groups) for group in groups}


@dataclass(frozen=True)
class Result:
    """Scores of one system on one benchmark."""

    name: str
    benchmark: Benchmark
    scores: Mapping[str, Scores]
    """By dataset."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """The status of datasets without scores, where a file states one."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What a leaderboard file says about the system."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """By dataset or column: what a reader should know."""
    source: str = ""
    """Where it was published."""
    printed: Mapping[str, float] = field(default_factory=dict)
    """Columns in percent, as the source prints them."""

    def shortfalls(self) -> dict[str, str]:
        """Return dataset -> reason for scores that do not count."""
        reasons = {}
        for row in self.benchmark.datasets:
            scores = self.scores.get(row.name)
            if scores is None:
                reasons[row.name] = self.absent.get(row.name, "no score")
            elif scores["num_data"] != row.num_queries:
                reasons[row.name] = f"{scores['num_data']:,} queries instead of {row.num_queries:,}"
            elif scores["num_pred"] != row.num_queries:
                reasons[row.name] = f"{scores['num_pred']:,} of {row.num_queries:,} queries ranked"
        return reasons


class Columns(NamedTuple):
    """The columns of one system: each has either a value or a reason for having none."""

    values: dict[str, float]
    """Means, in 0..1."""
    missing: dict[str, tuple[str, ...]]
    """Columns without a value: the datasets whose score is missing or does not count."""
    notes: dict[str, str]
    """Remarks, and what the source prints if that is not the mean of its own scores."""


def aggregate(result: Result) -> Columns:
    """Compute the mean of every column whose datasets all count; of a source without scores, its printed means."""
    columns = result.benchmark.columns
    if result.printed and not result.scores:
        values = {column: result.printed[column] / 100 for column in columns if column in result.printed}
        return Columns(values, {column: result.benchmark.members(column) for column in columns if column not in values}, {})
    short = result.shortfalls()
    means = {row.name: result.scores[row.name][row.metric] for row in result.benchmark.datasets if row.name not in short}
    missing, notes = {}, {}
    for column, parts in columns.items():
        if lacking := tuple(name for name in result.benchmark.members(column) if name in short):
            missing[column] = lacking
            continue
        means[column] = math.fsum(means[part] for part in parts) / len(parts)
        printed, computed = result.printed.get(column), 100 * means[column]
        remarks = [result.remarks[column]] if column in result.remarks else []
        if printed is not None and abs(printed - computed) > _ROUNDING + 1e-9:
            remarks.insert(0, f"its source prints {printed:.1f}, but the scores reported there have a mean of {computed:.1f}")
        if remarks:
            notes[column] = "; ".join(remarks)
    return Columns({column: means[column] for column in columns if column in means}, missing, notes)


def published(benchmark: Benchmark) -> list[Result]:
    """Return what papers and their repositories report, taken to be measured on all queries."""
    table = json.loads((files("embedrl.evaluation") / "published.json").read_text(encoding="utf-8"))
    return [
        Result(
            name=row["name"],
            benchmark=benchmark,
            scores={
                dataset.name: {dataset.metric: row["scores"][dataset.name], **dict.fromkeys(COUNTS, dataset.num_queries)}
                for dataset in benchmark.datasets
                if dataset.name in row["scores"]
            },
            remarks=row["remarks"],
            source=row["source"],
            printed=row["printed"],
        )
        for row in table.get(benchmark.name, [])
    ]


class _Entry(NamedTuple):
    """What a file says of one dataset."""

    file: Path
    modality: str
    """Empty if the file does not say."""
    name: str
    value: object

    def error(self, what: str) -> StoreError:
        return StoreError(f"{str(self.file)!r}, {self.name!r}: {what}")


def read_result(path: Path, benchmarks: Sequence[Benchmark]) -> Result:
    """Read a folder of score files or a leaderboard file; its datasets say which benchmark it is of.

    Raises ConfigError if the path or its benchmark is not clear, StoreError if a file cannot be read, names a dataset that is
    unknown or given twice, or holds a score that is no number in 0..1.
    """
    if not path.exists():
        raise ConfigError(f"{str(path)!r}: there is no such file or folder")
    name, metadata, entries = _folder(path) if path.is_dir() else _leaderboard(path)
    benchmark = _benchmark(path, entries, benchmarks)
    scores: dict[str, Scores] = {}
    absent, remarks = {}, {}
    places: dict[str, Path] = {}
    for entry in entries:
        dataset = benchmark.find(entry.name)
        modality = dataset.modality if dataset else benchmark.unscored.get(entry.name)
        if modality is None:
            raise entry.error(f"{benchmark.name} has no such dataset; correct the name or take it out")
        if entry.modality not in ("", modality):
            raise entry.error(f"it stands under {entry.modality!r} and belongs under {modality!r}; move it there")
        known = dataset.name if dataset else entry.name
        if isinstance(entry.value, str) and entry.value in STATUSES:
            absent[known] = entry.value
            continue
        if known in scores:
            raise entry.error(
                f"a second score of it; the first is in {str(places[known])!r}. Keep one, and give one folder for each system"
            )
        scores[known], places[known] = _scores(entry, dataset), entry.file
        if path.is_file() and dataset and dataset.corrected and entry.name != dataset.corrected:
            remarks[known] = f"not called {dataset.corrected}, so it may have been measured before its data were corrected"
    return Result(
        name=name,
        benchmark=benchmark,
        scores=scores,
        absent={name: status for name, status in absent.items() if name not in scores},
        metadata=metadata,
        remarks=remarks,
    )


def write_leaderboard(result: Result, path: Path) -> None:
    """Write one leaderboard file; datasets without scores get a status. Raises StoreError."""
    metrics: dict[str, dict[str, object]] = {modality: {} for modality in MODALITIES}
    for row in result.benchmark.datasets:
        status = result.absent.get(row.name, STATUSES[0])
        metrics[row.modality][row.corrected or row.name] = result.scores.get(row.name, status)
    for name, modality in result.benchmark.unscored.items():
        if name in result.scores:
            metrics[modality][name] = result.scores[name]
    metadata = {"model_name": result.name, **result.metadata}
    write_report({"metadata": metadata, "metrics": {modality: rows for modality, rows in metrics.items() if rows}}, path)


def _folder(path: Path) -> tuple[str, dict[str, Any], list[_Entry]]:
    files = sorted(file for pattern in (f"*{SCORE_SUFFIX}", f"*/*{SCORE_SUFFIX}") for file in path.glob(pattern))
    if not files:
        raise ConfigError(
            f"{str(path)!r}: no *{SCORE_SUFFIX} in it or in its folders; give the folder of an evaluation, or a leaderboard file"
        )
    entries = []
    for file in files:
        modality = file.parent.name if file.parent != path and file.parent.name in MODALITIES else ""
        entries.append(_Entry(file, modality, file.name.removesuffix(SCORE_SUFFIX), _load(file)))
    return path.resolve().name, {}, entries


def _leaderboard(path: Path) -> tuple[str, dict[str, Any], list[_Entry]]:
    table = _load(path)
    metrics = table.get("metrics") if isinstance(table, dict) else None
    if not isinstance(metrics, dict) or not all(isinstance(rows, dict) for rows in metrics.values()):
        raise StoreError(f'{str(path)!r}: it has no "metrics" by modality and dataset; give a leaderboard file or a folder of score files')
    if unknown := [name for name in metrics if name not in MODALITIES]:
        raise StoreError(f"{str(path)!r}: modality {unknown[0]!r} is none of {', '.join(MODALITIES)}; correct it")
    metadata = table.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("model_name")
    entries = [_Entry(path, modality, dataset, value) for modality, rows in metrics.items() for dataset, value in rows.items()]
    return name if isinstance(name, str) and name.strip() else path.stem, metadata, entries


def _load(file: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        rows = dict(pairs)
        if len(rows) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise StoreError(f"{str(file)!r}: {twice!r} stands there twice; keep one")
        return rows

    try:
        return json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{str(file)!r}: it is not JSON ({error}); evaluate its dataset again, or take it out") from error
    except StoreError:
        raise
    except OSError as error:
        raise unreadable(file, error) from error


def _benchmark(path: Path, entries: Sequence[_Entry], benchmarks: Sequence[Benchmark]) -> Benchmark:
    """Return the benchmark that knows most of the datasets."""
    counts = [sum(benchmark.find(entry.name) is not None for entry in entries) for benchmark in benchmarks]
    best = [benchmark for benchmark, count in zip(benchmarks, counts, strict=True) if count == max(counts)]
    if len(best) > 1:
        names = ", ".join(repr(entry.name) for entry in entries[:3]) + (" …" if len(entries) > 3 else "")
        among = ", ".join(benchmark.name for benchmark in best)
        how = "are of several" if max(counts) else "are of none"
        raise ConfigError(f"{str(path)!r}: its datasets ({names}) {how} of these benchmarks: {among}; name the one that is meant")
    return best[0]


def _scores(entry: _Entry, dataset: Dataset | None) -> dict[str, float]:
    """Check the scores of one dataset."""
    if not isinstance(entry.value, dict):
        raise entry.error(f"scores, or one of {', '.join(STATUSES)}, should stand there; evaluate it again")
    if lacking := [name for name in ((dataset.metric,) if dataset else ()) + COUNTS if name not in entry.value]:
        raise entry.error(f"{lacking[0]} is missing; evaluate it again")
    for name, value in entry.value.items():
        fits = isinstance(value, int) and value >= 1 if name in COUNTS else isinstance(value, int | float) and 0 <= value <= 1 + 1e-9
        if not fits or isinstance(value, bool):
            raise entry.error(f"{name} is {value!r:.40}, which is no {'count' if name in COUNTS else 'number in 0..1'}; evaluate it again")
    return {str(name): value for name, value in entry.value.items()}
