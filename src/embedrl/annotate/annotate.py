"""Annotate pairs with T-CoTs, once per item and Reasoner.

Pairs are read as they are needed, and what a batch gave is on the disk before the next one is read: a kill costs at most one batch,
and the next run does only what is missing. What failed is kept apart, with its reason, and tried again when that is asked for.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from embedrl.annotate.media_files import materialize
from embedrl.annotate.store import Annotations, State, state_of
from embedrl.concurrency import map_concurrently, num_queued, split
from embedrl.data.protocols import CountsTokens, Reasons, Refusal
from embedrl.data.reasoning import GIVE_UP_AFTER, NOT_ASKED, Answer, Patience, TCoTCounts, ask
from embedrl.data.records import WriterLock, outcome_key
from embedrl.data.sample import Item, Pair
from embedrl.data.sources.row import Outcome, ProblemKind, SourceProblem
from embedrl.data.tcot import ParseFailure, TCoT, count_words, render
from embedrl.errors import ConfigError, MediaError, ModelError
from embedrl.media.content import Text, part_files

NUM_EXAMPLES = 10
"""Number of failures listed in full in a report."""

ANSWER_IN_SIGHT = "What it should find:"
"""Text before the answer, for queries that are shown it."""

Retry = Literal["malformed", "failed"]
Progress = Callable[[int, Mapping[str, int]], None]


class Budget(BaseModel):
    """Limits of a run, checked before each batch."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens written by the Reasoner (words, if it does not count tokens)."""
    max_seconds: float | None = Field(default=None, gt=0)


class AnnotateReport(BaseModel):
    """Counts of one annotation run. An item in several pairs counts once."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    reasoner: str
    num_pairs: int
    """Pairs read."""
    num_problems: int
    """Rows without a pair, and pairs with a missing medium; problems.jsonl has the reasons."""
    num_repeated: int
    """Duplicates among the pairs, which are kept once."""
    known: int
    """Items done by earlier runs."""
    made: int
    """Items annotated with a T-CoT in this run."""
    malformed: int
    """Items whose output in this run was not a T-CoT."""
    failed: int
    """Items with an unreadable medium or without an answer in this run."""
    tcots: TCoTCounts
    """Outcomes of the items of this run, by reason."""
    left: int
    """Items left for the next run."""
    stopped_by: str
    """The setting of the budget that ended the run, or ""."""
    num_tokens: int
    """Tokens that the Reasoner wrote (words, if it does not count them)."""
    seconds: float
    examples: tuple[str, ...]
    """The first failures and problems, with reasons."""


def annotate(
    pairs: Iterable[Outcome],
    reasoner: Reasons,
    folder: Path,
    *,
    batch_size: int = 16,
    answer_share: float = 0.0,
    retry: Retry | None = None,
    budget: Budget | None = None,
    give_up_after: int = GIVE_UP_AFTER,
    max_in_flight: int = 1,
    on_progress: Progress | None = None,
) -> AnnotateReport:
    """Annotate the items of `pairs` that `folder` has no T-CoT of, and store the T-CoTs there.

    Of the queries whose target is a text, `answer_share` are reasoned about with that text in sight: the same ones each time,
    and their records say so. With `retry`, do those alone again that the Reasoner answered with something malformed, or that failed.
    `on_progress` gets the number of pairs that were done since the last call, and the counts so far. With `max_in_flight` above 1, the
    Reasoner is called from that many threads, and some batches are read ahead.
    Raises ConfigError for wrong options, StoreError if another process annotates into the folder, and ModelError if the model
    fails for `give_up_after` items in a row, of which nothing is kept; refusals that are about an item do not count.
    """
    if min(batch_size, give_up_after) < 1:
        raise ConfigError(f"batch_size={batch_size}, give_up_after={give_up_after}: give at least 1")
    if not 0 <= answer_share <= 1:
        raise ConfigError(f"answer_share={answer_share}: give a share from 0 to 1")
    if retry not in (None, State.MALFORMED, State.FAILED):
        raise ConfigError(f"retry={retry!r}: choose malformed or failed, or leave it out")
    lock = WriterLock(folder / "annotate.lock")
    try:
        store = Annotations(folder)
        try:
            known = {"num_frames": reasoner.num_frames, "answer_share": answer_share}
            if (before := store.reasoners.get(reasoner.fingerprint) or known) != known:
                raise ConfigError(
                    f"{str(folder)!r}: {reasoner.fingerprint!r} annotated there with {before}, not {known}; take another folder"
                )
            if reasoner.fingerprint not in store.reasoners:
                store.reasoners.put(reasoner.fingerprint, known)
            run = _Run(store, reasoner, batch_size, max_in_flight, answer_share, retry, budget or Budget(), give_up_after, on_progress)
            return run.run(pairs)
        finally:
            store.close()
    finally:
        lock.release()


class _Run:
    """State of one run: the next batch and the counts."""

    def __init__(
        self,
        store: Annotations,
        reasoner: Reasons,
        batch_size: int,
        max_in_flight: int,
        answer_share: float,
        retry: Retry | None,
        budget: Budget,
        give_up_after: int,
        on_progress: Progress | None,
    ) -> None:
        self.store, self.reasoner, self.batch_size, self.retry = store, reasoner, batch_size, retry
        self.budget, self.patience, self.on_progress = budget, Patience(give_up_after), on_progress
        self.answer_share, self.max_in_flight = answer_share, max_in_flight
        self.num_queued = num_queued(batch_size, max_in_flight)
        self.answers: dict[str, str] = {}
        """Of the next batch, by outcome key: the answers that are in sight."""
        self.started_s = time.monotonic()
        self.meter = reasoner if isinstance(reasoner, CountsTokens) else None
        self.num_written_before = self.meter.num_written if self.meter else 0
        self.pending: dict[str, Item] = {}
        """Items of the next batch, by outcome key."""
        self.read: list[Pair] = []
        """Pairs that wait for their items, or to be written."""
        self.seen_pairs: set[str] = set()
        """Keys of the pairs that this run has counted."""
        self.seen: set[str] = set()
        """Outcome keys that this run has counted."""
        self.left: set[str] = set()
        """Of these, what no run has come to."""
        self.model_failures: list[str] = []
        """Items for which the model failed since it last answered."""
        self.counts = dict.fromkeys(("num_pairs", "num_problems", "num_repeated", "known", "made", "malformed", "failed", "num_tokens"), 0)
        self.tcots = TCoTCounts()
        self.num_reported = 0
        self.stopped_by = ""
        self.examples: list[str] = []

    def run(self, pairs: Iterable[Outcome]) -> AnnotateReport:
        """Process all pairs."""
        for outcome in pairs:
            if isinstance(outcome, SourceProblem):
                self._problem(outcome)
            else:
                self._take(outcome)
            if max(len(self.pending), len(self.read)) >= self.num_queued:
                self._flush()
        self._flush()
        return AnnotateReport(
            reasoner=self.reasoner.fingerprint,
            **self.counts,
            tcots=self.tcots,
            left=len(self.left),
            stopped_by=self.stopped_by if self.left else "",
            seconds=round(time.monotonic() - self.started_s, 3),
            examples=tuple(self.examples),
        )

    def _take(self, pair: Pair) -> None:
        """Add a pair and its pending items to the next batch."""
        self.counts["num_pairs"] += 1
        try:
            pair = materialize(pair, self.store.folder / "media")
            _require_names(pair)
            keys = {outcome_key(item, self.reasoner.fingerprint): item for item in (pair.query, pair.target)}
        except MediaError as error:
            self._problem(SourceProblem(path=_first_path(pair), kind=ProblemKind.MEDIA, reason=f"a pair of {pair.task!r}: {error}"))
            return
        if pair.key in self.seen_pairs:
            self.counts["num_repeated"] += 1
            return
        self.seen_pairs.add(pair.key)
        for key, item in keys.items():
            if key in self.seen:
                continue
            self.seen.add(key)
            state = self.store.state(key)
            if state == self.retry and not self.stopped_by:
                self.pending[key] = item
                answer = pair.target.text if item is pair.query and pair.target.visual is None else ""
                if answer and int(key[:8], 16) < self.answer_share * 2**32:
                    self.answers[key] = answer
            elif state is None or state == self.retry:
                self.left.add(key)
            else:
                self.counts["known"] += 1
        if all(key in self.pending or self.store.state(key) for key in keys):
            self.read.append(pair)

    def _problem(self, problem: SourceProblem) -> None:
        self.counts["num_problems"] += 1
        self.store.keep_problem(problem)
        self._tell(str(problem))

    def _flush(self) -> None:
        """Process the gathered items in batches; outcomes are on the disk when this returns."""
        pending, self.pending = list(self.pending.items()), {}
        # In one lane, what was gathered is the batch: it may hold one item more, so that the last pair is not cut in two.
        batches = split(pending, self.batch_size) if self.max_in_flight > 1 else [pending]
        for batch, answers in zip(batches, map_concurrently(self._reason, batches, self.max_in_flight), strict=True):
            self._keep(batch, answers)
        if self.patience.is_over:
            self._give_up()
        self.answers = {}
        self.store.keep_pairs(self.read)
        self.read = []
        if self.meter:
            self.counts["num_tokens"] = self.meter.num_written - self.num_written_before
        self._check_budget()
        if self.on_progress:
            self.on_progress(self.counts["num_pairs"] - self.num_reported, dict(self.counts))
        self.num_reported = self.counts["num_pairs"]

    def _keep(self, batch: Sequence[tuple[str, Item]], answers: Sequence[Answer]) -> None:
        """Store the outcomes of a batch, except of items that were not asked about."""
        made = {
            key: (item, answer)
            for (key, item), answer in zip(batch, answers, strict=True)
            if not (isinstance(answer, Refusal) and answer.reason == NOT_ASKED)
        }
        for key, (_, answer) in made.items():
            if isinstance(answer, ModelError):
                self.model_failures.append(key)
            elif not isinstance(answer, MediaError):
                self.model_failures = []
        self.store.keep(made, self.reasoner.fingerprint, saw_answer=self.answers)
        self.tcots += TCoTCounts.of(answer for _, answer in made.values())
        for item, answer in made.values():
            self._count(item, answer)

    def _reason(self, asked: Sequence[tuple[str, Item]]) -> list[Answer]:
        return ask(self.reasoner, [self._shown(key, item) for key, item in asked], self.patience)

    def _shown(self, key: str, item: Item) -> Item:
        """Return the item that the Reasoner is shown, with the answer appended for tasks that show it."""
        if key not in self.answers:
            return item
        return item.model_copy(update={"content": (*item.content, Text(text=f"{ANSWER_IN_SIGHT} {self.answers[key]}"))})

    def _give_up(self) -> None:
        """End the run, discarding the consecutive failures: their cause is the model, not the items."""
        if self.retry != State.FAILED:
            self.store.outcomes[State.FAILED].drop_many(self.model_failures)
        raise ModelError(
            f"the Reasoner {self.reasoner.fingerprint!r} failed for {self.patience.num_failed} items in a row, the last time with: "
            f"{self.patience.last_error}; what was done is kept: run again, or raise give_up_after={self.patience.give_up_after} to step "
            "over them"
        )

    def _count(self, item: Item, outcome: Answer) -> None:
        state = state_of(outcome)
        self.counts["made" if state == State.TCOT else state.value] += 1
        if not self.meter and isinstance(outcome, TCoT | ParseFailure):
            self.counts["num_tokens"] += count_words(render(outcome) if isinstance(outcome, TCoT) else outcome.text)
        if isinstance(outcome, ParseFailure):
            self._tell(f"item {item.key[:12]}: {outcome.reason}")
        elif not isinstance(outcome, TCoT):
            self._tell(f"item {item.key[:12]}: {outcome}")

    def _check_budget(self) -> None:
        used = {"max_tokens": self.counts["num_tokens"], "max_seconds": time.monotonic() - self.started_s}
        for name, limit in self.budget:
            if limit is not None and used[name] >= limit:
                self.stopped_by = name

    def _tell(self, reason: str) -> None:
        if len(self.examples) < NUM_EXAMPLES:
            self.examples.append(reason)


def _require_names(pair: Pair) -> None:
    """Raise MediaError for a file name that JSON cannot encode."""
    for path in _paths(pair):
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as error:
            raise MediaError(f"{os.fsencode(path)!r}: its name is not UTF-8; rename it") from error


def _paths(pair: Pair) -> list[Path]:
    items = (pair.query, pair.target, *pair.negatives)
    return [path for item in items for part in item.content for path in part_files(part)]


def _first_path(pair: Pair) -> Path:
    return next(iter(_paths(pair)), Path())
