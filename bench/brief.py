"""Answers alone in place of whole T-CoTs: hit@1, tokens, and how much of the gain of reasoning a quarter of the tokens keeps.

    python bench/brief.py [--tasks NAMES]      (-h: every option)

The world's image tasks with hard negatives (or others, by their names with commas between), nano models. Each item is embedded as it is,
with its whole T-CoT (`nano`) and with a bare answer (`nano?form=answer`); rows are ways to pair queries with candidates. Beside them what
whole T-CoTs keep of the gain at the brief ones' share of the tokens if only some queries get one: any, or those whose first two plain
hits are closest. Tokens are those that the Reasoner wrote, of queries and of candidates, as a share of those of whole T-CoTs. Intervals
are clustered by family, differences paired.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from _image_tasks import draw, options, seeds_of

from embedrl.data.protocols import Embeds
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, render, tcot_or_none
from embedrl.evaluation.bootstrap import Replicates, figure, mean_over_tasks, mean_percentage, replicates
from embedrl.evaluation.task import RetrievalTask
from embedrl.log import result, table
from embedrl.reasoner.local import LocalReasoner
from embedrl.runtime.names import load_embedder, load_reasoner

WHOLE, BRIEF, PLAIN = "whole", "answer", "plain"
WAYS = ((PLAIN, PLAIN), (WHOLE, WHOLE), (BRIEF, BRIEF), (BRIEF, WHOLE), (WHOLE, BRIEF))
"""Vectors of queries, and of candidates."""

Way = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """A query, ranked all ways."""

    task: str
    family: str
    hits: Mapping[Way, float]
    margin: float
    """Of the first plain hit to the second."""
    tokens: Mapping[str, int]
    """Written about it, by kind."""


def main(*arguments: str) -> None:
    """Print the table."""
    parser = options(__doc__, caches=False)
    parser.add_argument("--embedder", default="nano", help="another one")
    given = parser.parse_args(arguments)
    embedder = load_embedder(given.embedder)
    seeds = seeds_of(given)
    reasoners = {WHOLE: load_reasoner("nano"), BRIEF: load_reasoner("nano?form=answer")}
    rows: list[Measured] = []
    of_candidates: dict[str, int] = defaultdict(int)
    for seed in seeds:
        drawn = draw(given, seed)
        items = {key: item for task in drawn for key, item in task.items.items()}
        vectors, tokens = embed(items, embedder, reasoners)
        candidates = {item.key for task in drawn for item in task.candidates}
        for kind, of_item in tokens.items():
            of_candidates[kind] += sum(of_item[key] for key in candidates)
        rows += [row for task in drawn for row in rank(task, vectors, tokens, seed)]
    lines = [_line(rows, way, of_candidates) for way in WAYS]
    share = _tokens(rows, BRIEF) / _tokens(rows, WHOLE)
    for name, scores in (("some, at random", np.zeros(len(rows))), ("some, by margin", np.array([-row.margin for row in rows]))):
        kept = _kept(rows, spent_on(rows, scores, share))
        lines.append([f"{name}, whole / whole", f"{share:.2f}", "1.00", "", "", kept])
    title = f"{len(rows)} queries, seeds {', '.join(map(str, seeds))}"
    table(title, ["queries / candidates", "tokens of queries", "of candidates", "hit@1, %", "difference to whole", "gain kept"], lines)


def embed(
    items: Mapping[str, Item], embedder: Embeds, reasoners: Mapping[str, object]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, int]]]:
    """Return the vectors of items, by kind and key, and the tokens written about each."""
    shown = list(items.values())
    vectors = {PLAIN: dict(zip(items, embedder.embed(shown, [None] * len(shown)), strict=True))}
    tokens: dict[str, dict[str, int]] = {}
    for kind, reasoner in reasoners.items():
        assert isinstance(reasoner, LocalReasoner)
        started, before = time.process_time(), reasoner.num_written
        outcomes = reasoner.reason(shown)
        result(f"{kind}: {reasoner.num_written - before} tokens about {len(shown)} items, {time.process_time() - started:.0f} processor s")
        tcots = list(map(tcot_or_none, outcomes))
        tokens[kind] = {key: _written(reasoner, tcot, kind) for key, tcot in zip(items, tcots, strict=True)}
        vectors[kind] = dict(zip(items, embedder.embed(shown, tcots), strict=True))
    return vectors, tokens


def _written(reasoner: LocalReasoner, tcot: TCoT | None, kind: str) -> int:
    """Count the tokens of a T-CoT as it was written, its end of turn included; an answer stands in it twice, and was written once."""
    if tcot is None:
        return 0
    return reasoner.num_tokens(tcot.answer if kind == BRIEF else render(tcot)) + 1


def rank(
    task: RetrievalTask, vectors: Mapping[str, Mapping[str, np.ndarray]], tokens: Mapping[str, Mapping[str, int]], seed: int
) -> list[Measured]:
    """Rank the candidates of each query of a task, all ways."""
    candidate_CD = {kind: np.stack([of_kind[key] for key in task.candidate_ids]) for kind, of_kind in vectors.items()}
    rows = []
    for query, relevant, family in zip(task.queries, task.relevant, task.families, strict=True):
        cosines = {way: np.round(candidate_CD[way[1]] @ vectors[way[0]][query.key], 6) for way in WAYS}
        first, second = np.sort(cosines[PLAIN, PLAIN])[::-1][:2]
        rows.append(
            Measured(
                task=task.name,
                family=f"{seed}:{family}",
                hits={way: float(task.candidate_ids[int(scores.argmax())] in relevant) for way, scores in cosines.items()},
                margin=float(first - second),
                tokens={kind: of_kind[query.key] for kind, of_kind in tokens.items()},
            )
        )
    return rows


def spent_on(rows: Sequence[Measured], scores: np.ndarray, share: float) -> np.ndarray:
    """Return how far each query gets its whole T-CoT, 0..1, if the best by score get one until a share of the tokens is spent.

    Of equal scores each query gets the same part: what a random order gives on average.
    """
    tokens, part = np.array([float(row.tokens[WHOLE]) for row in rows]), np.zeros(len(rows))
    left = share * tokens.sum()
    for score in np.unique(scores)[::-1]:
        is_next = scores == score
        part[is_next] = min(1.0, left / max(tokens[is_next].sum(), 1.0))
        left -= part[is_next][0] * tokens[is_next].sum()
    return part


def _kept(rows: Sequence[Measured], part: np.ndarray, way: Way = (WHOLE, WHOLE)) -> str:
    """Show the share of the gain of whole T-CoTs that queries keep which are ranked this way as far as `part` says, else plain."""
    values: dict[str, list[list[float]]] = defaultdict(list)
    families: dict[str, list[str]] = defaultdict(list)
    for row, of_row in zip(rows, part, strict=True):
        bare = row.hits[PLAIN, PLAIN]
        values[row.task].append([float(of_row) * (row.hits[way] - bare), row.hits[WHOLE, WHOLE] - bare])
        families[row.task].append(row.family)
    means = mean_over_tasks([replicates(np.array(of_task), task=name, families=families[name]) for name, of_task in values.items()])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = figure(Replicates(means.values[:, :1] / means.values[:, 1:], means.num_families[:1]))
    return ratio.text(".2f") if ratio is not None else "-"


def _line(rows: Sequence[Measured], way: Way, of_candidates: Mapping[str, int]) -> list[str]:
    shares = ["0" if kind == PLAIN else f"{_tokens(rows, kind) / _tokens(rows, WHOLE):.2f}" for kind in way[:1]]
    shares += ["0" if kind == PLAIN else f"{of_candidates[kind] / of_candidates[WHOLE]:.2f}" for kind in way[1:]]
    difference = mean_percentage(rows, [row.hits[way] - row.hits[WHOLE, WHOLE] for row in rows], low=-1.0)
    return [
        " / ".join(way),
        *shares,
        mean_percentage(rows, [row.hits[way] for row in rows]),
        difference,
        _kept(rows, np.ones(len(rows)), way),
    ]


def _tokens(rows: Sequence[Measured], kind: str) -> int:
    return sum(row.tokens[kind] for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
