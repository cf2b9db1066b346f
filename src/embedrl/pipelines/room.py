"""Headroom of T-CoTs for retrieval before any RL: without, the annotator's, the fullest of several, the true ones.

EG-RL has something to win where true T-CoTs beat the annotator's, and the Embedder has something to teach where the fullest do not.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.evaluation.evaluate import SystemResult, evaluate
from embedrl.evaluation.report import Report, make_report, read_figure
from embedrl.evaluation.world import draw_tasks
from embedrl.pipelines.controls import WithoutMedia
from embedrl.runtime.names import load_local_embedder
from embedrl.world.claims import claims_of

NUM_DRAFTS = 8
"""Number of the annotator's T-CoTs that the fullest is chosen from."""
FIGURES = ("hit@1", "map@10", "ndcg_linear@10", "positive_cosine", "claims/precision", "claims/recall", "claims/true", "claims/invents")


class TfIdf:
    """Tf-idf baseline Embedder on the words of answers; items are ignored."""

    def __init__(self, tcots: Sequence[TCoT]) -> None:
        seen = Counter(word for tcot in tcots for word in set(tcot.answer.replace(",", "").split()))
        self.place = {word: row for row, word in enumerate(sorted(seen))}
        self.weight = np.log((1 + len(tcots)) / (1 + np.array([seen[word] for word in self.place]))) + 1
        self.fingerprint, self.dim = "tf-idf", len(self.place) + 1

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order."""
        vectors = np.zeros((len(items), self.dim), np.float32)
        for row, tcot in enumerate(tcots):
            for word, count in Counter(tcot.answer.replace(",", "").split() if tcot else ()).items():
                vectors[row, self.place[word]] = count * self.weight[self.place[word]]
            vectors[row, -1] = not vectors[row].any()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure_room(
    embedder: str,
    *,
    world: str = "crowded",
    tasks: Sequence[str] = (),
    num_queries: int = 20,
    pool_size: int = 256,
    seed: int = 0,
    split: str = "test",
) -> Report:
    """Evaluate an Embedder by name with T-CoTs of an oracle. Raises ConfigError for one without loaded weights."""
    embeds = load_local_embedder(embedder)
    drawn = draw_tasks(seed=seed, tasks=tasks or None, num_queries=num_queries, pool_size=pool_size, split=split, world=world)
    sides = {key: side for _, side_of_key in drawn for key, side in side_of_key.items()}
    rng = random.Random(f"room:{seed}")
    drafts = {key: [side.annotated(rng) for _ in range(NUM_DRAFTS)] for key, side in sides.items()}
    writers: dict[str, Mapping[str, TCoT]] = {
        "annotator": {key: written[0] for key, written in drafts.items()},
        "fullest of 8": {key: max(written, key=fullness) for key, written in drafts.items()},
        "truth": {key: side.truth for key, side in sides.items()},
    }
    retrieval = [task for task, _ in drawn]
    score = claims_of(world)
    results: list[SystemResult] = [evaluate(retrieval, embeds, name="none")]
    for name, tcots in writers.items():
        results.append(evaluate(retrieval, embeds, name=name, tcots=tcots, claims=score))
    for name in ("annotator", "truth"):
        results.append(evaluate(retrieval, WithoutMedia(embeds), name=f"{name}, T-CoTs without media", tcots=writers[name], claims=score))
        results.append(evaluate(retrieval, TfIdf(list(writers[name].values())), name=f"{name}, tf-idf", tcots=writers[name], claims=score))
    return make_report(results, seed=seed, seconds=sum(result.seconds for result in results))


def fullness(tcot: TCoT) -> int:
    """Return the number of pieces of evidence and distinct answer words: the control reward "fullness"."""
    return sum(len({*kind.pieces(tcot.evidence)}) for kind in EVIDENCE_KINDS) + len({*tcot.answer.split()})


def room_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: hit@1 over all and by task, and what T-CoTs tell."""
    tasks = list(report["pools"])
    columns = ["T-CoTs", "hit@1", *tasks, *FIGURES[1:]]
    rows = []
    for name, groups in report["systems"].items():
        overall = groups["overall"]
        rows.append(
            [
                name,
                read_figure(overall["hit@1"]).text(),
                *(f"{groups['tasks'][task]['hit@1']['value']:.3f}" for task in tasks),
                *(_value(overall, figure) for figure in FIGURES[1:]),
            ]
        )
    return columns, rows


def _value(groups: Mapping[str, Any], figure: str) -> str:
    value: Any = groups
    for part in figure.split("/"):
        value = value.get(part, {})
    return f"{value['value']:.3f}" if value else ""
