"""Queries that a gate answers without reasoning: ranked by plain vectors among plain candidates, as `index.search` does."""
# N items, Q queries of a task, C candidates, D dim

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedrl.data.protocols import Gates
from embedrl.data.sample import Item
from embedrl.evaluation.ranking import Ranking, rank
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.gate import NUM_HITS


@dataclass(frozen=True)
class GatedQueries:
    """What a gate decided about the queries of some tasks, by their plain vectors and their first plain hits."""

    gate: Gates
    plain_ND: np.ndarray
    """Plain vectors of all items, unit length."""
    rows: Mapping[str, int]
    """Item key -> row of the vectors."""

    def wanted(self, task: RetrievalTask) -> list[bool]:
        """Say of each query of a task whether to reason about it."""
        place = {name: number for number, name in enumerate(task.candidate_ids)}
        candidate_CD = self._of(task.candidates)
        decisions = []
        for number, query in enumerate(task.queries):
            ranked = candidate_CD if task.local is None else candidate_CD[[place[name] for name in task.local[number]]]
            plain = self.plain_ND[self.rows[query.key]]
            scores = np.sort(np.round(ranked @ plain, 6))[::-1][:NUM_HITS]
            decisions.append(self.gate.wants(query, plain, scores.tolist()))
        return decisions

    def asked(self, tasks: Sequence[RetrievalTask], wanted: Mapping[str, Sequence[bool]]) -> set[str]:
        """Return the keys of the items that are reasoned about: candidates, and the queries that the gate wants."""
        candidates = {item.key for task in tasks for item in task.candidates}
        return candidates | {query.key for task in tasks for query, wants in zip(task.queries, wanted[task.name], strict=True) if wants}

    def rankings(self, task: RetrievalTask, wanted: Sequence[bool], with_tcots: Sequence[Ranking]) -> list[Ranking]:
        """Return each query's ranking: with T-CoTs where the gate wants it, else plain."""
        plain = rank(self._of(task.queries), self._of(task.candidates), task.candidate_ids, task.relevant, task.local, task=task.name)
        return [reasoned if wants else bare for reasoned, bare, wants in zip(with_tcots, plain, wanted, strict=True)]

    def _of(self, items: Sequence[Item]) -> np.ndarray:
        return self.plain_ND[[self.rows[item.key] for item in items]]
