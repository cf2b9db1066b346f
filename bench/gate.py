"""When reasoning pays: gates at shares of the tokens, beside always, never, random, and the T-CoT of another query; fits them, too.

A gate of candidates is fitted to the plain vectors of the targets, by the gain of their queries. Its table is of queries with T-CoTs among
candidates of which a share has one: those without keep their rank among all plain vectors, as in a search.

Queries and pools of the world's image tasks (test split, three seeds), nano models. Gates are fitted to its RL split: a logistic
regression on the counterfactual gain (the right target's margin with T-CoTs minus without), each query weighted by the size of its gain;
and the margin between first and second hit. Their thresholds come from that split, so the shares of tokens are measured, not set.
Intervals are clustered by family. `--small`: few queries, to see that it runs. `--write FILE`, `--write-candidates
FILE`: keep the trained gate of queries, of candidates.
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
from embedrl.index.gate import GateRole, LinearGate
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
    target_D: np.ndarray
    """Plain vector of the right target."""
    pool: "Pool"


@dataclass(frozen=True)
class Pool:
    """The candidates of a query, and how it ranks them."""

    plain_CD: np.ndarray
    num_tokens_C: np.ndarray
    cosines_C: tuple[np.ndarray, np.ndarray]
    """Plain, and with T-CoTs."""
    is_right_C: np.ndarray


def main(*arguments: str) -> None:
    """Print the table."""
    reasoner, embedder = load_reasoner("nano"), load_embedder("nano")
    assert isinstance(reasoner, LocalReasoner)
    small = "--small" in arguments
    num_queries, pool = (3, 24) if small else (NUM_QUERIES, POOL)
    fitted = measure(reasoner, embedder, "rl", 7, num_queries, pool // 2)
    tested = [row for seed in SEEDS[: 1 if small else None] for row in measure(reasoner, embedder, "test", seed, num_queries, pool)]
    gates = {"margin": margin_gate(fitted, embedder.fingerprint), "trained": trained_gate(fitted, embedder.fingerprint)}
    of_candidates = trained_gate(fitted, embedder.fingerprint, "candidate")
    for option, gate in (("--write", gates["trained"]), ("--write-candidates", of_candidates)):
        if option in arguments:
            Path(arguments[arguments.index(option) + 1]).write_text(gate.model_dump_json() + "\n", "utf-8")
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
    table(
        "queries with T-CoTs, a share of the candidates",
        ["gate, share of candidates", "tokens", "hit@1, %", "gain kept"],
        _candidate_rows(tested, of_candidates),
    )


def _candidate_rows(tested: Sequence[Measured], gate: LinearGate) -> list[list[str]]:
    """Measure gates of candidates; all pools of a task share theirs, so a candidate is decided about by its vector alone."""
    rng = np.random.default_rng(0)
    weights_D, rows = np.array(gate.weights[:-2]), []
    decided: dict[str, list[np.ndarray]] = {
        "never": [np.zeros(len(row.pool.plain_CD), bool) for row in tested],
        "always": [np.ones(len(row.pool.plain_CD), bool) for row in tested],
    }
    for share in SHARES:
        chances = {id(row.pool.plain_CD): rng.random(len(row.pool.plain_CD)) < share for row in tested}
        decided[f"random, {share:g}"] = [chances[id(row.pool.plain_CD)] for row in tested]
        threshold = np.quantile(gate.scores, 1 - share)
        decided[f"trained, {share:g}"] = [row.pool.plain_CD @ weights_D > threshold for row in tested]
    hits = {
        name: [first_is_right(row.pool, of_row) for row, of_row in zip(tested, of_all, strict=True)] for name, of_all in decided.items()
    }
    never, always = np.mean(hits["never"]), np.mean(hits["always"])
    for name, of_all in decided.items():
        used = sum(float(row.pool.num_tokens_C[of_row].sum()) for row, of_row in zip(tested, of_all, strict=True))
        share = used / sum(float(row.pool.num_tokens_C.sum()) for row in tested)
        kept = (np.mean(hits[name]) - never) / (always - never) if always != never else float("nan")
        rows.append([name, f"{share:.2f}", _figure(tested, hits[name]), f"{kept:.2f}"])
    return rows


def first_is_right(pool: Pool, reasoned_C: np.ndarray) -> bool:
    """Say whether a query's first hit is right if only some candidates have a T-CoT (`embedrl.index.search.rank`)."""
    plain_C, with_tcot_C = pool.cosines_C
    first = int(plain_C.argmax())
    if reasoned_C[first]:
        first = int(np.where(reasoned_C, with_tcot_C, -2.0).argmax())
    return bool(pool.is_right_C[first])


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
        plain_CD = np.stack([plain[key] for key in task.candidate_ids])
        candidate_tcots = [tcots[key] for key in task.candidate_ids]
        num_tokens_C = np.array([reasoner.num_tokens(render(tcot)) if tcot else 0 for tcot in candidate_tcots])
        for number, query in enumerate(task.queries):
            first, second = np.sort(_cosines(task, plain, plain[query.key]))[::-1][:2]
            margins = [
                _margin(task, number, _cosines(task, vectors, vector))
                for vectors, vector in ((plain, plain[query.key]), (reasoned, reasoned[query.key]), (reasoned, swapped[number]))
            ]
            tcot = tcots[query.key]
            is_right_C = np.array([key in task.relevant[number] for key in task.candidate_ids])
            cosines_C = (_cosines(task, plain, plain[query.key]), _cosines(task, reasoned, reasoned[query.key]))
            rows.append(
                Measured(
                    task=task.name,
                    family=f"{seed}:{task.families[number]}",
                    plain_D=plain[query.key],
                    scores=(float(first), float(second)),
                    hits=(margins[0] > 0, margins[1] > 0, margins[2] > 0),
                    gain=margins[1] - margins[0],
                    num_tokens=reasoner.num_tokens(render(tcot)) if tcot else 0,
                    target_D=plain_CD[int(is_right_C.argmax())],
                    pool=Pool(plain_CD, num_tokens_C, cosines_C, is_right_C),
                )
            )
    return rows


def margin_gate(rows: Sequence[Measured], embedder: str) -> LinearGate:
    """Return the gate that reasons where the first two plain hits are close."""
    weights = (*(0.0 for _ in rows[0].plain_D), 0.0, -1.0)
    return LinearGate(embedder=embedder, weights=weights, scores=tuple(second - first for first, second in (row.scores for row in rows)))


def trained_gate(rows: Sequence[Measured], embedder: str, role: GateRole = "query") -> LinearGate:
    """Fit a logistic regression to whether reasoning gained, each query weighted by how much; gradient descent with weight decay.

    For a gate of candidates, features are those of each query's target.
    """
    vectors = [row.plain_D if role == "query" else row.target_D for row in rows]
    scores = [row.scores if role == "query" else (0.0, 0.0) for row in rows]
    features = np.array([[*vector, best, best - second] for vector, (best, second) in zip(vectors, scores, strict=True)])
    gains = np.array([row.gain for row in rows])
    mean, scale = features.mean(0), features.std(0) + 1e-6
    standard, size = (features - mean) / scale, np.abs(gains) / np.abs(gains).mean()
    weights, bias = np.zeros(features.shape[1]), 0.0
    for _ in range(STEPS):
        error = (1 / (1 + np.exp(-(standard @ weights + bias))) - (gains > 0)) * size
        weights -= RATE * (standard.T @ error / len(rows) + DECAY * weights)
        bias -= RATE * error.mean()
    gate = LinearGate(embedder=embedder, role=role, weights=tuple((weights / scale).tolist()), scores=(0.0, 1.0))
    of_rows = tuple(gate.score(vector, of_row) for vector, of_row in zip(vectors, scores, strict=True))
    return gate.model_copy(update={"scores": of_rows})


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
