"""The report as one self-contained HTML page: no script, no font, no file beside it."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from embedrl.files import write_bytes
from embedrl.reports.cards import Search, search_card
from embedrl.reports.changes import worse_table
from embedrl.reports.charts import SYSTEM_PHRASES, bars, curves, lookup, number, percent, span, task_table, tcot_table
from embedrl.reports.templates import fragment, page

_TITLE = "Does it help to reason before embedding?"


def render_html(
    report: Mapping[str, Any],
    searches: Sequence[Search] = (),
    *,
    about: str = "",
    curve: Sequence[Mapping[str, float]] = (),
    num_tasks: int = 1,
    trained: tuple[str, str] | None = None,
    cases: Sequence[Markup] = (),
    following: Sequence[tuple[str, str]] = (),
) -> str:
    """Render a report (see `evaluate.report`), some searches, and the metrics of a live RL run, whose steps took turns with `num_tasks`.

    `about` says in a sentence what was evaluated. `trained` names the systems before and after the training of this run, which then lead
    the page; `cases` show the same queries with both; `following` are (what for, command) of what may come next.
    """
    systems = report["systems"]
    tcots = tcot_table(systems)
    compared = trained or next(((before, after) for before, after in _PAIRS if before in systems and after in systems), None)
    worse = worse_table(report, *compared) if compared else None
    return render_page(
        _TITLE,
        fragment("report", "lead", sentences=_lead(report, trained, len(curve)), about=about),
        fragment("report", "hits", bars=bars(systems), tasks=task_table(report)),
        fragment("report", "cases", cases=cases) if cases else "",
        fragment("report", "worse", table=worse) if compared else "",
        fragment("report", "learning", curves=curves(curve, CURVES, window=num_tasks)) if curve else "",
        fragment("report", "tcots", table=tcots) if tcots else "",
        fragment("report", "searched", cards=list(map(search_card, searches))) if searches else "",
        fragment("report", "following", commands=following) if following else "",
        fragment("report", "footer", report=report),
    )


def render_page(title: str, lead: str, *sections: str) -> str:
    """Put HTML sections under a title and a lead, in the house style. Raises nothing; plain strings are escaped."""
    style = (files("embedrl.reports") / "report.css").read_text(encoding="utf-8")
    return page(style=Markup(style), title=title, lead=lead, sections=sections)


def write_html(html: str, path: Path) -> None:
    """Write a page, atomically. Raises StoreError."""
    write_bytes(path, html.encode())


CURVES = {
    "rl/reward": "reward, no unit",
    "rl/reward/accuracy": "partner told from negatives, share",
    "rl/completions/mean_length": "T-CoT length, tokens",
}
_PAIRS = (("before_rl", "live_rl"), ("before_rl", "after_rl"))


def _lead(report: Mapping[str, Any], trained: tuple[str, str] | None = None, num_steps: int = 0) -> list[Markup]:
    """Say in words what this run trained, and what the first system, the last one before the ceiling, and the ceiling reach."""
    return [*([_trained(report, *trained, num_steps)] if trained else []), *_reached(report)]


def _trained(report: Mapping[str, Any], before: str, after: str, num_steps: int) -> Markup:
    values = [lookup(report["systems"][system]["overall"], "hit@1") for system in (before, after)]
    row = lookup(report["differences"][f"{after}-{before}"]["overall"], "hit@1")
    assert row is not None, "systems that were trained here are evaluated"
    earlier, later = values
    assert earlier is not None
    assert later is not None
    return Markup(
        "This run trained the Reasoner for {} steps. With its T-CoTs from before, <b>{}</b> of all queries find their target first, "
        "with those from after, <b>{}</b>: {} points (95 % interval {}){}."
    ).format(
        num_steps,
        percent(earlier["value"]),
        percent(later["value"]),
        number(100 * row["value"], "+.1f"),
        span(row),
        "" if _is_clear(row) else ", which is no clear difference: so short a run is there to be watched, not to win",
    )


def _is_clear(row: Mapping[str, Any]) -> bool:
    return row["ci95"][0] > 0 or row["ci95"][1] < 0


def _reached(report: Mapping[str, Any]) -> list[Markup]:
    systems = report["systems"]
    scores = {name: row for name, system in systems.items() if (row := lookup(system["overall"], "hit@1"))}
    steps = [name for name in scores if name != "ceiling"]
    if not steps:
        return []
    first, last = steps[0], steps[-1]
    sentences = [Markup("{}, <b>{}</b> of all queries find their target first.").format(_phrase(first), percent(scores[first]["value"]))]
    if last != first:
        row = lookup(report["differences"][f"{last}-{first}"]["overall"], "hit@1")
        assert row is not None, "a figure that both systems have has a difference"
        change = number(100 * row["value"], "+.1f")
        sentences.append(
            Markup("{}, <b>{}</b> do: {} points (95 % interval {}){}.").format(
                _phrase(last), percent(scores[last]["value"]), change, span(row), "" if _is_clear(row) else ", which is no clear difference"
            )
        )
    if "ceiling" in scores:
        sentence = Markup("{}, known only in a generated world, <b>{}</b> do.")
        sentences.append(sentence.format(_phrase("ceiling"), percent(scores["ceiling"]["value"])))
    return sentences


def _phrase(system: str) -> str:
    phrase = SYSTEM_PHRASES.get(system, f"with {system}")
    return phrase[0].upper() + phrase[1:]
