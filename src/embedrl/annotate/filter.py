"""Filtering of annotated pairs into contrastive training data, RL data and rejections with reasons."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embedrl.annotate.rules import Reason, Sides, leak, malformed, ungrounded, unread
from embedrl.annotate.store import Annotations
from embedrl.data.protocols import Judges
from embedrl.data.records import Records, WriterLock
from embedrl.data.sample import Pair
from embedrl.data.tcot import ParseFailure, TCoT, render
from embedrl.errors import ConfigError, MediaError, ModelError, StoreError, unwritable

CONTRASTIVE, RL, REJECTED = "contrastive.jsonl", "rl.jsonl", "rejected.jsonl"
VERDICTS, LOCK = "verdicts.jsonl", "filter.lock"
NUM_EXAMPLES = 3
"""Number of pairs of each dataset and reason shown in a report."""


class SortedPair(BaseModel):
    """One line of the three output files, read by `data/sources/lines.py`.

    T-CoTs are texts; a malformed one stands as it was written, and None if there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pair: Pair
    query_tcot: str | None
    target_tcot: str | None
    num_frames: int | None = Field(default=None, exclude_if=lambda num_frames: num_frames is None)
    """Frames of a video (at most) that the Reasoner saw, where key frames refer to them."""
    reason: Reason | None = None
    """Reason of the rejection; None for a kept pair."""
    detail: str = ""


class FilterReport(BaseModel):
    """Counts of kept and rejected pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    reasoner: str
    judge: str
    """Fingerprint of the judge; "" without one."""
    kept: dict[str, int]
    """Dataset -> number of kept pairs."""
    rejected: dict[str, dict[Reason, int]]
    """Dataset -> reason -> number of pairs."""
    num_rl: int
    """Rejected pairs that were written to rl.jsonl."""
    waiting: int
    """Pairs with an item not annotated yet, which are in none of the files."""
    examples: dict[str, dict[Reason, tuple[str, ...]]]
    """Dataset -> reason -> (key, detail) of some pairs."""


def filter_pairs(
    folder: Path,
    judge: Judges | None = None,
    *,
    reasoner: str | None = None,
    rl_share: float = 0.5,
    batch_size: int = 32,
) -> FilterReport:
    """Filter the annotated pairs of a folder into contrastive.jsonl, rl.jsonl and rejected.jsonl, each written atomically.

    `reasoner` is the name of the one whose T-CoTs are used; it may be left out if there is only one. Of the rejected, `rl_share` goes to
    RL: the same share, up to rounding, of each dataset and reason, and the same pairs each time. Verdicts of the judge are kept.
    Raises ConfigError for wrong options or a folder without annotations, StoreError if another process filters there.
    """
    if not 0 <= rl_share <= 1:
        raise ConfigError(f"rl_share={rl_share}: give a share from 0 to 1")
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: give at least 1")
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r}: there is no such folder")
    store, verdicts = Annotations(folder), Records(folder / VERDICTS)
    try:
        name = store.reasoner_name(reasoner)
        lock = WriterLock(folder / LOCK)
        try:
            return _Run(store, name, judge, verdicts, batch_size).run(rl_share)
        finally:
            lock.release()
    finally:
        verdicts.close()
        store.close()


def report_rows(report: FilterReport) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: one row for each dataset, and one for all."""
    reasons = [reason for reason in Reason if any(reason in counts for counts in report.rejected.values())]
    totals: Counter[Reason] = Counter()
    for counts in report.rejected.values():
        totals.update(counts)
    names = sorted(report.kept.keys() | report.rejected.keys())
    lines = [(name, report.kept.get(name, 0), report.rejected.get(name, {})) for name in names]
    lines.append(("all", sum(report.kept.values()), dict(totals)))
    rows = [[name, f"{kept}", *(f"{counts.get(reason, 0)}" for reason in reasons)] for name, kept, counts in lines]
    return ["dataset", "kept", *(reason.value for reason in reasons)], rows


class _Run:
    """One pass over all pairs, holding one batch and the keys of rejected pairs."""

    def __init__(self, store: Annotations, reasoner: str, judge: Judges | None, verdicts: Records, batch_size: int) -> None:
        self.store, self.reasoner, self.judge, self.verdicts = store, reasoner, judge, verdicts
        self.batch_size = batch_size
        self.num_frames: int = store.reasoners.get(reasoner)["num_frames"]
        self.kept: Counter[str] = Counter()
        self.keys: defaultdict[tuple[str, Reason], list[str]] = defaultdict(list)
        """Keys of the rejected, by dataset and reason."""
        self.order: list[str] = []
        """The same keys, in the order of their lines."""
        self.examples: defaultdict[str, dict[Reason, tuple[str, ...]]] = defaultdict(dict)
        self.waiting = 0

    def run(self, rl_share: float) -> FilterReport:
        """Filter all pairs, then split the rejected ones."""
        folder = self.store.folder
        files = {name: folder / f"{name}.new" for name in (CONTRASTIVE, RL, REJECTED, "sorted")}
        try:
            with files[CONTRASTIVE].open("w", encoding="utf-8") as good, files["sorted"].open("w", encoding="utf-8") as bad:
                for row in self._sorted():
                    (bad if row.reason else good).write(f"{json.dumps(row.model_dump(mode='json'))}\n")
            chosen = self._chosen(rl_share)
            with (
                files["sorted"].open(encoding="utf-8") as bad,
                files[RL].open("w", encoding="utf-8") as rl,
                files[REJECTED].open("w", encoding="utf-8") as rest,
            ):
                for line, key in zip(bad, self.order, strict=True):
                    (rl if key in chosen else rest).write(line)
            for name in (CONTRASTIVE, RL, REJECTED):
                files[name].replace(folder / name)
        except StoreError:
            raise
        except OSError as error:
            raise unwritable(folder, error) from error
        finally:
            for path in files.values():
                path.unlink(missing_ok=True)
        rejected: dict[str, dict[Reason, int]] = {}
        for (dataset, reason), keys in sorted(self.keys.items()):
            rejected.setdefault(dataset, {})[reason] = len(keys)
        return FilterReport(
            reasoner=self.reasoner,
            judge=self.judge.fingerprint if self.judge else "",
            kept=dict(sorted(self.kept.items())),
            rejected=rejected,
            num_rl=len(chosen),
            waiting=self.waiting,
            examples=dict(sorted(self.examples.items())),
        )

    def _sorted(self) -> Iterator[SortedPair]:
        """Yield the annotated pairs with the reasons of rejection."""
        for_judge: list[tuple[str, Pair, TCoT, TCoT]] = []
        for key, pair in self.store.read_pairs():
            try:
                query, target = (self.store.outcome(item, self.reasoner) for item in (pair.query, pair.target))
            except MediaError as error:  # the file was there when the pair was annotated
                yield self._row(key, pair, ("", ""), Reason.UNREADABLE, str(error))
                continue
            if query is None or target is None:
                self.waiting += 1
            elif broken := self._broken_rule(pair, (query, target)):
                yield self._row(key, pair, (query, target), *broken)
            elif self.judge:
                assert isinstance(query, TCoT)
                assert isinstance(target, TCoT)
                for_judge.append((key, pair, query, target))
                if len(for_judge) >= self.batch_size:
                    yield from self._judged(for_judge, self.judge)
                    for_judge = []
            else:
                yield self._row(key, pair, (query, target))
        if self.judge and for_judge:
            yield from self._judged(for_judge, self.judge)

    def _broken_rule(self, pair: Pair, sides: Sides) -> tuple[Reason, str] | None:
        if detail := unread(pair, sides, self.store, self.reasoner):
            return Reason.UNREADABLE, detail
        if detail := malformed(sides):
            return Reason.MALFORMED, detail
        query, target = sides
        assert isinstance(query, TCoT)
        assert isinstance(target, TCoT)
        try:
            for name, item, tcot in (("query", pair.query, query), ("target", pair.target, target)):
                if detail := ungrounded(name, item, tcot, self.num_frames):
                    return Reason.UNGROUNDED, detail
        except MediaError as error:
            return Reason.UNREADABLE, str(error)
        if not self.store.saw_answer(pair.query, self.reasoner) and (detail := leak(pair, query)):
            return Reason.LEAK, detail
        return None

    def _judged(self, asked: Sequence[tuple[str, Pair, TCoT, TCoT]], judge: Judges) -> Iterator[SortedPair]:
        """Judge pairs by their T-CoTs."""
        verdicts = judged(judge, self.verdicts, [(query, target) for _, _, query, target in asked])
        for (key, pair, query, target), verdict in zip(asked, verdicts, strict=True):
            if isinstance(verdict, bool):
                yield self._row(key, pair, (query, target), None if verdict else Reason.NO_MATCH)
            else:
                yield self._row(key, pair, (query, target), Reason.JUDGE_FAILED, f"the judge: {verdict or 'no verdict'}")

    def _row(self, key: str, pair: Pair, sides: Sides, reason: Reason | None = None, detail: str = "") -> SortedPair:
        """Count a pair and return its line."""
        if reason is None:
            self.kept[pair.task] += 1
        else:
            self.keys[pair.task, reason].append(key)
            self.order.append(key)
            shown = self.examples[pair.task].get(reason, ())
            if len(shown) < NUM_EXAMPLES:
                self.examples[pair.task][reason] = (*shown, f"{key[:12]}: {detail}" if detail else key[:12])
        query, target = (_text(side) for side in sides)
        counts = {self.num_frames for side in sides if isinstance(side, TCoT) and side.evidence.key_frames}
        num_frames = next(iter(counts), None)
        return SortedPair(pair=pair, query_tcot=query, target_tcot=target, num_frames=num_frames, reason=reason, detail=detail)

    def _chosen(self, share: float) -> set[str]:
        """Return the keys of the rejected pairs that go to RL: the first by hash, stratified by dataset and reason."""
        chosen: set[str] = set()
        num_before = 0
        for (_, reason), keys in sorted(self.keys.items()):
            if reason != Reason.UNREADABLE:
                num_before += len(keys)
                chosen.update(sorted(keys)[: int(num_before * share + 0.5) - len(chosen)])
        return chosen


def judged(judge: Judges, verdicts: Records, asked: Sequence[tuple[TCoT, TCoT]]) -> list[bool | str | None]:
    """Return whether (query, target) match, asking for those without a cached verdict; a str is the judge's error, and is not cached."""
    keys = [
        hashlib.sha256(f"{judge.fingerprint}\0{render(query)}\0{render(target)}".encode("utf-8", "surrogatepass")).hexdigest()
        for query, target in asked
    ]
    new = {key: sides for key, sides in zip(keys, asked, strict=True) if key not in verdicts}
    answers = dict(zip(new, _match(judge, list(new.values())), strict=True))
    verdicts.put_many({key: answer for key, answer in answers.items() if isinstance(answer, bool)})
    return [answers[key] if key in answers else verdicts.get(key) for key in keys]


def _match(judge: Judges, asked: Sequence[tuple[TCoT, TCoT]]) -> list[bool | str | None]:
    """Return a verdict per pair; a str is the judge's error. A batch that fails as a whole is judged pair by pair."""
    if not asked:
        return []
    try:
        verdicts: list[bool | str | None] = list(judge.match(asked))
    except ModelError as error:
        return [str(error)] if len(asked) == 1 else [verdict for pair in asked for verdict in _match(judge, [pair])]
    if len(verdicts) != len(asked):
        raise ModelError(f"the judge {judge.fingerprint!r} returned {len(verdicts)} verdicts for {len(asked)} pairs")
    return verdicts


def _text(side: TCoT | ParseFailure | str) -> str | None:
    if isinstance(side, TCoT):
        return render(side)
    return side.text if isinstance(side, ParseFailure) else None
