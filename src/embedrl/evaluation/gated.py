"""Queries that a gate answers without reasoning: ranked by plain vectors among plain candidates, as `index.search` does."""
# N items, D dim

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from embedrl.data.protocols import Gates
from embedrl.data.sample import Item
from embedrl.evaluation.ranking import Ranking, rank
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.gate import NUM_HITS


@dataclass(frozen=True)
class GatedQueries:
    """The queries of a task, ranked plain, and which of them the gate wants reasoned about."""

    plain: list[Ranking]
    wanted: list[bool]

    @classmethod
    def of(cls, task: RetrievalTask, gate: Gates, plain_ND: np.ndarray, rows: Mapping[str, int]) -> "GatedQueries":
        """Rank a task by plain vectors (N, D), whose rows are by item key, and ask the gate about each query and its first hits."""
        queries, candidates = (plain_ND[[rows[item.key] for item in side]] for side in (task.queries, task.candidates))
        plain = rank(queries, candidates, task.candidate_ids, task.relevant, task.local, task=task.name)
        row_of = {name: row for row, name in enumerate(task.candidate_ids)}
        local = task.local or [None] * len(queries)
        pools = (candidates if names is None else candidates[[row_of[name] for name in names]] for names in local)
        hits = [np.sort(np.round(pool @ query, 6))[::-1][:NUM_HITS].tolist() for query, pool in zip(queries, pools, strict=True)]
        return cls(plain, [gate.wants(*row) for row in zip(task.queries, queries, hits, strict=True)])

    def asked(self, task: RetrievalTask) -> list[Item]:
        """Return the items that are reasoned about: candidates, and the queries that the gate wants."""
        return [*task.candidates, *(query for query, wants in zip(task.queries, self.wanted, strict=True) if wants)]

    def rankings(self, with_tcots: list[Ranking]) -> list[Ranking]:
        """Return each query's ranking: with T-CoTs where the gate wants it, else plain."""
        return [reasoned if wants else bare for reasoned, bare, wants in zip(with_tcots, self.plain, self.wanted, strict=True)]
