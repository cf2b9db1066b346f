"""Score tables as images: a radar over the columns, a bar for every dataset, and differences with their intervals (inline SVG)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from embedrl.evaluation.bootstrap import Figure
from embedrl.evaluation.tables import Benchmark
from embedrl.reports.charts import number
from embedrl.reports.templates import fragment

NUM_SHADES = 4
"""Colours of own systems in report.css; a fifth system starts again."""

_RADIUS = 100.0
_NUM_RINGS = 4


@dataclass(frozen=True)
class Series:
    """One system of a chart: name, style and figures in 0..1."""

    label: str
    style: str
    values: Mapping[str, float]

    @property
    def is_own(self) -> bool:
        """Whether it is drawn as a bar and a filled shape, not as a mark and an outline."""
        return self.style.startswith("own")


def style(place: int, num_own: int) -> str:
    """Return the style of a system by its index; own ones come first."""
    return f"own{place % NUM_SHADES}" if place < num_own else f"other{(place - num_own) % NUM_SHADES}"


def legend(series: Sequence[Series]) -> Markup:
    """List the systems, each with its colour."""
    return fragment("score_charts", "legend", series=series)


def axes(benchmark: Benchmark, series: Sequence[Series]) -> list[str]:
    """Return the smallest columns (not supersets of another) that every own system has."""
    members = {column: set(benchmark.members(column)) for column in benchmark.columns}
    smallest = [column for column in members if not any(other < members[column] for other in members.values())]
    return [column for column in smallest if all(column in system.values for system in series if system.is_own)]


def radar(names: Sequence[str], series: Sequence[Series]) -> Markup | str:
    """Draw a radar chart of the systems that have every axis; "" for fewer than three axes."""
    drawn = [system for system in series if all(name in system.values for name in names)]
    if len(names) < 3 or not drawn:
        return ""
    top = min(1.0, math.ceil(5 * max(system.values[name] for system in drawn for name in names) + 1e-9) / 5)
    angles = [2 * math.pi * place / len(names) for place in range(len(names))]

    def point(angle: float, share: float) -> tuple[float, float]:
        return _RADIUS * share * math.sin(angle), -_RADIUS * share * math.cos(angle)

    def outline(shares: Sequence[float]) -> str:
        places = (point(angle, share) for angle, share in zip(angles, shares, strict=True))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)

    rings = [place / _NUM_RINGS for place in range(1, _NUM_RINGS + 1)]
    spokes = []
    for name, angle in zip(names, angles, strict=True):
        (x, y), (along, up) = point(angle, 1), point(angle, 1.09)
        anchor = "middle" if abs(along) < 8 else "start" if along > 0 else "end"
        spokes.append(
            {"name": name, "x": f"{x:.1f}", "y": f"{y:.1f}", "text_x": f"{along:.1f}", "text_y": f"{up + 3:.1f}", "anchor": anchor}
        )
    shapes = [
        (
            system.style,
            outline([system.values[name] / top for name in names]),
            f"{system.label}: {', '.join(f'{name} {_percent(system.values[name])}' for name in names)}",
        )
        for system in reversed(drawn)
    ]
    return fragment(
        "score_charts",
        "radar",
        num_columns=len(names),
        label=", ".join(system.label for system in drawn),
        rings=[outline([ring] * len(names)) for ring in rings],
        spokes=spokes,
        shapes=shapes,
        marks=[(f"{-_RADIUS * ring + 9:.1f}", f"{100 * top * ring:.0f}") for ring in rings],
    )


def dataset_bars(benchmark: Benchmark, series: Sequence[Series]) -> Markup | str:
    """Draw every dataset that an own system has: a bar for each of those, a mark for each other system; "" if there is none."""
    groups = []
    for modality in dict.fromkeys(row.modality for row in benchmark.datasets):
        datasets = [row for row in benchmark.datasets if row.modality == modality]
        rows = [
            _dataset(row.name, row.metric, series)
            for row in datasets
            if any(system.is_own and row.name in system.values for system in series)
        ]
        if rows:
            groups.append((modality, rows))
    return fragment("score_charts", "datasets", groups=groups) if groups else ""


def _dataset(name: str, metric: str, series: Sequence[Series]) -> dict[str, Any]:
    own = [system for system in series if system.is_own and name in system.values]
    others = [system for system in series if not system.is_own and name in system.values]
    return {
        "name": name,
        "metric": metric,
        "height": 9 * len(own) + 3,
        "own": [(system.style, system.values[name]) for system in own],
        "others": [(system.style, system.values[name]) for system in others],
        "summary": "; ".join(f"{system.label} {_percent(system.values[name])}" for system in (*own, *others)),
        "numbers": [_percent(system.values[name]) for system in own],
    }


def differences(figures: Mapping[str, Figure]) -> Markup | str:
    """Draw differences in points beside a zero line, each with its interval; what is clear of zero is coloured."""
    if not figures:
        return ""
    low = min(0.0, *(bound for figure in figures.values() for bound in figure))
    high = max(0.0, *(bound for figure in figures.values() for bound in figure))
    return fragment("score_charts", "differences", rows=[_difference(name, figure, low, high) for name, figure in figures.items()])


def _difference(name: str, figure: Figure, low: float, high: float) -> dict[str, str]:
    scale = 100 / ((high - low) or 1.0)

    def position(value: float) -> str:
        return f"{scale * (value - low):.2f}%"

    return {
        "name": name,
        "look": "better" if figure.low > 0 else "worse" if figure.high < 0 else "open",
        "text": difference_text(figure),
        "zero": position(0),
        "start": position(min(0.0, figure.value)),
        "width": f"{scale * abs(figure.value):.2f}%",
        "low": position(figure.low),
        "high": position(figure.high),
    }


def difference_text(difference: Figure) -> str:
    """Write a difference in points, with its interval."""
    value, low, high = (number(100 * bound, "+.1f") for bound in difference)
    return f"{value} ({low} to {high})"


def _percent(value: float) -> str:
    return f"{100 * value + 1e-9:.1f}"
