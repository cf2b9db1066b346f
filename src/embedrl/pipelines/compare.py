"""Per-query comparison of two Reasoners: evaluation, and HTML page with the largest gains and losses."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from embedrl.data.tcot import tcot_or_none
from embedrl.evaluation.compare import Case, Change, case_row, compare, extremes
from embedrl.evaluation.evaluate import evaluate
from embedrl.evaluation.report import write_report
from embedrl.evaluation.world import world_tasks
from embedrl.reports.cards import checked_side, content, tcot_block
from embedrl.reports.charts import number
from embedrl.reports.html import render_page, write_html
from embedrl.reports.templates import fragment
from embedrl.runtime.names import load_embedder, load_reasoner

NUM_SHOWN = 3
NUM_RANDOM = 20
COLUMNS = (
    "task",
    "cosine",
    "rank",
    "dropped",
    "added",
    "of what was dropped, noise by the truth",
    "true",
    "added, but not true or not asked",
)


class Comparison(NamedTuple):
    """All cases by descending gain, and those that are shown."""

    cases: list[Case]
    gains: list[Case]
    losses: list[Case]
    random: list[Case]
    """Random sample of the cases."""


def compare_reasoners(
    before: str, after: str, embedder: str, out: Path, *, num_queries: int = 20, pool_size: int = 256, seed: int = 0, world: str = "roomy"
) -> Comparison:
    """Evaluate two Reasoners on a world's held-out tasks; write compare.json and compare.html into `out`."""
    embeds = load_embedder(embedder)
    tasks = world_tasks(seed=seed, num_queries=num_queries, pool_size=pool_size, world=world)
    systems = [evaluate(tasks, embeds, name=name, reasoner=load_reasoner(name)) for name in dict.fromkeys((before, after))]
    cases = compare(tasks, systems[0], systems[-1])
    drawn = random.Random(f"compare:{seed}").sample(cases, min(NUM_RANDOM, len(cases)))
    comparison = Comparison(cases, *extremes(cases, NUM_SHOWN), drawn)
    record = {"before": before, "after": after, "embedder": embedder, "seed": seed, "cases": [case_row(case) for case in cases]}
    record["random"] = [case_row(case) for case in drawn]
    write_report(record, out / "compare.json")
    sections = [
        fragment("compare", "section", title=title, cards=list(map(case_card, shown)))
        for title, shown in (
            ("Largest gains", comparison.gains),
            ("Largest losses", comparison.losses),
            ("Drawn at random", comparison.random),
        )
    ]
    write_html(render_page("What did RL change?", _lead(cases, before, after), *sections), out / "compare.html")
    return comparison


def case_rows(cases: Sequence[Case]) -> list[list[str]]:
    """Return rows of a console table, in the order of `COLUMNS`."""
    return [
        [
            case.task,
            f"{case.cosine[0]:.4f} → {case.cosine[1]:.4f}",
            f"{case.rank[0]} → {case.rank[1]}",
            "; ".join((*case.query.dropped, *case.target.dropped)),
            "; ".join((*case.query.added, *case.target.added)),
            "; ".join((*case.query.noise, *case.target.noise)),
            "; ".join((*case.query.lost, *case.target.lost)),
            "; ".join((*case.query.invented, *case.target.invented)),
        ]
        for case in cases
    ]


def _lead(cases: Sequence[Case], before: str, after: str) -> Markup:
    mean = [f"{sum(case.cosine[side] for case in cases) / len(cases):.3f}" for side in (0, 1)]
    first = [sum(case.rank[side] == 1 for case in cases) for side in (0, 1)]
    return fragment("compare", "lead", before=before, after=after, num_queries=len(cases), mean=mean, first=first)


def case_card(case: Case, plain_rank: int | None = None) -> Markup:
    """Render one case: query and target, each with its T-CoT before and after; `plain_rank` is the target's without any T-CoT."""
    figures = f"cosine {case.cosine[0]:.3f} → {case.cosine[1]:.3f} ({number(case.gain, '+.3f')}), rank {case.rank[0]} → {case.rank[1]}"
    figures += "" if plain_rank is None else f" (without T-CoTs {plain_rank})"
    changes = [_change("Query", case.query), _change("Target", case.target)]
    return fragment("compare", "case", task=case.task, figures=figures, changes=changes)


def _change(title: str, change: Change) -> tuple[str, list[tuple[str, Markup, Markup]], list[tuple[str, str, tuple[str, ...]]]]:
    sides = []
    outcomes = (("before", change.before), ("after", change.after))
    for (when, outcome), num_frames in zip(outcomes, change.num_frames, strict=True):
        side = checked_side(change.item, tcot_or_none(outcome), num_frames)
        sides.append((when, content(side), tcot_block(side)))
    edits = [
        ("dropped", "del", change.dropped),
        ("added", "ins", change.added),
        ("dropped, noise by the truth", "del", change.noise),
        ("dropped, though true", "del", change.lost),
        ("added, without the truth", "ins", change.invented),
    ]
    return title, sides, edits
