"""Training curves of run folders, and figures with their intervals, in one plot."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure as Canvas

from embedrl.config import METRICS, read_metrics
from embedrl.errors import ConfigError, StoreError
from embedrl.evaluation.bootstrap import Figure
from embedrl.reports.charts import running_mean, series

_MAX_FIGURES = 12
_WINDOW = 10


def plot_curves(runs: Sequence[Path], out: Path, *, figures: Sequence[str] = ()) -> int:
    """Draw figures of runs (folders, or metrics files) by step: dots, and their running mean.

    Without `figures`, every figure that changes is drawn. Returns how many panels there are. Raises ConfigError for a figure that
    no run has, StoreError for files that cannot be read or written.
    """
    tables = {run.stem if run.is_file() else run.name: read_metrics(run if run.is_file() else run / METRICS) for run in runs}
    known = sorted({name for rows in tables.values() for row in rows for name in row if name not in ("step", "seconds")})
    if unknown := [name for name in figures if name not in known]:
        raise ConfigError(f"--figure {unknown[0]!r}: choose from {', '.join(known)}")
    chosen = list(figures) or [name for name in known if _changes(tables.values(), name)][:_MAX_FIGURES]
    if not chosen:
        raise ConfigError("nothing to draw: no figure of these runs changes")
    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    figure, panels = plt.subplots(lines, columns, figsize=(4.2 * columns, 2.8 * lines), squeeze=False, layout="constrained")
    for panel in panels.flat[len(chosen) :]:
        panel.set_visible(False)
    for panel, name in zip(panels.flat, chosen, strict=False):
        for label, rows in tables.items():
            points = series(rows, name)
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            colour = panel.plot(steps, running_mean(values, _WINDOW), linewidth=1.8, label=label)[0].get_color()
            panel.plot(steps, values, ".", markersize=3, alpha=0.35, color=colour)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("step", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    if len(tables) > 1:
        panels.flat[0].legend(fontsize=8, frameon=False)
    _save(figure, out)
    return len(chosen)


def plot_intervals(lines: Mapping[str, Mapping[float, Figure]], out: Path, *, x_label: str, y_label: str) -> None:
    """Draw figures with their 95 % intervals in %: a line each, by place on the x axis. Raises StoreError where it cannot be written."""
    figure, panel = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for label, points in lines.items():
        places = sorted(points)
        values, lows, highs = ([100 * getattr(points[place], name) for place in places] for name in ("value", "low", "high"))
        colour = panel.plot(places, values, "o-", linewidth=1.8, markersize=4, label=label)[0].get_color()
        panel.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)
    panel.set_xticks(sorted({place for points in lines.values() for place in points}))
    panel.set_ylim(0, 100)
    panel.set_xlabel(x_label, fontsize=9)
    panel.set_ylabel(y_label, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False)
    _save(figure, out)


def _save(figure: Canvas, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(out)!r}: the plot cannot be written ({error}); give a name that ends in .png or .svg") from error
    finally:
        plt.close(figure)


def _changes(tables: Iterable[list[dict[str, float]]], name: str) -> bool:
    return len({value for rows in tables for _, value in series(rows, name)}) > 1
