"""Score tables beside the published ones: for a terminal, as JSON, and as HTML. A column that lacks a dataset shows a dash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.register import BENCHMARKS
from embedrl.evaluation.paired import Paired, pair_systems
from embedrl.evaluation.predictions import PREDICTION_SUFFIX
from embedrl.evaluation.report import figure_row, write_report
from embedrl.evaluation.tables import Benchmark, Columns, Result, aggregate, published, read_result
from embedrl.reports import score_charts
from embedrl.reports.html import render_page, write_html
from embedrl.reports.templates import fragment

_DASH = "\u2013"
_MAX_NAMES = 8
"""Names of datasets in one footnote; the JSON has them all."""


@dataclass(frozen=True)
class ScoreTable:
    """One benchmark: the systems that were read, then the published ones."""

    benchmark: Benchmark
    systems: tuple[Result, ...]
    columns: tuple[Columns, ...]
    """Of each system."""
    labels: tuple[str, ...]
    """What each system is called."""
    num_own: int
    pairs: tuple[Paired, ...] = ()
    """Each own system minus each earlier one."""

    @property
    def series(self) -> list[score_charts.Series]:
        """The datasets' scores of each system, for charts."""
        return [self._series(place, _counted(result)) for place, result in enumerate(self.systems)]

    @property
    def column_series(self) -> list[score_charts.Series]:
        """The columns of each system, for charts."""
        return [self._series(place, columns.values) for place, columns in enumerate(self.columns)]

    def _series(self, place: int, values: Mapping[str, float]) -> score_charts.Series:
        return score_charts.Series(self.labels[place], score_charts.style(place, self.num_own), values)

    @property
    def title(self) -> str:
        """What the figures are."""
        return f"{self.benchmark.name}, in %"


def report_tables(paths: Sequence[Path], benchmark: str | None = None) -> list[ScoreTable]:
    """Read a folder of score files or a leaderboard file for each system, and put the published results beside them.

    Without a benchmark's name the datasets say which one it is. Raises ConfigError and StoreError as `read_result` does.
    """
    if benchmark is not None and benchmark not in BENCHMARKS:
        raise ConfigError(f"benchmark {benchmark!r}: choose from {', '.join(BENCHMARKS)}")
    choices = [BENCHMARKS[benchmark]] if benchmark else list(BENCHMARKS.values())
    read = [(path, read_result(path, choices)) for path in dict.fromkeys(paths)]
    tables = []
    for wanted in choices:
        own = [(path, result) for path, result in read if result.benchmark is wanted]
        if not own:
            continue
        others = published(wanted)
        systems = (*(result for _, result in own), *others)
        names = [result.name for result in systems]
        labels = (
            *(result.name if names.count(result.name) == 1 else f"{result.name} ({path})" for path, result in own),
            *(f"{result.name}, published" for result in others),
        )
        tables.append(ScoreTable(wanted, systems, tuple(map(aggregate, systems)), labels, len(own), pair_systems(own)))
    return tables


def console_rows(table: ScoreTable) -> tuple[list[str], list[list[str]], list[str]]:
    """Return column names, one row of text for each column of the paper, and the footnotes."""
    numbers: dict[str, int] = {}
    rows = []
    for column in table.benchmark.columns:
        row = [column]
        for system, _ in enumerate(table.systems):
            values = table.columns[system].values
            text = _percent(values[column]) if column in values else _DASH
            note = _note(table, system, column)
            row.append(f"{text} [{numbers.setdefault(note, len(numbers) + 1)}]" if note else text)
        rows.append(row)
    footnotes = [f"[{number}] {note}" for note, number in numbers.items()]
    for label, result in zip(table.labels, table.systems, strict=True):
        footnotes += [f"{label}, {name}: {remark}" for name, remark in result.remarks.items() if name not in table.benchmark.columns]
    return ["column", *table.labels], rows, footnotes


def _note(table: ScoreTable, system: int, column: str) -> str:
    """Return the footnote of a cell: why it is empty, or a remark; "" for most."""
    result, columns = table.systems[system], table.columns[system]
    if column not in columns.missing:
        return columns.notes.get(column, "")
    if not result.scores:
        return "its source does not print it"
    missing, members = columns.missing[column], table.benchmark.members(column)
    reasons = result.shortfalls()
    if len(missing) == len(members) and all(name not in result.scores for name in members):
        return "no dataset of this column was evaluated"
    names = [name if name not in result.scores else f"{name} ({reasons[name]})" for name in missing]
    return f"no mean without {_some(names)} ({len(missing)} of {len(members)} datasets)"


def _percent(value: float) -> str:
    """Write a fraction in percent with one decimal; a half goes up, as papers round."""
    return f"{100 * value + 1e-9:.1f}"


def difference_tables(table: ScoreTable) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return for each pair of own systems a title, column names and rows of text: columns of the paper, then datasets."""
    shown = []
    for pair in table.pairs:
        title = f"{table.labels[pair.later]} minus {table.labels[pair.earlier]}, in points"
        rows = [[name, score_charts.difference_text(difference)] for name, difference in {**pair.columns, **pair.datasets}.items()]
        if rows:
            shown.append((title, ["column or dataset", "difference (95 % interval)"], rows))
    return shown


def pair_notes(table: ScoreTable) -> list[str]:
    """Return for each pair of own systems which datasets are not compared, and why."""
    notes = []
    for pair in table.pairs:
        reasons: dict[str, list[str]] = {}
        for name, reason in pair.refused.items():
            reasons.setdefault(reason.replace(f" ({name}{PREDICTION_SUFFIX})", " beside its scores"), []).append(name)
        between = f"{table.labels[pair.later]} minus {table.labels[pair.earlier]}"
        if not pair.datasets and not pair.refused:
            notes.append(f"{between}: no dataset that both were evaluated on")
        notes += [f"{between}, not compared: {_some(names)}: {reason}" for reason, names in reasons.items()]
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")


def tables_json(tables: Sequence[ScoreTable]) -> dict[str, Any]:
    """Return the tables as JSON values: means and scores are fractions in 0..1, what is missing is listed in full."""
    return {
        table.benchmark.name: [
            {
                "name": label,
                "own": place < table.num_own,
                "source": result.source,
                "columns": columns.values,
                "missing": columns.missing,
                "notes": columns.notes,
                "datasets": _counted(result),
                "not_counted": result.shortfalls() if result.scores else {},
                "remarks": dict(result.remarks),
                "differences": {
                    table.labels[pair.earlier]: {
                        "columns": {name: figure_row(difference) for name, difference in pair.columns.items()},
                        "datasets": {name: figure_row(difference) for name, difference in pair.datasets.items()},
                        "not_compared": dict(pair.refused),
                    }
                    for pair in table.pairs
                    if pair.later == place
                },
            }
            for place, (label, result, columns) in enumerate(zip(table.labels, table.systems, table.columns, strict=True))
        ]
        for table in tables
    }


def _counted(result: Result) -> dict[str, float]:
    short = result.shortfalls()
    return {row.name: result.scores[row.name][row.metric] for row in result.benchmark.datasets if row.name not in short}


def write_tables(tables: Sequence[ScoreTable], out: Path) -> None:
    """Write tables.json and tables.html into `out`. Raises StoreError."""
    write_report(tables_json(tables), out / "tables.json")
    write_html(render_page("Beside the published results", tables_lead(tables), *tables_html(tables)), out / "tables.html")


def tables_lead(tables: Sequence[ScoreTable]) -> Markup:
    """Say in a sentence per own system what it reaches over all datasets, or how many of them it lacks."""
    sentences = []  # name, words, figure in bold, words
    for table in tables:
        last, num_datasets = list(table.benchmark.columns)[-1], len(table.benchmark.datasets)
        datasets = f"{num_datasets} datasets of {table.benchmark.name}"
        for name, columns in zip(table.labels[: table.num_own], table.columns, strict=False):
            if last in columns.values:
                sentences.append((name, "reaches ", f"{_percent(columns.values[last])} %", f" over the {datasets}."))
            else:
                num_found = num_datasets - len(columns.missing[last])
                sentences.append((name, f"was evaluated on {num_found} of the {datasets}: no mean over all.", "", ""))
        for pair in table.pairs:
            if last in pair.columns:
                difference = score_charts.difference_text(pair.columns[last])
                words = f"minus {table.labels[pair.earlier]}: {difference} points, with a 95 % interval."
                sentences.append((table.labels[pair.later], words, "", ""))
    return fragment("score_tables", "lead", sentences=sentences)


def tables_html(tables: Sequence[ScoreTable]) -> list[Markup]:
    """Return one HTML section per benchmark: charts, the table with its footnotes, every dataset, and the sources."""
    return [fragment("score_tables", "section", table=_section(table)) for table in tables]


def _section(table: ScoreTable) -> dict[str, Any]:
    heads, rows, footnotes = console_rows(table)
    scores = [_counted(result) for result in table.systems]
    columns, series = table.column_series, table.series
    return {
        "name": table.benchmark.name,
        "legend": score_charts.legend(series),
        "radar": score_charts.radar(score_charts.axes(table.benchmark, columns), columns),
        "heads": heads,
        "rows": rows,
        "footnotes": footnotes,
        "columns": _column_bars(table),
        "differences": _differences(table),
        "pair_notes": pair_notes(table),
        "bars": score_charts.dataset_bars(table.benchmark, series),
        "dataset_heads": ["dataset", "metric", *table.labels],
        "datasets": [
            [row.name, row.metric, *(_percent(by_name[row.name]) if row.name in by_name else None for by_name in scores)]
            for row in table.benchmark.datasets
        ],
        "sources": [(label, result.source) for label, result in zip(table.labels, table.systems, strict=True) if result.source],
    }


def _differences(table: ScoreTable) -> list[tuple[str, Markup | str, Markup | str]]:
    """Draw how own systems differ: title, the chart that is shown, and the chart of every dataset where columns are shown."""
    drawn = []
    for pair in table.pairs:
        if pair.datasets:
            title = f"{table.labels[pair.later]} minus {table.labels[pair.earlier]}"
            every = score_charts.differences(pair.datasets)
            drawn.append((title, score_charts.differences(pair.columns), every) if pair.columns else (title, every, ""))
    return drawn


def _column_bars(table: ScoreTable) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return for each column a bar for each system that has it."""
    panels = []
    for column in table.benchmark.columns:
        bars = [
            {
                "label": label,
                "value": f"{_percent(columns.values[column])} %",
                "length": f"{100 * min(columns.values[column], 1):.2f}%",
                "style": "" if place < table.num_own else "plain",
                "is_main": place < table.num_own,
            }
            for place, (label, columns) in enumerate(zip(table.labels, table.columns, strict=True))
            if column in columns.values
        ]
        if bars:
            panels.append((column, bars))
    return panels
