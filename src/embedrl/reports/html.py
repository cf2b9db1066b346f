"""The report as one self-contained HTML page: no script, no font, no file beside it."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from embedrl.errors import unwritable
from embedrl.media.store import write_bytes
from embedrl.reports.cards import Search, search_card
from embedrl.reports.charts import SYSTEM_PHRASES, bars, curves, lookup, number, percent, span, task_table, tcot_table

_TITLE = "Does it help to reason before embedding?"


def render_html(
    report: Mapping[str, Any],
    searches: Sequence[Search] = (),
    *,
    about: str = "",
    curve: Sequence[Mapping[str, float]] = (),
    num_tasks: int = 1,
) -> str:
    """Render a report (see `evaluate.report`), some searches, and the metrics of a live RL run, whose steps took turns with `num_tasks`.

    `about` says in a sentence what was evaluated.
    """
    systems = report["systems"]
    searched = f"<h2>What it finds, and why</h2>{_SEARCH_NOTE}{''.join(map(search_card, searches))}" if searches else ""
    tcots = tcot_table(systems)
    return render_page(
        _TITLE,
        f"{_lead(report)}{f'<p>{escape(about)}</p>' if about else ''}",
        f"<h2>The right target first</h2>{_CHART_NOTE}{bars(systems)}<details><summary>Every task</summary>{task_table(report)}</details>",
        f"<h2>Watching it learn</h2>{_CURVE_NOTE}{curves(curve, CURVES, window=num_tasks)}" if curve else "",
        f"<h2>What the T-CoTs are worth</h2>{_TCOT_NOTE}{tcots}" if tcots else "",
        searched,
        _footer(report),
    )


def render_page(title: str, lead: str, *sections: str) -> str:
    """Put HTML sections under a title and a lead, in the house style."""
    style = (files("embedrl.reports") / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"""
        f"<title>embedrl report</title><style>{style}</style></head><body><main>"
        f'<header><p class="eyebrow">embedrl report</p><h1>{escape(title)}</h1>{lead}</header>'
        f"{''.join(sections)}</main></body></html>\n"
    )


def write_html(page: str, path: Path) -> None:
    """Write a rendered page, whole or not at all. Raises StoreError."""
    try:
        write_bytes(path, page.encode())
    except OSError as error:
        raise unwritable(path, error) from error


_CHART_NOTE = (
    '<p class="note">hit@1: the share of queries whose right target is ranked first. The thin line across the end of a bar is '
    "its 95 % interval.</p>"
)
_CURVE_NOTE = (
    '<p class="note">The live run of this quickstart: what the frozen Embedder pays for T-CoTs, step by step (dots). Each step is '
    "a batch of another task, so single steps jump; the line is the mean of the last steps in which each task had its turn.</p>"
)
CURVES = {"rl/reward": "reward", "rl/reward/accuracy": "partner told from negatives", "rl/completions/mean_length": "T-CoT length, tokens"}
_TCOT_NOTE = (
    '<p class="note">Measured on the T-CoTs of queries and of their targets. A T-CoT is valid if it can be parsed and its '
    "evidence exists in the medium; its length is in tokens; the other columns compare it with what is known to be true.</p>"
)
_SEARCH_NOTE = (
    '<p class="note">Searches in the indexed library. Boxes and highlighted frames are the evidence that the T-CoT of a hit '
    "points at; marked words are its keywords. Dashed boxes stand for evidence that could not be verified.</p>"
)


def _lead(report: Mapping[str, Any]) -> str:
    """Say in words what the first system, the last one before the ceiling, and the ceiling reach."""
    systems = report["systems"]
    scores = {name: row for name, system in systems.items() if (row := lookup(system["overall"], "hit@1"))}
    steps = [name for name in scores if name != "ceiling"]
    if not steps:
        return ""
    first, last = steps[0], steps[-1]
    sentences = [f"{_phrase(first)}, <b>{percent(scores[first]['value'])}</b> of all queries find their target first."]
    if last != first:
        row = lookup(report["differences"][f"{last}-{first}"]["overall"], "hit@1")
        assert row is not None, "a figure that both systems have has a difference"
        change = number(100 * row["value"], "+.1f")
        clear = row["ci95"][0] > 0 or row["ci95"][1] < 0
        sentences.append(
            f"{_phrase(last)}, <b>{percent(scores[last]['value'])}</b> do: {change} points "
            f"(95 % interval {span(row)}){'' if clear else ', which is no clear difference'}."
        )
    if "ceiling" in scores:
        sentences.append(f"{_phrase('ceiling')}, known only in a generated world, <b>{percent(scores['ceiling']['value'])}</b> do.")
    return f'<p class="lead">{" ".join(sentences)}</p>'


def _phrase(system: str) -> str:
    phrase = SYSTEM_PHRASES.get(system, f"with {system}")
    return escape(phrase[0].upper() + phrase[1:])


def _footer(report: Mapping[str, Any]) -> str:
    return (
        f'<footer class="note"><p>{report["num_queries"]:,} queries and {report["num_candidates"]:,} candidates in {len(report["pools"])} '
        f"tasks, seed {report['seed']}, {report['seconds']:.0f} seconds. Every group of tasks is the unweighted mean of its tasks. "
        "Intervals are percentiles of a paired bootstrap over queries, within tasks. The same figures stand in "
        "<code>report.json</code>.</p></footer>"
    )
