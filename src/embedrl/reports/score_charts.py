"""Score tables as pictures: a radar over the columns, a bar for every dataset, and differences with their intervals (inline SVG)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from embedrl.evaluate.bootstrap import Figure
from embedrl.evaluate.tables import Benchmark
from embedrl.reports.charts import number

NUM_SHADES = 4
"""Colours of own systems in report.css; a fifth system starts again."""

_RADIUS = 100.0
_NUM_RINGS = 4


@dataclass(frozen=True)
class Series:
    """One system: its name, its look and its figures in 0..1."""

    label: str
    style: str
    values: Mapping[str, float]

    @property
    def is_own(self) -> bool:
        """Whether it is drawn as a bar and a filled shape, not as a mark and an outline."""
        return self.style.startswith("own")


def style(place: int, num_own: int) -> str:
    """Return the look of a system by its place; own ones come first."""
    return f"own{place % NUM_SHADES}" if place < num_own else f"other{(place - num_own) % NUM_SHADES}"


def legend(series: Sequence[Series]) -> str:
    """List the systems, each with its colour."""
    rows = "".join(f'<li><i class="key {one.style}"></i>{escape(one.label)}</li>' for one in series)
    return f'<ul class="legend">{rows}</ul>'


def axes(benchmark: Benchmark, series: Sequence[Series]) -> list[str]:
    """Return the columns that no other column is a part of, as far as every own system has them."""
    members = {column: set(benchmark.members(column)) for column in benchmark.columns}
    smallest = [column for column in members if not any(other < members[column] for other in members.values())]
    return [column for column in smallest if all(column in one.values for one in series if one.is_own)]


def radar(names: Sequence[str], series: Sequence[Series]) -> str:
    """Draw one shape for each system that has every axis; "" for fewer than three axes."""
    drawn = [one for one in series if all(name in one.values for name in names)]
    if len(names) < 3 or not drawn:
        return ""
    top = min(1.0, math.ceil(5 * max(one.values[name] for one in drawn for name in names) + 1e-9) / 5)
    angles = [2 * math.pi * place / len(names) for place in range(len(names))]

    def point(angle: float, share: float) -> tuple[float, float]:
        return _RADIUS * share * math.sin(angle), -_RADIUS * share * math.cos(angle)

    def outline(shares: Sequence[float]) -> str:
        places = (point(angle, share) for angle, share in zip(angles, shares, strict=True))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)

    rings = [place / _NUM_RINGS for place in range(1, _NUM_RINGS + 1)]
    grid = "".join(f'<polygon class="ring" points="{outline([ring] * len(names))}"/>' for ring in rings)
    spokes = ""
    for name, angle in zip(names, angles, strict=True):
        x, y = point(angle, 1)
        along, up = point(angle, 1.09)
        anchor = "middle" if abs(along) < 8 else "start" if along > 0 else "end"
        spokes += f'<line class="ring" x2="{x:.1f}" y2="{y:.1f}"/>'
        spokes += f'<text class="axis" x="{along:.1f}" y="{up + 3:.1f}" text-anchor="{anchor}">{escape(name)}</text>'
    shapes = ""
    for one in reversed(drawn):
        told = ", ".join(f"{name} {_percent(one.values[name])}" for name in names)
        points = outline([one.values[name] / top for name in names])
        shapes += f'<polygon class="shape {one.style}" points="{points}"><title>{escape(f"{one.label}: {told}")}</title></polygon>'
    marks = "".join(f'<text class="tick" x="3" y="{-_RADIUS * ring + 9:.1f}">{100 * top * ring:.0f}</text>' for ring in rings)
    label = escape(", ".join(one.label for one in drawn))
    return (
        f'<svg class="radar" viewBox="-190 -122 380 244" role="img" aria-label="{len(names)} columns of {label}, in %">'
        f"{grid}{spokes}{shapes}{marks}</svg>"
    )


def dataset_bars(benchmark: Benchmark, series: Sequence[Series]) -> str:
    """Draw every dataset that an own system has: a bar for each of those, a mark for each other system."""
    groups = []
    for modality in dict.fromkeys(row.modality for row in benchmark.datasets):
        rows = [row for row in benchmark.datasets if row.modality == modality]
        lines = [_dataset(row.name, row.metric, series) for row in rows if any(one.is_own and row.name in one.values for one in series)]
        if lines:
            groups.append(f"<section><h3>{escape(modality)}</h3>{''.join(lines)}</section>")
    return f'<div class="datasets">{"".join(groups)}</div>' if groups else ""


def _dataset(name: str, metric: str, series: Sequence[Series]) -> str:
    own = [one for one in series if one.is_own and name in one.values]
    others = [one for one in series if not one.is_own and name in one.values]
    height = 9 * len(own) + 3
    bars = "".join(
        f'<rect class="{one.style}" y="{9 * place + 2}" width="{100 * one.values[name]:.2f}%" height="7" rx="3.5"/>'
        for place, one in enumerate(own)
    )
    marks = "".join(
        f'<line class="{one.style}" x1="{100 * one.values[name]:.2f}%" x2="{100 * one.values[name]:.2f}%" y1="0" y2="{height}"/>'
        for one in others
    )
    told = escape("; ".join(f"{one.label} {_percent(one.values[name])}" for one in (*own, *others)))
    numbers = "<br>".join(_percent(one.values[name]) for one in own)
    broken = escape(name).replace("_", "_<wbr>")
    return (
        f'<div class="dataset" title="{told}"><span class="name">{broken}<small>{escape(metric)}</small></span>'
        f'<svg role="img" aria-label="{escape(name)}: {told}" height="{height}">'
        f'<rect class="track" width="100%" y="2" height="{height - 4}" rx="3.5"/>{bars}{marks}</svg>'
        f'<span class="num">{numbers}</span></div>'
    )


def differences(figures: Mapping[str, Figure]) -> str:
    """Draw differences in points beside a zero line, each with its interval; what is clear of zero is coloured."""
    if not figures:
        return ""
    low = min(0.0, *(bound for one in figures.values() for bound in one))
    high = max(0.0, *(bound for one in figures.values() for bound in one))
    return f'<div class="differences">{"".join(_difference(name, one, low, high) for name, one in figures.items())}</div>'


def _difference(name: str, one: Figure, low: float, high: float) -> str:
    scale = 100 / ((high - low) or 1.0)

    def place(value: float) -> str:
        return f"{scale * (value - low):.2f}%"

    look = "better" if one.low > 0 else "worse" if one.high < 0 else "open"
    said = difference_text(one)
    start, width = min(0.0, one.value), abs(one.value)
    return (
        f'<div class="difference {look}"><span class="name">{escape(name)}</span>'
        f'<svg role="img" aria-label="{escape(name)}: {said} points"><line class="zero" x1="{place(0)}" x2="{place(0)}" y1="0" y2="14"/>'
        f'<rect x="{place(start)}" y="4" width="{scale * width:.2f}%" height="6"/>'
        f'<line class="whisker" x1="{place(one.low)}" x2="{place(one.high)}" y1="7" y2="7"/></svg><span class="num">{said}</span></div>'
    )


def difference_text(one: Figure) -> str:
    """Write a difference in points, with its interval."""
    value, low, high = (number(100 * bound, "+.1f") for bound in one)
    return f"{value} ({low} to {high})"


def _percent(value: float) -> str:
    return f"{100 * value + 1e-9:.1f}"
