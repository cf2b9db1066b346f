"""Does a judge put the first 10 hits in a better order? hit@1 before and after on hard pools, with its cost, and how good the judge is.

    python bench/rerank.py [--reread]      (-h: every option)

The world's image tasks with hard negatives, ranked by vectors with T-CoTs of the nano models; queries whose first 10 all have one. The
judges score each of the ten alone. `nano` and `nano-judge` are asked for yes or no, as `--rerank 10` asks them; `nano-judge` also in the
form in which it was trained: a list, here of one, at whose end the next word is yes or no. Beside them the words that two answers share
(Jaccard), which needs no model. `--reread`: the second reading (`--reranker reread`) alone, without the judges. `pairs right` is how often
the target beats another of the ten (AUC); chance is 50 %. Intervals are clustered by family, differences paired.
"""

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _image_tasks import cache_of, draw, options, seeds_of

from embedrl.data.protocols import Embeds, Reasons, Side
from embedrl.data.tcot import TCoT
from embedrl.evaluation.bootstrap import mean_percentage
from embedrl.evaluation.cache import CachedReasoner
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.second_reading import SecondReading
from embedrl.log import table
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import Prompt, match_prompt, pick_prompt
from embedrl.runtime.names import load_embedder, load_reasoner

FIRST = 10
COSINE_WEIGHT = 100.0
"""Of the cosine beside the judge's log-odds, the best of 1, 3, 10, 30, 100 and 300 on seeds 0 and 1."""
BATCH_SIZE = 32

Pair = tuple[TCoT, TCoT]


@dataclass(frozen=True)
class Ranked:
    """A query with its first hits, by cosine."""

    task: str
    family: str
    cosines: tuple[float, ...]
    is_right: tuple[bool, ...]
    pairs: tuple[Pair, ...]
    """T-CoTs of the query and of each hit."""
    true_pairs: tuple[Pair, ...]
    """The same with ground-truth T-CoTs."""
    sides: tuple[Side, ...]
    """Items and T-CoTs of the query, and of the hits."""


def main(*arguments: str) -> None:
    """Print both tables."""
    parser = options(__doc__)
    parser.add_argument("--reread", action="store_true", help="the second reading alone, without the judges")
    given = parser.parse_args(arguments)
    reasoner, embedder = load_reasoner("nano"), load_embedder("nano")
    assert isinstance(reasoner, LocalReasoner)
    with cache_of(given) as cache:
        reasons = CachedReasoner(reasoner, cache)
        rows = [row for seed in seeds_of(given) for row in rank_all(reasons, embedder, draw(given, seed), seed)]
    if given.reread:
        _reread(rows, reasoner, embedder)
        return
    judge = load_reasoner("nano-judge")
    assert isinstance(judge, LocalReasoner)
    ways: dict[str, tuple[Callable[[Sequence[Pair]], list[float]], LocalReasoner | None]] = {
        "nano, yes or no": (lambda pairs: reasoner.yes_scores([match_prompt(*pair, "nano") for pair in pairs]), reasoner),
        "nano-judge, yes or no": (lambda pairs: judge.yes_scores([match_prompt(*pair, "nano") for pair in pairs]), judge),
        "nano-judge, as it was trained": (lambda pairs: line_scores(judge, pairs), judge),
        "words in common": (lambda pairs: [jaccard(*pair) for pair in pairs], None),
    }
    first = [float(row.is_right[0]) for row in rows]
    lines = [["none", mean_percentage(rows, first), "", "", "", "", ""]]
    for name, (scorer, model) in ways.items():
        started = time.perf_counter()
        scores = [np.array(scorer(row.pairs)) for row in rows]
        milliseconds = 1000 * (time.perf_counter() - started) / len(rows)
        true_scores = [np.array(scorer(row.true_pairs)) for row in rows]
        cost = ["0", "0"] if model is None else [f"{_num_tokens(model, rows, name):.0f}", str(FIRST)]
        shares = [f"{100 * pairs_right(rows, of_rows):.1f}" for of_rows in (scores, true_scores)]
        lines.append([name, *_figures(rows, scores, first), *shares, " / ".join(cost), f"{milliseconds:.0f}"])
        if name == "nano-judge, as it was trained":
            both = [COSINE_WEIGHT * np.array(row.cosines) + of_row for row, of_row in zip(rows, scores, strict=True)]
            lines.append([f"the same + {COSINE_WEIGHT:g} cosines", *_figures(rows, both, first), *["", ""], " / ".join(cost), ""])
    there = 100 * np.mean([any(row.is_right) for row in rows])
    columns = ["reranker", "hit@1, %", "difference", "pairs right, %", "with true T-CoTs", "tokens / prompts a query", "ms a query"]
    title = f"{len(rows)} queries, seeds {', '.join(map(str, seeds_of(given)))}; the target is among the first {FIRST} of {there:.1f} %"
    table(title, columns, lines)


def _reread(rows: Sequence[Ranked], reasoner: LocalReasoner, embedder: Embeds) -> None:
    """Print what a second reading of the first hits does to hit@1, and what it costs."""
    answers = reasoner.answering()
    reranker = SecondReading(answers, embedder)
    before, started, used = answers.num_written, time.perf_counter(), time.process_time()
    scores = [np.array([-np.inf if score is None else score for score in reranker.rerank(row.sides[0], row.sides[1:])]) for row in rows]
    spent = [(clock - start) / len(rows) for clock, start in ((time.perf_counter(), started), (time.process_time(), used))]
    first = [float(row.is_right[0]) for row in rows]
    lines = [
        ["none", mean_percentage(rows, first), "", "", "", ""],
        [
            "reread",
            *_figures(rows, scores, first),
            f"{100 * pairs_right(rows, scores):.1f}",
            f"{(answers.num_written - before) / len(rows):.0f} / {2 * (1 + FIRST)}",
            " / ".join(f"{1000 * seconds:.0f}" for seconds in spent),
        ],
    ]
    columns = ["reranker", "hit@1, %", "difference", "pairs right, %", "tokens written / vectors a query", "ms, processor ms a query"]
    table(
        f"{len(rows)} queries; the target is among the first {FIRST} of {100 * np.mean([any(row.is_right) for row in rows]):.1f} %",
        columns,
        lines,
    )


def rank_all(reasoner: Reasons, embedder: Embeds, drawn: Sequence[RetrievalTask], seed: int) -> list[Ranked]:
    """Reason about every item of the tasks, and rank each query."""
    items = {key: item for task in drawn for key, item in task.items.items()}
    outcomes = dict(zip(items, reasoner.reason(list(items.values())), strict=True))
    tcots = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, TCoT)}
    vectors = dict(zip(items, embedder.embed(list(items.values()), [tcots.get(key) for key in items]), strict=True))
    truths = {key: truth for task in drawn for key, truth in task.truths.items()}
    rows = []
    for task in drawn:
        ids = task.candidate_ids
        candidate_CD = np.stack([vectors[key] for key in ids])
        for query, relevant, family in zip(task.queries, task.relevant, task.families, strict=True):
            cosines = np.round(candidate_CD @ vectors[query.key], 6)
            best = np.argsort(-cosines, kind="stable")[:FIRST]
            keys = [ids[place] for place in best]
            if query.key not in tcots or not all(key in tcots for key in keys):
                continue
            rows.append(
                Ranked(
                    task=task.name,
                    family=f"{seed}:{family}",
                    cosines=tuple(cosines[best].tolist()),
                    is_right=tuple(key in relevant for key in keys),
                    pairs=tuple((tcots[query.key], tcots[key]) for key in keys),
                    true_pairs=tuple((truths[query.key], truths[key]) for key in keys),
                    sides=tuple((items[key], tcots[key]) for key in (query.key, *keys)),
                )
            )
    return rows


@torch.inference_mode()
def line_scores(judge: LocalReasoner, pairs: Sequence[Pair]) -> list[float]:
    """Return log p(yes) - log p(no) at the end of a candidate's line in a list of one, where `nano/judge.py` trains them."""
    tokenizer = judge.processor.tokenizer
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    texts, scores = [_line(judge, pair) for pair in pairs], []
    for start in range(0, len(texts), BATCH_SIZE):
        batch = tokenizer(
            texts[start : start + BATCH_SIZE], padding=True, padding_side="right", return_tensors="pt", add_special_tokens=False
        )
        logits = judge.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        at_end = logits[torch.arange(len(logits)), batch["attention_mask"].sum(1) - 1]
        scores += (at_end[:, yes] - at_end[:, no]).tolist()
    return scores


def _line(judge: LocalReasoner, pair: Pair) -> str:
    text, line = _text(judge, pick_prompt(pair[0], pair[1:], "nano")), f"\n1: {pair[1].answer}"
    return text[: text.index(line) + len(line)]


def _text(reasoner: LocalReasoner, prompt: Prompt) -> str:
    return reasoner.processor.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)


def _num_tokens(reasoner: LocalReasoner, rows: Sequence[Ranked], name: str) -> float:
    """Count the tokens that a judge reads for a query."""
    pairs = [pair for row in rows for pair in row.pairs]
    by_line = name.endswith("trained")
    texts = [_line(reasoner, pair) if by_line else _text(reasoner, match_prompt(*pair, "nano")) for pair in pairs]
    return sum(reasoner.num_tokens(text) for text in texts) / len(rows)


def jaccard(one: TCoT, other: TCoT) -> float:
    """Return the share of the words of two answers that both have."""
    first, second = (set(re.findall(r"\w+", tcot.answer)) for tcot in (one, other))
    return len(first & second) / max(1, len(first | second))


def pairs_right(rows: Sequence[Ranked], scores: Sequence[np.ndarray]) -> float:
    """Return how often the target's score is above another one's of the first hits, ties half; over queries that have both."""
    shares = []
    for row, of_row in zip(rows, scores, strict=True):
        is_right = np.array(row.is_right)
        if is_right.any() and not is_right.all():
            ahead = of_row[is_right][:, None] - of_row[~is_right]
            shares.append(float(np.mean((ahead > 0) + 0.5 * (ahead == 0))))
    return float(np.mean(shares)) if shares else float("nan")


def _figures(rows: Sequence[Ranked], scores: Sequence[np.ndarray], first: Sequence[float]) -> list[str]:
    """Return hit@1 in the order of scores (ties as they were), and its difference to the first hits as they were."""
    hits = [float(row.is_right[int(np.argmax(of_row))]) for row, of_row in zip(rows, scores, strict=True)]
    return [
        mean_percentage(rows, hits),
        mean_percentage(rows, [after - before for after, before in zip(hits, first, strict=True)], low=-1.0),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
