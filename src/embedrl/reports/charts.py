"""Figures of a report as HTML: bar charts with their intervals (inline SVG) and tables."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from embedrl.evaluation.grounding import FIGURES
from embedrl.reports.templates import fragment

SYSTEM_LABELS = {
    "plain": "no T-CoT",
    "before_rl": "T-CoT, before RL",
    "live_rl": "T-CoT, live RL",
    "after_rl": "T-CoT, after RL",
    "ceiling": "true T-CoT",
}
SYSTEM_PHRASES = {
    "plain": "embedded as they are",
    "before_rl": "with the T-CoTs of the Reasoner before RL",
    "live_rl": "with the T-CoTs of the Reasoner trained here",
    "after_rl": "with the T-CoTs of the Reasoner after RL",
    "ceiling": "with the true T-CoTs",
}
GROUP_LABELS = {"overall": "All tasks", "image": "Images", "video": "Videos", "visdoc": "Document pages"}
TCOT_FIGURES = {
    "tcot_valid": "valid",
    "tcot_tokens": "length",
    **{f"evidence/{name}": figure.label for name, figure in FIGURES.items()},
    "claims/precision": "claims right",
    "claims/true": "statements true",
    "claims/invents": "queries that say more than was asked",
    "claims/recall": "facts named",
}


def system_label(name: str) -> str:
    """Return the display name of a system; unknown names are unchanged."""
    return SYSTEM_LABELS.get(name, name)


def number(value: float, form: str = ".1f") -> str:
    """Format a number with a typographic minus."""
    return f"{value:{form}}".replace("-", "\u2212")


def percent(fraction: float) -> str:
    """Format a fraction as a percentage with one decimal."""
    return f"{number(100 * fraction)} %"


def span(row: Mapping[str, Any], scale: float = 100) -> str:
    """Format an interval."""
    return " \u2013 ".join(number(scale * bound) for bound in row["ci95"])


def lookup(group: Mapping[str, Any], figure: str) -> Mapping[str, Any] | None:
    """Return a figure by its nested name ("evidence/box_iou50"); None if undefined."""
    for part in figure.split("/"):
        group = group.get(part, {})
    return group or None


def bars(systems: Mapping[str, Any]) -> Markup:
    """Draw hit@1 as one small chart per modality and one over all: a bar with its interval per system."""
    groups = [group for group in GROUP_LABELS if any(group in system for system in systems.values())]
    rows = {
        GROUP_LABELS[group]: [_bar(name, row) for name, system in systems.items() if (row := lookup(system.get(group, {}), "hit@1"))]
        for group in groups
    }
    return fragment("charts", "bars", groups=list(rows.items()))


def _bar(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    style = {"plain": "plain", "ceiling": "ceiling", "before_rl": "before"}.get(name, "")
    return {
        "label": system_label(name),
        "value": percent(row["value"]),
        "length": _share(row["value"]),
        "style": style,
        "is_main": style not in ("plain", "ceiling"),
        "interval": span(row),
        "whisker": [_share(bound) for bound in row["ci95"]],
    }


def _share(fraction: float) -> str:
    return f"{100 * min(max(fraction, 0), 1):.2f}%"


def curves(rows: Sequence[Mapping[str, float]], names: Mapping[str, str], *, window: int = 8) -> Markup:
    """Draw one small chart per figure (name in the metrics -> label): a dot a step, and the mean of the last `window` steps.

    Where there are fewer steps than that, it is the mean of all so far.
    """
    points = {label: series(rows, name) for name, label in names.items()}
    return fragment("charts", "curves", charts=[_curve(values, label, window) for label, values in points.items() if len(values) >= 2])


def series(rows: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Return [(step, value)] of one figure."""
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return the running mean over the last `window` values, or fewer at the start."""
    return [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def _curve(points: Sequence[tuple[float, float]], label: str, window: int) -> dict[str, Any]:
    values = [value for _, value in points]
    whole = window if len(points) > window else 1  # the first mean that is of a whole window
    means = running_mean(values, window)[whole - 1 :]
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]

    def place(step: float, value: float) -> tuple[float, float]:
        return 300 * (step - first) / (last - first), 95 - 85 * (value - low) / ((high - low) or 1)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(step, mean) for (step, _), mean in zip(points[whole - 1 :], means, strict=True)))
    ends = f"{number(means[0], '.3g')} → {number(means[-1], '.3g')}"
    dots = [place(*point) for point in points]
    axes = {"low": number(low, ".3g"), "high": number(high, ".3g"), "first": f"{first:.0f}", "last": f"{last:.0f}"}
    return {"label": label, "ends": ends, "dots": dots, "line": line, "num_steps": f"{last - first + 1:.0f}", **axes}


def tcot_table(systems: Mapping[str, Any]) -> Markup | None:
    """Tabulate T-CoT figures of each system; None if no system has any."""
    with_tcots = {name: system["overall"] for name, system in systems.items() if lookup(system["overall"], "tcot_valid")}
    figures = [name for name in TCOT_FIGURES if any(lookup(group, name) for group in with_tcots.values())]
    rows = []
    for name, group in with_tcots.items():
        cells: list[Any] = [system_label(name)]
        for figure in figures:
            row = lookup(group, figure)
            scale, unit = (1, "") if figure == "tcot_tokens" else (100, " %")
            cells.append((f"{scale * row['value']:.1f}{unit}", span(row, scale)) if row else None)
        rows.append(cells)
    return table(["T-CoTs", *(TCOT_FIGURES[name] for name in figures)], rows) if rows else None


def task_table(report: Mapping[str, Any]) -> Markup:
    """Tabulate hit@1 of every task and system."""
    systems = report["systems"]
    rows = []
    for task, pool in report["pools"].items():
        cells = [lookup(system["tasks"][task], "hit@1") for system in systems.values()]
        counts = f"{pool['num_queries']} queries, {pool['num_candidates']} candidates"
        rows.append([(task, counts), *((percent(row["value"]), span(row)) if row else None for row in cells)])
    return table(["Task", *map(system_label, systems)], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup:
    """Render a table that scrolls sideways. A cell is a text, a pair (text, small print) or None for a dash."""
    return fragment("charts", "table", heads=heads, rows=rows)
