"""Figures of a report as HTML: bar charts with their intervals (inline SVG) and tables."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean
from typing import Any

SYSTEM_LABELS = {
    "plain": "no T-CoT",
    "before_rl": "T-CoT, before RL",
    "live_rl": "T-CoT, live RL",
    "after_rl": "T-CoT, after RL",
    "ceiling": "ground-truth T-CoT",
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
    "evidence/box_iou50": "boxes right",
    "evidence/box_recall": "boxes found",
    "evidence/key_frame_f1": "key frames (F1)",
    "evidence/keyword_precision": "keywords right",
    "claims/precision": "claims right",
    "claims/recall": "facts named",
}


def system_label(name: str) -> str:
    """Return what people read for a system; an unknown name stands for itself."""
    return SYSTEM_LABELS.get(name, name)


def number(value: float, form: str = ".1f") -> str:
    """Write a number with a typographic minus."""
    return f"{value:{form}}".replace("-", "\u2212")


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal."""
    return f"{number(100 * fraction)} %"


def span(row: Mapping[str, Any], scale: float = 100) -> str:
    """Write an interval, its bounds parted by a dash."""
    return " \u2013 ".join(number(scale * bound) for bound in row["ci95"])


def lookup(group: Mapping[str, Any], figure: str) -> Mapping[str, Any] | None:
    """Find a figure by its nested name ("evidence/box_iou50"); None if it is not defined."""
    for part in figure.split("/"):
        group = group.get(part, {})
    return group or None


def bars(systems: Mapping[str, Any], figure: str = "hit@1") -> str:
    """Draw one small chart per modality and one over all: a bar and its interval per system."""
    groups = [group for group in GROUP_LABELS if any(group in system for system in systems.values())]
    charts = []
    for group in groups:
        rows = [_bar(name, row) for name, system in systems.items() if (row := lookup(system.get(group, {}), figure))]
        charts.append(f"<section><h3>{GROUP_LABELS[group]}</h3>{''.join(rows)}</section>")
    return f'<div class="charts">{"".join(charts)}</div>'


def _bar(name: str, row: Mapping[str, Any]) -> str:
    value, (low, high) = row["value"], row["ci95"]
    style = {"plain": "plain", "ceiling": "ceiling", "before_rl": "before"}.get(name, "")
    label = escape(system_label(name))
    return (
        f'<div class="bar{"" if style in ("plain", "ceiling") else " main"}"><span class="name">{label}</span>'
        f'<span class="num" title="95 % interval {span(row)} %">{percent(value)}</span>'
        f'<svg role="img" aria-label="{label}: {percent(value)}, 95 % interval {span(row)} %">'
        f'<rect class="track" y="3" width="100%" height="8" rx="4"/>'
        f'<rect class="fill {style}" y="3" width="{_share(value)}" height="8" rx="4"/>'
        f'<line class="whisker" x1="{_share(low)}" x2="{_share(high)}" y1="7" y2="7"/>'
        f'<line class="whisker" x1="{_share(low)}" x2="{_share(low)}" y1="3.5" y2="10.5"/>'
        f'<line class="whisker" x1="{_share(high)}" x2="{_share(high)}" y1="3.5" y2="10.5"/></svg></div>'
    )


def _share(fraction: float) -> str:
    return f"{100 * min(max(fraction, 0), 1):.2f}%"


def curves(rows: Sequence[Mapping[str, float]], names: Mapping[str, str], *, window: int = 8) -> str:
    """Draw one small chart per figure (name in the metrics -> label): a dot a step, and the mean of the last `window` steps.

    Where there are fewer steps than that, it is the mean of all so far.
    """
    charts = []
    for name, label in names.items():
        points = series(rows, name)
        if len(points) >= 2:
            charts.append(f"<section><h3>{escape(label)}</h3>{_curve(points, label, window)}</section>")
    return f'<div class="charts">{"".join(charts)}</div>'


def series(rows: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Return (step, value) of one figure, of the reports that have it."""
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Return at each place the mean of the last `window` values, or of as many as there are."""
    return [fmean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def _curve(points: Sequence[tuple[float, float]], label: str, window: int) -> str:
    values = [value for _, value in points]
    whole = window if len(points) > window else 1  # the first mean that is of a whole window
    means = running_mean(values, window)[whole - 1 :]
    low, high = min(values), max(values)
    first, last = points[0][0], points[-1][0]

    def place(step: float, value: float) -> tuple[float, float]:
        return 300 * (step - first) / (last - first), 95 - 85 * (value - low) / ((high - low) or 1)

    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in (place(*point) for point in points))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(step, mean) for (step, _), mean in zip(points[whole - 1 :], means, strict=True)))
    ends = f"{number(means[0], '.3g')} → {number(means[-1], '.3g')}"
    return (
        f'<svg class="curve" viewBox="-4 0 308 100" role="img" aria-label="{escape(label)} by step, running mean {ends}">'
        f'{dots}<polyline class="mean" points="{line}"/></svg>'
        f'<p class="meta num">{ends} over {last - first + 1:.0f} steps</p>'
    )


def tcot_table(systems: Mapping[str, Any]) -> str:
    """Tabulate what the T-CoTs of each system are worth, as far as it can be measured; "" if no system has any."""
    with_tcots = {name: system["overall"] for name, system in systems.items() if lookup(system["overall"], "tcot_valid")}
    figures = [name for name in TCOT_FIGURES if any(lookup(group, name) for group in with_tcots.values())]
    rows = []
    for name, group in with_tcots.items():
        cells = []
        for figure in figures:
            row = lookup(group, figure)
            scale = 1 if figure == "tcot_tokens" else 100
            unit = "" if figure == "tcot_tokens" else " %"
            cells.append(f"<td>{scale * row['value']:.1f}{unit}<small>{span(row, scale)}</small></td>" if row else _NONE)
        rows.append(f"<tr><td>{escape(system_label(name))}</td>{''.join(cells)}</tr>")
    return table(["T-CoTs", *(TCOT_FIGURES[name] for name in figures)], rows) if rows else ""


def task_table(report: Mapping[str, Any], figure: str = "hit@1") -> str:
    """Tabulate one figure of every task and system."""
    systems = report["systems"]
    rows = []
    for task, pool in report["pools"].items():
        found = [lookup(system["tasks"][task], figure) for system in systems.values()]
        cells = "".join(f"<td>{percent(row['value'])}<small>{span(row)}</small></td>" if row else _NONE for row in found)
        rows.append(
            f"<tr><td>{escape(task)}<small>{pool['num_queries']} queries, {pool['num_candidates']} candidates</small></td>{cells}</tr>"
        )
    return table(["Task", *(escape(system_label(name)) for name in systems)], rows)


_NONE = "<td>\u2013</td>"


def table(heads: Sequence[str], rows: Sequence[str]) -> str:
    """Render a table that scrolls sideways; heads and rows are HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
