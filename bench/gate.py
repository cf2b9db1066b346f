"""When reasoning pays: gates at shares of the tokens, beside always, never, random, and the T-CoT of another query; fits them, too.

A gate of candidates is fitted to the plain vectors of the targets, by the gain of their queries. Its table is of queries with T-CoTs among
candidates of which a share has one: those without keep their rank among all plain vectors, as in a search.

Queries and pools of the world's image tasks (test split, seeds 104 to 106), nano models. Gates are fitted to 480 queries of its RL split:
logistic regressions on whether reasoning makes the first hit right that was wrong (`hits`: by the cosines of the first 20 plain hits, the
instruction and the length of the query; `per token`: its chance, divided by the mean tokens of the instruction's T-CoTs, and a share is
then one of tokens), or on the counterfactual gain (`vector`: by the plain vector, best cosine and margin; the right
target's margin with T-CoTs minus without, each query weighted by its size); and the margin between first and second hit. Their thresholds
come from that split, so the shares of tokens are measured, not set. `oracle`: knows what reasoning does to each first hit. The second table
compares orders, not thresholds: queries by their scores, the best first, until a share of the tokens is spent.
Intervals are clustered by family. `--write FILE`, `--write-candidates FILE`: keep the trained gate of queries, of candidates.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _image_tasks import cache_of, options, seeds_of, sizes_of

from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.sample import Item
from embedrl.data.tcot import render, tcot_or_none
from embedrl.evaluation.bootstrap import NUM_RESAMPLES, Replicates, figure, mean_percentage
from embedrl.evaluation.cache import CachedReasoner
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import draw_tasks
from embedrl.index.gate import NUM_HITS, NUM_SPREAD, GateRole, LinearGate, spread_of
from embedrl.log import table
from embedrl.reasoner.local import LocalReasoner
from embedrl.runtime.names import load_embedder, load_reasoner

FITTED_SEEDS, NUM_FITTED = (7, 8), 40
SHARES = (0.25, 0.5, 0.75)
STEPS, RATE, DECAY = 400, 0.5, 0.1

# D dim


@dataclass(frozen=True)
class Pool:
    """The candidates of a query, and how it ranks them."""

    plain_CD: np.ndarray
    num_tokens_C: np.ndarray
    cosines_C: tuple[np.ndarray, np.ndarray]
    """Plain, and with T-CoTs."""
    is_right_C: np.ndarray


@dataclass(frozen=True)
class Measured:
    """A query with and without reasoning."""

    task: str
    family: str
    plain_D: np.ndarray
    item: Item
    scores: tuple[float, ...]
    """The best plain cosines."""
    hits: tuple[bool, bool, bool]
    """Whether the first hit is right: plain, with its T-CoT, with that of the next query of the task."""
    gain: float
    """Margin of the right target with T-CoTs, minus that without."""
    num_tokens: int
    target_D: np.ndarray
    """Plain vector of the right target."""
    pool: Pool


def main(*arguments: str) -> None:
    """Print the table."""
    parser = options(__doc__)
    parser.add_argument("--embedder", default="nano")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the gate of queries")
    parser.add_argument("--write-candidates", type=Path, metavar="FILE", help="keep the gate of candidates")
    given = parser.parse_args(arguments)
    reasoner, embedder = load_reasoner("nano"), load_embedder(given.embedder)
    assert isinstance(reasoner, LocalReasoner)
    num_queries, pool = sizes_of(given)
    num_fitted = num_queries if given.small else NUM_FITTED
    seeds = (("rl", FITTED_SEEDS[: 1 if given.small else None], num_fitted, pool // 2), ("test", seeds_of(given), num_queries, pool))
    with cache_of(given) as cache:
        reasons = CachedReasoner(reasoner, cache)
        fitted, tested = (
            [row for seed in of_split for row in measure(reasons, reasoner.num_tokens, embedder, given.tasks, split, seed, count, size)]
            for split, of_split, count, size in seeds
        )
    gates = {
        "margin": margin_gate(fitted, embedder.fingerprint),
        "vector": trained_gate(fitted, embedder.fingerprint),
        "hits": hits_gate(fitted, embedder.fingerprint),
    }
    gates["per token"] = per_token(gates["hits"], fitted)
    of_candidates = trained_gate(fitted, embedder.fingerprint, "candidate")
    for file, gate in ((given.write, gates["per token"]), (given.write_candidates, of_candidates)):
        if file:
            file.write_text(gate.model_dump_json() + "\n", "utf-8")
    rng = np.random.default_rng(0)
    ways: dict[str, Callable[[Measured], bool]] = {"never": lambda row: False, "always": lambda row: True}
    for share in SHARES:
        ways[f"random, {share:g}"] = lambda row, share=share: bool(rng.random() < share)
        for name, gate in gates.items():
            chosen = gate.model_copy(update={"share": share})
            ways[f"{name}, {share:g}"] = lambda row, gate=chosen: gate.wants(row.item, row.plain_D, row.scores)
    never, always = (np.mean([row.hits[place] for row in tested]) for place in (0, 1))
    rows = []
    for name, wants in ways.items():
        reasons = np.array([wants(row) for row in tested])
        hits = [row.hits[int(reasoned)] for row, reasoned in zip(tested, reasons, strict=True)]
        tokens = np.array([row.num_tokens for row in tested])
        kept = (np.mean(hits) - never) / (always - never) if always != never else float("nan")
        rows.append([name, f"{tokens[reasons].sum() / tokens.sum():.2f}", mean_percentage(tested, hits), f"{kept:.2f}"])
    rows += [[f"oracle, {share:g} of the tokens", *_oracle(tested, share)] for share in SHARES]
    rows.append(["another query's T-CoT, always", "1.00", mean_percentage(tested, [row.hits[2] for row in tested]), ""])
    table(f"{len(tested)} queries", ["gate, share of queries", "tokens", "hit@1, %", "gain kept"], rows)
    table("gain kept at equal shares of tokens", *order_table(tested, gates))
    table(
        "queries with T-CoTs, a share of the candidates",
        ["gate, share of candidates", "tokens", "hit@1, %", "gain kept"],
        _candidate_rows(tested, of_candidates),
    )


def order_table(tested: Sequence[Measured], gates: Mapping[str, LinearGate]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a table: the gain that each gate's order keeps, and its difference to `hits`, clustered by family."""
    changes, tokens = changes_and_tokens(tested)
    scores = {name: np.array([gate.score(row.item, row.plain_D, row.scores) for row in tested]) for name, gate in gates.items()}
    scores["oracle"] = changes / np.maximum(tokens, 1)
    families = {family: number for number, family in enumerate(dict.fromkeys(row.family for row in tested))}
    of_row = np.array([families[row.family] for row in tested])
    drawn = np.random.default_rng(0).multinomial(len(families), np.full(len(families), 1 / len(families)), size=NUM_RESAMPLES)
    weights = np.concatenate([np.ones((1, len(tested))), drawn[:, of_row]])
    kept = {name: np.array([kept_by_order(of_all, changes, tokens, row) for row in weights]) for name, of_all in scores.items()}
    rows = []
    for name, table_RS in kept.items():
        cells = [name]
        for column in range(len(SHARES)):
            both = [figure(Replicates(values, np.full(len(SHARES), np.inf)), column) for values in (table_RS, table_RS - kept["hits"])]
            cells.append("; ".join(one.text(form) for one, form in zip(both, (".2f", "+.2f"), strict=True) if one is not None))
        rows.append(cells)
    return ["order", *(f"{share:g} of the tokens; minus hits" for share in SHARES)], rows


def changes_and_tokens(rows: Sequence[Measured]) -> tuple[np.ndarray, np.ndarray]:
    """Return what reasoning does to each first hit (1: makes it right, -1: wrong), and what it costs: (N,) each."""
    return np.array([float(row.hits[1]) - float(row.hits[0]) for row in rows]), np.array([float(row.num_tokens) for row in rows])


def kept_by_order(scores: np.ndarray, changes: np.ndarray, tokens: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the shares of the gain that the queries of the highest scores keep, for each of `SHARES` of the tokens: (S,)."""
    order = np.argsort(-scores, kind="stable")
    spent, gained = (np.concatenate([[0.0], np.cumsum((column * weights)[order])]) for column in (tokens, changes))
    return np.interp(np.array(SHARES) * spent[-1], spent, gained) / gained[-1] if gained[-1] > 0 else np.full(len(SHARES), np.nan)


def _oracle(tested: Sequence[Measured], share: float) -> list[str]:
    """Reason where it makes a wrong first hit right, at the fewest tokens, and never where it harms."""
    changes = np.array([float(row.hits[1]) - float(row.hits[0]) for row in tested])
    tokens = np.array([row.num_tokens for row in tested])
    order = np.argsort(-changes / np.maximum(tokens, 1), kind="stable")
    chosen = order[(np.cumsum(tokens[order]) <= share * tokens.sum()) & (changes[order] > 0)]
    hits = [float(row.hits[0]) for row in tested]
    for place in chosen:
        hits[place] = float(tested[place].hits[1])
    kept = changes[chosen].sum() / changes.sum() if changes.sum() else float("nan")
    return [f"{tokens[chosen].sum() / tokens.sum():.2f}", mean_percentage(tested, hits), f"{kept:.2f}"]


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
        rows.append([name, f"{share:.2f}", mean_percentage(tested, hits[name]), f"{kept:.2f}"])
    return rows


def first_is_right(pool: Pool, reasoned_C: np.ndarray) -> bool:
    """Say whether a query's first hit is right if only some candidates have a T-CoT (`embedrl.index.search.rank`)."""
    plain_C, with_tcot_C = pool.cosines_C
    first = int(plain_C.argmax())
    if reasoned_C[first]:
        first = int(np.where(reasoned_C, with_tcot_C, -2.0).argmax())
    return bool(pool.is_right_C[first])


def measure(
    reasons: Reasons,
    num_tokens: Callable[[str], int],
    embedder: Embeds,
    names: Sequence[str],
    split: str,
    seed: int,
    num_queries: int,
    pool: int,
) -> list[Measured]:
    """Reason about every item of the tasks, embed it both ways, and rank each query both ways."""
    drawn = draw_tasks(seed=seed, tasks=names, num_queries=num_queries, pool_size=pool, split=split, world="roomy")
    tasks = [task for task, _ in drawn]
    items = {key: item for task in tasks for key, item in task.items.items()}
    outcomes = reasons.reason(list(items.values()))
    tcots = {key: tcot_or_none(outcome) for key, outcome in zip(items, outcomes, strict=True)}
    plain = dict(zip(items, embedder.embed(list(items.values()), [None] * len(items)), strict=True))
    reasoned = dict(zip(items, embedder.embed(list(items.values()), list(tcots.values())), strict=True))
    rows = []
    for task in tasks:
        others = [tcots[query.key] for query in (*task.queries[1:], task.queries[0])]
        swapped = embedder.embed(task.queries, others)
        plain_CD = np.stack([plain[key] for key in task.candidate_ids])
        candidate_tcots = [tcots[key] for key in task.candidate_ids]
        num_tokens_C = np.array([num_tokens(render(tcot)) if tcot else 0 for tcot in candidate_tcots])
        for number, query in enumerate(task.queries):
            best = np.sort(_cosines(task, plain, plain[query.key]))[::-1][:NUM_HITS]
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
                    item=query,
                    scores=tuple(best.tolist()),
                    hits=(margins[0] > 0, margins[1] > 0, margins[2] > 0),
                    gain=margins[1] - margins[0],
                    num_tokens=num_tokens(render(tcot)) if tcot else 0,
                    target_D=plain_CD[int(is_right_C.argmax())],
                    pool=Pool(plain_CD, num_tokens_C, cosines_C, is_right_C),
                )
            )
    return rows


def margin_gate(rows: Sequence[Measured], embedder: str) -> LinearGate:
    """Return the gate that reasons where the first two plain hits are close."""
    weights = (*(0.0 for _ in rows[0].plain_D), 0.0, -1.0)
    return LinearGate(embedder=embedder, weights=weights, scores=tuple(row.scores[1] - row.scores[0] for row in rows))


def trained_gate(rows: Sequence[Measured], embedder: str, role: GateRole = "query") -> LinearGate:
    """Fit a logistic regression to whether reasoning gained, each query weighted by how much; gradient descent with weight decay.

    For a gate of candidates, features are those of each query's target.
    """
    vectors = [row.plain_D if role == "query" else row.target_D for row in rows]
    scores = [row.scores if role == "query" else (0.0, 0.0) for row in rows]
    features = np.array([[*vector, best[0], best[0] - best[1]] for vector, best in zip(vectors, scores, strict=True)])
    gains = np.array([row.gain for row in rows])
    weights, _ = fit(features, gains > 0, np.abs(gains) / np.abs(gains).mean())
    gate = LinearGate(embedder=embedder, role=role, weights=tuple(weights.tolist()), scores=(0.0, 1.0))
    of_rows = tuple(gate.score(row.item, vector, of_row) for row, vector, of_row in zip(rows, vectors, scores, strict=True))
    return gate.model_copy(update={"scores": of_rows})


def hits_gate(rows: Sequence[Measured], embedder: str) -> LinearGate:
    """Fit a logistic regression to whether reasoning makes a wrong first hit right, by plain hits, instruction and length of a query."""
    known = sorted({row.item.instruction for row in rows})
    features = np.array(
        [
            [
                *(row.scores[0], row.scores[0] - row.scores[1], *spread_of(row.item, row.scores)),
                *(float(row.item.instruction == instruction) for instruction in known),
            ]
            for row in rows
        ]
    )
    helped = np.array([row.hits[1] and not row.hits[0] for row in rows])
    weights, bias = fit(features, helped, np.ones(len(rows)))
    best, margin, *others = weights.tolist()
    gate = LinearGate(
        embedder=embedder,
        weights=(*(0.0 for _ in rows[0].plain_D), best, margin),
        spread=tuple(others[:NUM_SPREAD]),
        instructions=dict(zip(known, others[NUM_SPREAD:], strict=True)),
        bias=bias,
        scores=(0.0, 1.0),
    )
    return gate.model_copy(update={"scores": tuple(gate.score(row.item, row.plain_D, row.scores) for row in rows)})


def per_token(gate: LinearGate, rows: Sequence[Measured]) -> LinearGate:
    """Return a gate that was fitted to these queries, with what their T-CoTs cost: chance of a gain per token, shares of tokens."""
    known = {row.item.instruction for row in rows}
    tokens = {name: float(np.mean([max(row.num_tokens, 1) for row in rows if row.item.instruction == name])) for name in sorted(known)}
    gate = gate.model_copy(update={"tokens": tokens, "costs": tuple(float(row.num_tokens) for row in rows)})
    return gate.model_copy(update={"scores": tuple(gate.score(row.item, row.plain_D, row.scores) for row in rows)})


def fit(features: np.ndarray, labels: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights and bias of a logistic regression, gradient descent with weight decay; `size`: weights of the rows."""
    mean, scale = features.mean(0), features.std(0) + 1e-6
    standard = (features - mean) / scale
    weights, bias = np.zeros(features.shape[1]), 0.0
    for _ in range(STEPS):
        error = (1 / (1 + np.exp(-(standard @ weights + bias))) - labels) * size
        weights -= RATE * (standard.T @ error / len(features) + DECAY * weights)
        bias -= RATE * error.mean()
    return weights / scale, float(bias - mean @ (weights / scale))


def _cosines(task: RetrievalTask, vectors: dict[str, np.ndarray], query_D: np.ndarray) -> np.ndarray:
    return np.round(np.stack([vectors[key] for key in task.candidate_ids]) @ query_D, 6)


def _margin(task: RetrievalTask, number: int, cosines: np.ndarray) -> float:
    is_right = np.array([key in task.relevant[number] for key in task.candidate_ids])
    return float(cosines[is_right].max() - cosines[~is_right].max())


if __name__ == "__main__":
    main(*sys.argv[1:])
