"""What got worse from one system of a report to a later one: told as plainly as what got better."""

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from embedrl.reports.charts import TCOT_FIGURES, lookup, number, percent, span, system_label, table

LOWER_IS_BETTER = frozenset({"claims/invents"})
NEUTRAL = frozenset({"tcot_tokens"})
"""Figures that are neither good nor bad."""
_SMALL = 0.0005
"""What does not show in a figure with one decimal is no change."""


def worse_table(report: Mapping[str, Any], before: str, after: str) -> Markup | None:
    """Tabulate every task whose hit@1 fell and every figure of T-CoTs that got worse; None if there is nothing of the kind."""
    rows = [*_tasks(report, before, after), *_tcots(report, before, after)]
    rows.sort(key=lambda row: row[0])
    cells = [cell for _, cell in rows]
    return table(["Worse", system_label(before), system_label(after), "change, points"], cells) if cells else None


def _tasks(report: Mapping[str, Any], before: str, after: str) -> Iterator[tuple[float, list[Any]]]:
    for task, pool in report["pools"].items():
        rows = [lookup(report["systems"][system]["tasks"][task], "hit@1") for system in (before, after)]
        if rows[0] and rows[1] and (change := rows[1]["value"] - rows[0]["value"]) < -_SMALL:
            label = (f"hit@1, {task}", f"{pool['num_queries']} queries")
            yield change, [label, percent(rows[0]["value"]), percent(rows[1]["value"]), number(100 * change, "+.1f")]


def _tcots(report: Mapping[str, Any], before: str, after: str) -> Iterator[tuple[float, list[Any]]]:
    for figure, label in TCOT_FIGURES.items():
        rows = [lookup(report["systems"][system]["overall"], figure) for system in (before, after)]
        difference = lookup(report["differences"][f"{after}-{before}"]["overall"], figure)
        if figure in NEUTRAL or not (rows[0] and rows[1]):
            continue
        change = rows[1]["value"] - rows[0]["value"]
        loss = -change if figure in LOWER_IS_BETTER else change
        if loss < -_SMALL:
            small = f"95 % interval {span(difference)}" if difference else ""
            yield loss, [f"T-CoTs: {label}", percent(rows[0]["value"]), percent(rows[1]["value"]), (number(100 * change, "+.1f"), small)]
