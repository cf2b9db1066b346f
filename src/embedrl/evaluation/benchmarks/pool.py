"""Accumulates the queries and candidates of one dataset into a retrieval task.

A candidate is what the files call by one name: the first row that names it says what it is. Candidates with equal content and
different names stay apart, as the benchmark's own evaluator ranks them, but are reasoned about and embedded once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.data.sources.pair import plain
from embedrl.data.sources.row import RowError
from embedrl.errors import ConfigError, MediaError
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.queries import some
from embedrl.evaluation.benchmarks.source import Source
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import Content

Name = str | int


@dataclass
class Pool:
    """Queries, candidates and labels read so far."""

    source: Source
    inspection: Inspection
    candidates: dict[Name, Item | None] = field(default_factory=dict)
    """None is one that cannot be used."""
    queries: list[Item] = field(default_factory=list)
    relevant: list[Mapping[Name, float]] = field(default_factory=list)
    local: list[tuple[Name, ...]] = field(default_factory=list)
    unlabelled: list[int] = field(default_factory=list)
    """Rows of queries for which nothing is right: they count as 0."""

    def offer(self, name: Name, make: Callable[[], Content], row: int | None, instruction: str | None = None) -> None:
        """Add a candidate, unless its name is known already."""
        if name not in self.candidates:
            wording = self.source.instruction(1, instruction)
            self.candidates[name] = self._made(lambda: items.candidate(some(make()), plain(wording)), f"candidate {str(name)[:80]!r}", row)

    def ask(
        self,
        make: Callable[[], Item],
        relevant: Mapping[Name, float],
        row: int,
        *,
        local: Iterable[Name] | None = None,
        allow_unlabelled: bool = False,
    ) -> None:
        """Add a query. `local` restricts its candidates. With `allow_unlabelled` it may have no label."""
        query = self._made(make, "its query", row)
        names = None if local is None else tuple(dict.fromkeys(local))
        pool = self.candidates.keys() if names is None else set(names)
        if names is not None and not names:
            self.inspection.report(self.source.name, "its list of candidates is empty; download the rows again", row)
        elif not relevant and not allow_unlabelled:
            self.inspection.report(self.source.name, "no candidate is right for it; download the rows again", row)
        elif names is not None and (absent := [name for name in relevant if name not in pool]):
            self.inspection.report(self.source.name, f"the right candidate {absent[0]!r} is not in its list; download the rows again", row)
        elif query is not None:
            if not relevant:
                self.unlabelled.append(row)
            self.queries.append(query)
            self.relevant.append(relevant)
            if names is not None:
                self.local.append(names)

    def _made(self, make: Callable[[], Item], what: str, row: int | None) -> Item | None:
        try:
            item = make()
            _ = item.key  # reads its files, so that one that is missing is named with its row
        except (MediaError, RowError, ConfigError) as error:
            self.inspection.report(self.source.name, f"{what} cannot be used: {error}; unpack or download its files again", row)
            return None
        return item

    def check(self, num_queries: int) -> None:
        """Report labels that are no candidates, and other numbers of queries or candidates than the benchmark has (0: not checked)."""
        name, num_here = self.source.name, len(self.queries)
        for row, labels in enumerate(self.relevant, 1):
            if unknown := [label for label in labels if label not in self.candidates]:
                self.inspection.report(name, f"query {row}: its label {unknown[0]!r} is no candidate; complete its files")
        if num_queries and num_here != num_queries:
            self.inspection.report(name, f"{num_here:,} queries, where the benchmark has {num_queries:,}; download its rows again")
        if not num_here and not num_queries:
            self.inspection.report(name, "it has no queries; download its rows again")
        expected = self.source.num_labels or self.source.num_candidates
        if expected and len(self.candidates) != expected:
            self.inspection.report(name, f"{len(self.candidates):,} candidates, where the benchmark has {expected:,}; complete its files")

    def task(self) -> RetrievalTask:
        """Return the task of a pool without problems."""
        ids: dict[Name, str] = {}
        copies: Counter[str] = Counter()
        items = []
        for name, item in self.candidates.items():
            assert item is not None, "a candidate that cannot be used was reported"
            copies[item.key] += 1
            ids[name] = item.key if copies[item.key] == 1 else f"{item.key}#{copies[item.key]}"
            items.append(item)
        return RetrievalTask(
            name=self.source.name,
            modality=self.source.modality,
            queries=tuple(self.queries),
            candidates=tuple(items),
            relevant=tuple({ids[name]: grade for name, grade in labels.items()} for labels in self.relevant),
            local=tuple(tuple(ids[name] for name in names) for names in self.local) if self.local else None,
            ids=tuple(ids.values()),
            names={key: name for name, key in ids.items()},
        )
