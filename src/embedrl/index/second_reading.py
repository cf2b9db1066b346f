"""A reranker by a second reading: the Reasoner answers anew about the query and the first hits, and both readings are compared."""

import re
from collections.abc import Sequence

import numpy as np

from embedrl.data.protocols import Embeds, Reasons, Side
from embedrl.data.reasoning import ask
from embedrl.data.tcot import TCoT
from embedrl.data.vectors import embed_unit

WORD_WEIGHT = 0.3
"""Of the Jaccard index of the words of two answers, beside a cosine; chosen on other seeds than those of the table (docs/LOG.md)."""
_WORDS = re.compile(r"\w+")

# R readings (2), C candidates, D dim


class SecondReading:
    """Compares T-CoTs that are there with answers that the Reasoner writes anew. Fulfils `Reranks`.

    The score of a pair is the sum, over the two readings of either side, of the cosine of their vectors and, weighted, of the words
    that their answers share. Where the readings err apart, their sum errs less. A side without a T-CoT has no score.
    """

    def __init__(self, answers: Reasons, embedder: Embeds) -> None:
        self.answers, self.embedder = answers, embedder
        """The Reasoner, asked for answers alone; and the Embedder of the index."""
        self.fingerprint = f"{answers.fingerprint}-{embedder.fingerprint}-second-reading"

    def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
        """Return the score of each candidate; None where a T-CoT is missing, or the Reasoner writes no answer."""
        if query[1] is None:
            return [None] * len(candidates)
        sides = [query, *candidates]
        reasoned = [number for number, (_, tcot) in enumerate(sides) if tcot is not None]
        outcomes = dict(zip(reasoned, ask(self.answers, [sides[number][0] for number in reasoned]), strict=True))
        readings = {number: (tcot, sides[number][1]) for number, tcot in outcomes.items() if isinstance(tcot, TCoT)}
        if 0 not in readings:
            return [None] * len(candidates)
        items = [sides[number][0] for number in readings for _ in range(2)]
        vectors = embed_unit(self.embedder, items, [tcot for both in readings.values() for tcot in both])
        vectors_RD = dict(zip(readings, vectors.reshape(len(readings), 2, -1), strict=True))
        scores: list[float | None] = []
        for number in range(1, len(sides)):
            if number not in readings:
                scores.append(None)
                continue
            shared = sum(_jaccard(first, second) for first in readings[0] for second in readings[number])
            scores.append(float(np.sum(vectors_RD[0] @ vectors_RD[number].T)) + WORD_WEIGHT * shared)
        return scores


def _jaccard(first: TCoT | None, second: TCoT | None) -> float:
    """Return the share of the words of two answers that both have."""
    words, others = (set(_WORDS.findall(tcot.answer if tcot else "")) for tcot in (first, second))
    return len(words & others) / max(1, len(words | others))
