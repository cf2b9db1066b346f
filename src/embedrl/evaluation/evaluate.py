"""Evaluation of one system (an Embedder with T-CoTs of a Reasoner, of a table, or none) on retrieval tasks."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from embedrl.arguments import require, require_models
from embedrl.concurrency import map_concurrently, split
from embedrl.data.evidence import verify
from embedrl.data.protocols import Embeds, Gates, Reasons
from embedrl.data.reasoning import Answer, Outcome, Patience, TCoTCounts, ask
from embedrl.data.sample import Item
from embedrl.data.tcot import Evidence, ParseFailure, TCoT, count_words, render, tcot_or_none
from embedrl.data.vectors import require_unit
from embedrl.errors import ConfigError, MediaError
from embedrl.evaluation.gated import GatedQueries
from embedrl.evaluation.grounding import FIGURES as EVIDENCE_FIGURES
from embedrl.evaluation.grounding import compare
from embedrl.evaluation.metrics import METRIC_NAMES, Mode, mmeb_compat_grades, score_ranking
from embedrl.evaluation.ranking import Ranking, rank
from embedrl.evaluation.task import Modality, RetrievalTask
from embedrl.log import progress
from embedrl.media.decode import count_frames
from embedrl.world.claims import told

Claims = Callable[[TCoT, TCoT], tuple[int, int, int]]
"""(T-CoT, true T-CoT) -> numbers of true positives, of claims made and of true claims."""

TCOT_FIGURES = (
    "tcot_valid",
    "tcot_tokens",
    *(f"evidence/{name}" for name in EVIDENCE_FIGURES),
    "claims/precision",
    "claims/recall",
    "claims/true",
    "claims/invents",
)
GATE_FIGURES = ("think/reasoned", "think/tokens", "think/tokens_always")
FIGURES = (*METRIC_NAMES, "positive_cosine", "margin", *TCOT_FIGURES, *GATE_FIGURES)
"""Figures of a query, in the order of a report. T-CoT figures are means over the query and its best target.

With a gate, `think/reasoned` is the share of queries that were reasoned about, `think/tokens` the tokens of their T-CoTs (0 for others),
and `think/tokens_always` those of every query's, where they are known; T-CoT figures are of the queries that were reasoned about.

For tasks that know all true statements about an item: `claims/true` is the share of the T-CoT's statements that are true, relevant or not;
`claims/invents` is 1 for a text query whose T-CoT makes a statement that the text does not.
"""
BOUNDS = {name: (0.0, 1.0) for name in FIGURES if name not in ("positive_cosine", "margin", "tcot_tokens", *GATE_FIGURES[1:])}
"""Lower and upper bound of the figures that are shares, for confidence intervals that do not collapse there."""


@dataclass(frozen=True)
class TaskResult:
    """Results of one system on one task; rows are queries."""

    name: str
    modality: Modality
    num_candidates: int
    query_keys: tuple[str, ...]
    rankings: tuple[Ranking, ...]
    figures: Mapping[str, np.ndarray]
    """Name (of `FIGURES`) -> float64 (num_queries,), NaN where undefined."""
    families: tuple[str, ...] = ()
    """Cluster of each query for the bootstrap, which resamples whole clusters; empty: every query is its own."""

    @property
    def num_families(self) -> int:
        """Number of distinct families."""
        return len(set(self.families)) or len(self.query_keys)


@dataclass(frozen=True)
class SystemResult:
    """Results of one system on all tasks."""

    name: str
    tasks: tuple[TaskResult, ...]
    answers: Mapping[str, Answer]
    """Item key -> the T-CoT it was embedded with, or the ParseFailure or error of an item that was embedded plain."""
    seconds: float
    tcot_counts: TCoTCounts = field(default_factory=TCoTCounts)
    """Numbers of items with a T-CoT, and without one by reason."""
    num_frames: int | None = None
    """Frames of a video (at most) that the Reasoner saw; None: all of the item's."""
    gate: str | None = None
    """Fingerprint of the gate that decided which queries were reasoned about; None without one."""

    @cached_property
    def tcots(self) -> dict[str, Outcome]:
        """What the Reasoner wrote, by item key."""
        return _written(self.answers)


def evaluate(
    tasks: Sequence[RetrievalTask],
    embedder: Embeds,
    *,
    name: str = "plain",
    reasoner: Reasons | None = None,
    tcots: Mapping[str, Answer] | None = None,
    gate: Gates | None = None,
    claims: Claims | None = None,
    count_tokens: Callable[[str], int] = count_words,
    batch_size: int = 64,
    max_in_flight: int = 1,
    mode: Mode = "correct",
) -> SystemResult:
    """Evaluate one retrieval system on tasks: ranking metrics, T-CoT and evidence figures of every query.

    An item takes its T-CoT from `tcots` (item key -> T-CoT, or why there is none), else from `reasoner`; with neither, it is embedded
    plain. Every item is reasoned about and embedded once, however many tasks share it. Invalid T-CoTs and items that the Reasoner
    refuses are embedded plain and counted by reason in `tcot_counts`. A `gate` decides which queries are reasoned about, as in
    `index.search`; candidates all are.
    `mode="mmeb-compat"` assigns grades to candidates as MMEB-V2's evaluator does. With `max_in_flight` above 1, the models are called
    from that many threads at once.

    Raises MediaError for an item that cannot be read (a score over a part of the pool would not be comparable), ModelError if the
    Reasoner cannot be reached.
    """
    require(tasks, Sequence, "tasks", "a list of embedrl.RetrievalTask")
    if not tasks:
        raise ConfigError("tasks: none is given; give at least one embedrl.RetrievalTask")
    for task in tasks:
        require(task, RetrievalTask, "a task", "an embedrl.RetrievalTask")
    require_models(embedder=embedder, reasoner=reasoner)
    started = time.perf_counter()
    items = {key: item for task in tasks for key, item in task.items.items()}
    num_frames: int | None = getattr(reasoner, "num_frames", None)
    place, asked = {key: row for row, key in enumerate(items)}, items
    gated: dict[str, GatedQueries] = {}
    if gate is not None:
        bare = _embed(list(items.values()), [None] * len(items), embedder, f"{name}: plain", batch_size, max_in_flight)
        gated = {task.name: GatedQueries.of(task, gate, bare, place) for task in tasks}
        keys = {item.key for task in tasks for item in gated[task.name].asked(task)}
        asked = {key: item for key, item in items.items() if key in keys}
    answers = _reason(asked, reasoner, tcots or {}, name, batch_size, max_in_flight)
    written, known = _written(answers), _written(tcots or {})
    vectors = _embed(list(items.values()), [tcot_or_none(written.get(key)) for key in items], embedder, name, batch_size, max_in_flight)
    scores = _TCoTScores(tasks, items, written, claims, count_tokens, num_frames)
    results = []
    for task in tasks:
        queries, candidates = ([item.key for item in side] for side in (task.queries, task.candidates))
        query_QD, candidate_CD = (vectors[[place[key] for key in side]] for side in (queries, candidates))
        ids = task.candidate_ids
        rankings = rank(query_QD, candidate_CD, ids, task.relevant, task.local, task=task.name)
        reasoned = [bool(answers)] * len(queries)
        if gated:
            reasoned, rankings = gated[task.name].wanted, gated[task.name].rankings(rankings)
        key_of = dict(zip(ids, candidates, strict=True))
        rows = []
        for query, relevant, ranking, is_reasoned in zip(queries, task.relevant, rankings, reasoned, strict=True):
            row = score_ranking([key for key, _ in ranking.top], _grades(relevant, task, mode))
            row |= {"positive_cosine": ranking.positive, "margin": ranking.positive - ranking.negative}
            sides = (query, *([key_of[best_target(relevant)]] if relevant else []))
            if gated:
                row |= {"think/reasoned": float(is_reasoned), "think/tokens": scores[query]["tcot_tokens"] if is_reasoned else 0.0}
                row |= {"think/tokens_always": _num_tokens(known[query], count_tokens)} if query in known else {}
            rows.append(row | _mean([scores[key] for key in sides]) if is_reasoned else row)
            if "claims/true" in rows[-1] and "claims/true" in scores[query] and items[query].visual is None:
                rows[-1]["claims/invents"] = float(scores[query]["claims/true"] < 1)
        figures = {figure: np.array([row.get(figure, np.nan) for row in rows], dtype=np.float64) for figure in FIGURES}
        results.append(TaskResult(task.name, task.modality, len(candidates), tuple(queries), tuple(rankings), figures, task.families))
    counts = TCoTCounts.of(answers.values())
    seconds = time.perf_counter() - started
    return SystemResult(name, tuple(results), answers, seconds, counts, num_frames, gate.fingerprint if gate is not None else None)


def join(parts: Sequence[SystemResult]) -> SystemResult:
    """Put the results of one system on several tasks together; there must be one at least."""
    return SystemResult(
        name=parts[0].name,
        tasks=tuple(task for part in parts for task in part.tasks),
        answers={key: answer for part in parts for key, answer in part.answers.items()},
        seconds=sum(part.seconds for part in parts),
        tcot_counts=sum((part.tcot_counts for part in parts), TCoTCounts()),
        num_frames=parts[0].num_frames,
        gate=parts[0].gate,
    )


def join_seeds(parts: Sequence[SystemResult]) -> SystemResult:
    """Put the results of one system on the same tasks, drawn with several seeds, together: a task's queries are those of all."""
    tasks = []
    for results in zip(*(part.tasks for part in parts), strict=True):
        figures = {name: np.concatenate([task.figures[name] for task in results]) for name in FIGURES}
        families = tuple(f"{seed}:{name}" for seed, task in enumerate(results) for name in (task.families or task.query_keys))
        keys = tuple(key for task in results for key in task.query_keys)
        rankings = tuple(ranking for task in results for ranking in task.rankings)
        smallest = min(task.num_candidates for task in results)
        tasks.append(TaskResult(results[0].name, results[0].modality, smallest, keys, rankings, figures, families))
    return dataclasses.replace(join(parts), tasks=tuple(tasks))


def _reason(
    items: Mapping[str, Item], reasoner: Reasons | None, tcots: Mapping[str, Answer], name: str, batch_size: int, max_in_flight: int
) -> dict[str, Answer]:
    """Return what came of each item, a Reasoner's refusals included."""
    answers: dict[str, Answer] = {key: tcots[key] for key in items if key in tcots}
    if reasoner is None:
        return answers
    missing = sorted((item for key, item in items.items() if key not in answers), key=lambda item: item.role)
    batches, patience = split(missing, batch_size), Patience()
    with progress(len(batches), f"{name}: reason") as bar:
        for batch, come in zip(
            batches, map_concurrently(lambda batch: ask(reasoner, batch, patience), batches, max_in_flight), strict=True
        ):
            answers |= {item.key: answer for item, answer in zip(batch, come, strict=True)}
            bar.advance()
    for answer in answers.values():
        if isinstance(answer, MediaError):
            raise answer
    patience.require(reasoner.fingerprint)
    return answers


def _written(answers: Mapping[str, Answer]) -> dict[str, Outcome]:
    return {key: answer for key, answer in answers.items() if isinstance(answer, TCoT | ParseFailure)}


def _embed(
    items: Sequence[Item], tcots: Sequence[TCoT | None], embedder: Embeds, name: str, batch_size: int, max_in_flight: int
) -> np.ndarray:
    """Return float32 (N, D), unit length, in order; items of one role share a batch."""
    order = sorted(range(len(items)), key=lambda row: items[row].role)
    vectors = np.zeros((len(items), embedder.dim), dtype=np.float32)
    batches = split(order, batch_size)

    def embed(batch: list[int]) -> np.ndarray:
        return embedder.embed([items[row] for row in batch], [tcots[row] for row in batch])

    with progress(len(batches), f"{name}: embed") as bar:
        for batch, batch_vectors in zip(batches, map_concurrently(embed, batches, max_in_flight), strict=True):
            require_unit(batch_vectors, [items[row] for row in batch], embedder)
            vectors[batch] = batch_vectors
            bar.advance()
    return vectors


def _grades(relevant: Mapping[str, float], task: RetrievalTask, mode: Mode) -> Mapping[str, float]:
    if mode == "correct":
        return relevant
    ids = {task.names.get(key, key): key for key in relevant}
    return {ids[name]: grade for name, grade in mmeb_compat_grades(dict(zip(ids, relevant.values(), strict=True))).items()}


def best_target(relevant: Mapping[str, float]) -> str:
    """Return the key of the most relevant candidate; of equals, the smallest. There must be one."""
    return min(relevant, key=lambda key: (-relevant[key], key))


class _TCoTScores(dict[str, dict[str, float]]):
    """Item key -> the T-CoT figures that are defined of it, computed when they are first read."""

    def __init__(
        self,
        tasks: Sequence[RetrievalTask],
        items: Mapping[str, Item],
        written: Mapping[str, Outcome],
        claims: Claims | None,
        count_tokens: Callable[[str], int],
        num_frames: int | None,
    ) -> None:
        super().__init__()
        self.item_of, self.written, self.claims, self.count_tokens, self.num_frames = items, written, claims, count_tokens, num_frames
        self.truths = {key: truth for task in tasks for key, truth in task.truths.items()}
        self.statements = {key: known for task in tasks for key, known in task.statements.items()}

    def __missing__(self, key: str) -> dict[str, float]:
        """Compute the figures of an item. Output that is not a T-CoT points at nothing."""
        outcome, item, truth = self.written.get(key), self.item_of[key], self.truths.get(key)
        tcot = tcot_or_none(outcome)
        self[key] = figures = {"tcot_valid": 0.0, "tcot_tokens": 0.0 if outcome is None else _num_tokens(outcome, self.count_tokens)}
        if tcot is not None:
            shown = count_frames(item.visual, num_frames=self.num_frames) if tcot.evidence.key_frames else None
            figures["tcot_valid"] = float(verify(tcot.evidence, item, shown).valid)
        if outcome is not None and truth is not None:
            measured = compare(tcot.evidence if tcot else Evidence(), truth.evidence)
            figures |= {f"evidence/{name}": value for name, value in measured.items()}
        if tcot is not None and truth is not None and self.claims is not None:
            num_right, num_named, num_true = self.claims(tcot, truth)
            figures |= {"claims/precision": num_right / num_named} if num_named else {}
            figures |= {"claims/recall": num_right / num_true} if num_true else {}
        if tcot is not None and key in self.statements and (said := told(tcot.answer)):
            figures["claims/true"] = sum(text in self.statements[key] for text in said) / len(said)
        return figures


def _num_tokens(outcome: Outcome, count_tokens: Callable[[str], int]) -> float:
    return float(count_tokens(outcome.text if isinstance(outcome, ParseFailure) else render(outcome)))


def _mean(sides: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for side in sides for name in side)
    return {name: float(np.mean([side[name] for side in sides if name in side])) for name in names}
