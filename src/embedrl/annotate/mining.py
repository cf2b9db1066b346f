"""Mining of hard negatives among the targets of filtered pairs, without false negatives.

The nearest targets of a query are either its hardest negatives or right answers that nobody labelled. A judge tells them apart (as in
TTE-v2); without one, a target counts as a right answer from 95 % of the positive's similarity on (the positive-aware threshold
"TopK-PercPos" of NV-Retriever, arXiv 2407.15831).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from embedrl.annotate.filter import CONTRASTIVE, LOCK, VERDICTS, judged
from embedrl.data.pair_file import PairFile, side_tcot
from embedrl.data.protocols import Embeds, Judges
from embedrl.data.records import Records, WriterLock
from embedrl.data.sample import Item
from embedrl.data.vectors import embed_unit
from embedrl.errors import ConfigError, unwritable

MAX_POSITIVE_SHARE = 0.95
DEPTH = 30
"""Nearest targets that are looked at for each query."""
BLOCK = 1024
"""Queries whose similarities are held at once."""


class Mined(BaseModel):
    """Counts of mined hard negatives of one dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    negatives: int = 0
    """Hard negatives that were added."""
    false_negatives: int = 0
    """Near targets of other pairs that are right answers, and were left out."""
    unjudged: int = 0
    """Near targets that the judge failed on, or that have no T-CoT to judge by; left out."""
    short: int = 0
    """Pairs that got fewer negatives than asked for."""


@dataclass
class _Query:
    """The search for the negatives of one pair."""

    row: int
    near: list[int]
    """Rows of the nearest targets that are left, the nearest first."""
    chosen: list[int] = field(default_factory=list)


class MineConfig(BaseModel):
    """Settings of mining."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_negatives: int = Field(default=2, ge=1)
    """Hard negatives of a pair, at most."""
    batch_size: int = Field(default=32, ge=1)
    """Items that are embedded, and pairs of T-CoTs that are judged, at once."""


def mine_negatives(folder: Path, embedder: Embeds, judge: Judges | None = None, config: MineConfig | None = None) -> dict[str, Mined]:
    """Add hard negatives to the pairs of a folder's contrastive.jsonl, which is replaced atomically; return counts by dataset.

    Candidates are the other targets of the dataset, by the cosine of query and target with their T-CoTs. Negatives that a pair has
    already stay, before the mined ones. Verdicts of the judge are kept. Raises ConfigError for a folder that was not filtered, StoreError
    if another process filters there, and what the Embedder raises; the file is then as before.
    """
    config = config or MineConfig()
    path = folder / CONTRASTIVE
    if not path.is_file():
        raise ConfigError(f"{str(path)!r}: there is no such file; filter the folder first (embedrl filter)")
    lock, verdicts = WriterLock(folder / LOCK), Records(folder / VERDICTS)
    try:
        return _Miner(path, embedder, judge, verdicts, config).run()
    finally:
        verdicts.close()
        lock.release()


class _Miner:
    """One pass over a file of pairs; vectors of all its sides are held."""

    def __init__(self, path: Path, embedder: Embeds, judge: Judges | None, verdicts: Records, config: MineConfig) -> None:
        self.path, self.embedder, self.judge, self.verdicts, self.config = path, embedder, judge, verdicts, config
        self.pairs = PairFile(path)
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        pairs = map(self.pairs.__getitem__, range(len(self.pairs)))
        heads = [(pair.task, (pair.query.key, pair.target.key)) for pair in pairs]  # each line is read from the file
        self.tasks, self.keys = [task for task, _ in heads], [keys for _, keys in heads]

    def run(self) -> dict[str, Mined]:
        """Mine dataset by dataset, then write the file."""
        chosen: dict[int, list[int]] = {}
        for task in sorted(set(self.tasks)):
            rows = [row for row, name in enumerate(self.tasks) if name == task]
            queries = list(self._near(rows))
            self._choose(task, queries)
            chosen |= {query.row: query.chosen for query in queries}
            self.counts[task]["negatives"] = sum(len(query.chosen) for query in queries)
            self.counts[task]["short"] = sum(len(query.chosen) < self.config.num_negatives for query in queries)
        self._write(chosen)
        return {task: Mined(**counts) for task, counts in self.counts.items()}

    def _near(self, rows: Sequence[int]) -> Iterator[_Query]:
        """Yield the nearest targets of each query that are not known to be right, one row a target."""
        first_row = {self.keys[row][1]: row for row in reversed(rows)}
        targets = sorted(first_row.values())
        right: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            right[self.keys[row][0]].add(self.keys[row][1])
        place = {self.keys[row][1]: number for number, row in enumerate(targets)}
        target_MD, query_ND = self._vectors(targets, "target"), self._vectors(rows, "query")
        for start in range(0, len(rows), BLOCK):
            similarity_nM = query_ND[start : start + BLOCK] @ target_MD.T
            for row, similarity_M in zip(rows[start : start + BLOCK], similarity_nM, strict=True):
                query_key, target_key = self.keys[row]
                known = right[query_key] | {*self.pairs.negatives.get(row, ())}
                limit = similarity_M[place[target_key]] * MAX_POSITIVE_SHARE
                near: list[int] = []
                for number in np.argsort(-similarity_M, kind="stable"):
                    if self.keys[targets[number]][1] in known:
                        continue
                    if self.judge is None and similarity_M[number] >= limit:
                        self.counts[self.tasks[row]]["false_negatives"] += 1
                        continue
                    near.append(targets[number])
                    if len(near) == DEPTH:
                        break
                yield _Query(row, near)

    def _choose(self, task: str, queries: Sequence[_Query]) -> None:
        """Take the nearest, those that the judge says no to; it is asked about one target of each query at a time."""
        size, wanted = self.config.batch_size, self.config.num_negatives
        while open_queries := [query for query in queries if query.near and len(query.chosen) < wanted]:
            for start in range(0, len(open_queries), size):
                batch = open_queries[start : start + size]
                asked = [(query, query.near.pop(0)) for query in batch]
                for (query, row), verdict in zip(asked, self._verdicts([(query.row, row) for query, row in asked]), strict=True):
                    if verdict is False:
                        query.chosen.append(row)
                    else:
                        self.counts[task]["false_negatives" if verdict else "unjudged"] += 1

    def _verdicts(self, asked: Sequence[tuple[int, int]]) -> list[bool | None]:
        """Say whether targets answer queries; None where the judge failed."""
        if self.judge is None:
            return [False] * len(asked)
        tcots = [(side_tcot(self.pairs[query], "query"), side_tcot(self.pairs[target], "target")) for query, target in asked]
        answers = iter(judged(self.judge, self.verdicts, [(query, target) for query, target in tcots if query and target]))
        verdicts = [next(answers) if query and target else None for query, target in tcots]
        return [verdict if isinstance(verdict, bool) else None for verdict in verdicts]

    def _vectors(self, rows: Sequence[int], side: str) -> np.ndarray:
        """Embed one side of some pairs: float32 (N, dim), unit length."""
        vectors: list[np.ndarray] = []
        for start in range(0, len(rows), self.config.batch_size):
            pairs = [self.pairs[row] for row in rows[start : start + self.config.batch_size]]
            items: list[Item] = [getattr(pair, side) for pair in pairs]
            vectors.append(embed_unit(self.embedder, items, [side_tcot(pair, side) for pair in pairs]))
        return np.concatenate(vectors)

    def _write(self, chosen: dict[int, list[int]]) -> None:
        """Write the file with the negatives as they stand in it as targets, paths relative as there."""
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            lines = [line for line in self.path.read_bytes().splitlines() if line.strip()]
            with new.open("w", encoding="utf-8") as file:
                for row, line in enumerate(lines):
                    record = json.loads(line)
                    pair = record["pair"]
                    pair["negatives"] = [*pair.get("negatives", ()), *(json.loads(lines[other])["pair"]["target"] for other in chosen[row])]
                    file.write(f"{json.dumps(record)}\n")
            new.replace(self.path)
        except OSError as error:
            raise unwritable(self.path.parent, error) from error
        finally:
            new.unlink(missing_ok=True)


def mined_line(mined: dict[str, Mined]) -> str:
    """Return a one-line summary of mining."""
    totals = Counter[str]()
    for counts in mined.values():
        totals.update(counts.model_dump())
    unjudged = f", {totals['unjudged']} as not judged" if totals["unjudged"] else ""
    short = f"; {totals['short']} pairs have fewer than asked for" if totals["short"] else ""
    left_out = f"{totals['false_negatives']} near targets left out as right answers"
    return f"{totals['negatives']} hard negatives mined, {left_out}{unjudged}{short}"
