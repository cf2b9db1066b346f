"""When reasoning pays: gates at shares of the tokens, beside always, never, random, and the T-CoT of another query; fits them, too.

Queries and pools of the world's image tasks (test split, three seeds), nano models. Gates are fitted to its RL split: a logistic
regression on the counterfactual gain (the right target's margin with T-CoTs minus without), each query weighted by the size of its gain;
and the margin between first and second hit. Their thresholds come from that split, so the shares of tokens are measured, not set.
Intervals are clustered by family. `--small`: few queries, to see that it runs. `--write FILE`: keep the trained gate.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrl.data.protocols import Embeds
from embedrl.data.tcot import TCoT, render
from embedrl.evaluation.bootstrap import Replicates, figure, mean_over_tasks, replicates
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import draw_tasks
from embedrl.index.gate import LinearGate
from embedrl.log import table
from embedrl.reasoner.local import LocalReasoner
from embedrl.runtime.names import load_embedder, load_reasoner

TASKS = ("image_cls", "image_qa", "image_i2t", "image_t2i", "image_composed", "image_grounding")
SEEDS, NUM_QUERIES, POOL = (101, 102, 103), 17, 256
SHARES = (0.25, 0.5, 0.75)
STEPS, RATE, DECAY = 400, 0.5, 0.1

# D dim


@dataclass(frozen=True)
class Measured:
    """A query with and without reasoning."""

    task: str
    family: str
    plain_D: np.ndarray
    scores: tuple[float, float]
    """The two best plain cosines."""
    hits: tuple[bool, bool, bool]
    """Whether the first hit is right: plain, with its T-CoT, with that of the next query of the task."""
    gain: float
    """Margin of the right target with T-CoTs, minus that without."""
    num_tokens: int


def main(*arguments: str) -> None:
    """Print the table."""
    reasoner, embedder = load_reasoner("nano"), load_embedder("nano")
    assert isinstance(reasoner, LocalReasoner)
    small = "--small" in arguments
    num_queries, pool = (3, 24) if small else (NUM_QUERIES, POOL)
    fitted = measure(reasoner, embedder, "rl", 7, num_queries, pool // 2)
    tested = [row for seed in SEEDS[: 1 if small else None] for row in measure(reasoner, embedder, "test", seed, num_queries, pool)]
    gates = {"margin": margin_gate(fitted, embedder.fingerprint), "trained": trained_gate(fitted, embedder.fingerprint)}
    if "--write" in arguments:
        Path(arguments[arguments.index("--write") + 1]).write_text(gates["trained"].model_dump_json() + "\n", "utf-8")
    rng = np.random.default_rng(0)
    ways: dict[str, Callable[[Measured], bool]] = {"never": lambda row: False, "always": lambda row: True}
    for share in SHARES:
        ways[f"random, {share:g}"] = lambda row, share=share: bool(rng.random() < share)
        for name, gate in gates.items():
            chosen = gate.model_copy(update={"share": share})
            ways[f"{name}, {share:g}"] = lambda row, gate=chosen: (
                gate.score(row.plain_D, row.scores) > np.quantile(gate.scores, 1 - gate.share)
            )
    never, always = (np.mean([row.hits[place] for row in tested]) for place in (0, 1))
    rows = []
    for name, wants in ways.items():
        reasons = np.array([wants(row) for row in tested])
        hits = [row.hits[int(reasoned)] for row, reasoned in zip(tested, reasons, strict=True)]
        tokens = np.array([row.num_tokens for row in tested])
        kept = (np.mean(hits) - never) / (always - never) if always != never else float("nan")
        rows.append([name, f"{tokens[reasons].sum() / tokens.sum():.2f}", _figure(tested, hits), f"{kept:.2f}"])
    rows.append(["another query's T-CoT, always", "1.00", _figure(tested, [row.hits[2] for row in tested]), ""])
    table(f"{len(tested)} queries", ["gate, share of queries", "tokens", "hit@1, %", "gain kept"], rows)


def measure(reasoner: LocalReasoner, embedder: Embeds, split: str, seed: int, num_queries: int, pool: int) -> list[Measured]:
    """Reason about every item of the tasks, embed it both ways, and rank each query both ways."""
    drawn = draw_tasks(seed=seed, tasks=TASKS, num_queries=num_queries, pool_size=pool, split=split, world="roomy")
    tasks = [task for task, _ in drawn]
    items = {key: item for task in tasks for key, item in task.items.items()}
    outcomes = reasoner.reason(list(items.values()))
    tcots = {key: outcome if isinstance(outcome, TCoT) else None for key, outcome in zip(items, outcomes, strict=True)}
    plain = dict(zip(items, embedder.embed(list(items.values()), [None] * len(items)), strict=True))
    reasoned = dict(zip(items, embedder.embed(list(items.values()), list(tcots.values())), strict=True))
    rows = []
    for task in tasks:
        others = [tcots[query.key] for query in (*task.queries[1:], task.queries[0])]
        swapped = embedder.embed(task.queries, others)
        for number, query in enumerate(task.queries):
            first, second = np.sort(_cosines(task, plain, plain[query.key]))[::-1][:2]
            margins = [
                _margin(task, number, _cosines(task, vectors, vector))
                for vectors, vector in ((plain, plain[query.key]), (reasoned, reasoned[query.key]), (reasoned, swapped[number]))
            ]
            tcot = tcots[query.key]
            rows.append(
                Measured(
                    task=task.name,
                    family=f"{seed}:{task.families[number]}",
                    plain_D=plain[query.key],
                    scores=(float(first), float(second)),
                    hits=(margins[0] > 0, margins[1] > 0, margins[2] > 0),
                    gain=margins[1] - margins[0],
                    num_tokens=reasoner.num_tokens(render(tcot)) if tcot else 0,
                )
            )
    return rows


def margin_gate(rows: Sequence[Measured], embedder: str) -> LinearGate:
    """Return the gate that reasons where the first two plain hits are close."""
    weights = (*(0.0 for _ in rows[0].plain_D), 0.0, -1.0)
    return LinearGate(embedder=embedder, weights=weights, scores=tuple(second - first for first, second in (row.scores for row in rows)))


def trained_gate(rows: Sequence[Measured], embedder: str) -> LinearGate:
    """Fit a logistic regression to whether reasoning gained, each query weighted by how much; gradient descent with weight decay."""
    features = np.array([[*row.plain_D, row.scores[0], row.scores[0] - row.scores[1]] for row in rows])
    gains = np.array([row.gain for row in rows])
    mean, scale = features.mean(0), features.std(0) + 1e-6
    standard, size = (features - mean) / scale, np.abs(gains) / np.abs(gains).mean()
    weights, bias = np.zeros(features.shape[1]), 0.0
    for _ in range(STEPS):
        error = (1 / (1 + np.exp(-(standard @ weights + bias))) - (gains > 0)) * size
        weights -= RATE * (standard.T @ error / len(rows) + DECAY * weights)
        bias -= RATE * error.mean()
    gate = LinearGate(embedder=embedder, weights=tuple((weights / scale).tolist()), scores=(0.0, 1.0))
    return gate.model_copy(update={"scores": tuple(gate.score(row.plain_D, row.scores) for row in rows)})


def _cosines(task: RetrievalTask, vectors: dict[str, np.ndarray], query_D: np.ndarray) -> np.ndarray:
    return np.round(np.stack([vectors[key] for key in task.candidate_ids]) @ query_D, 6)


def _margin(task: RetrievalTask, number: int, cosines: np.ndarray) -> float:
    is_right = np.array([key in task.relevant[number] for key in task.candidate_ids])
    return float(cosines[is_right].max() - cosines[~is_right].max())


def _figure(rows: Sequence[Measured], hits: Sequence[bool]) -> str:
    """Show the mean over tasks with its interval, clustered by family, in %."""
    tables: list[Replicates] = []
    for task in dict.fromkeys(row.task for row in rows):
        places = [place for place, row in enumerate(rows) if row.task == task]
        values = np.array([[float(hits[place])] for place in places])
        tables.append(replicates(values, task=task, families=[rows[place].family for place in places]))
    found = figure(mean_over_tasks(tables), bounds=(0.0, 1.0))
    assert found is not None
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
