"""Asking a Reasoner for missing T-CoTs. Partial answers are kept, refusals recorded, and the run goes on.

Annotating, evaluating, indexing and serving ask through `reason_missing` or `ask`. An item without an answer has a `ModelError` or
`MediaError` in its place, in order, and costs the others nothing.
"""

import re
import threading
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from embedrl import log
from embedrl.data.plain_text import THOUGHT, plain, without_end
from embedrl.data.protocols import Reasons, Refusal, Unanswered
from embedrl.data.records import Records, outcome_key, read_outcome, write_outcome
from embedrl.data.sample import Item
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, read, with_facts
from embedrl.errors import ConfigError, MediaError, ModelError, StoreError

Outcome = TCoT | ParseFailure
"""Parsed output of a Reasoner for an item."""
Answer = Outcome | MediaError | ModelError
"""Output of a Reasoner for an item, or the error."""
AnswerT = TypeVar("AnswerT", bound=Answer)

GIVE_UP_AFTER = 16
"""Consecutive failures after which the Reasoner counts as gone."""
NOT_ASKED = "not_asked"
OTHER = "model_error"
"""Reason code of a ModelError without one."""
MEDIA = "unreadable"
UNREACHED = frozenset({"transport", NOT_ASKED})
"""Reason codes of an unreachable Reasoner."""

_EXAMPLE_CHARS = 200
_HEADING = re.compile(r"[*_#> ]*(?:(?:(?:the|my|final|short) )*answer(?: is)?|最终答案|答案|回答|答)[*_ ]*[:：][*_ ]*", re.IGNORECASE)
"""What chat models put before an answer that they were asked for alone."""


class _MiscountedError(ModelError):
    """A Reasoner returned a wrong number of answers."""


class Patience:
    """Circuit breaker: counts consecutive failures of a model over the batches and threads of a run.

    Refusals that are about an item, and media that cannot be read, do not count; any answer starts the count anew.
    """

    def __init__(self, give_up_after: int = GIVE_UP_AFTER) -> None:
        self.give_up_after, self.num_failed = give_up_after, 0
        self.last_error: ModelError | None = None
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self.num_failed >= self.give_up_after

    def require(self, reasoner: str) -> None:
        """Raise ModelError if the limit is reached."""
        if self.is_over:
            raise ModelError(
                f"the Reasoner {reasoner!r} failed for {self.num_failed} items in a row, the last time with: {self.last_error}; "
                "run again once it answers: what is cached is not made twice"
            )

    def note(self, answers: Iterable[object]) -> None:
        """Count the answers of some items, in order: errors, or what was asked for."""
        with self._lock:
            for answer in answers:
                if self.is_over:
                    return
                if isinstance(answer, ModelError):
                    if not (isinstance(answer, Refusal) and answer.about_item):
                        self.num_failed, self.last_error = self.num_failed + 1, answer
                elif not isinstance(answer, MediaError):
                    self.num_failed = 0


class KeepsTCoTs(Protocol):
    """Protocol of an outcome store, by `outcome_key`."""

    def find(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Return key -> outcome of the known keys."""
        ...

    def keep(self, outcomes: dict[str, Outcome]) -> None:
        """Store outcomes."""
        ...


class RecordedTCoTs:
    """Outcomes in a records file, durable when `keep` returns. Implements `KeepsTCoTs`."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def find(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Return what is known of these keys."""
        return {key: read_outcome(self.records.get(key)) for key in keys if key in self.records}

    def keep(self, outcomes: dict[str, Outcome]) -> None:
        """Store outcomes. Raises StoreError with nothing stored."""
        self.records.put_many({key: write_outcome(outcome) for key, outcome in outcomes.items()})


def ask(reasoner: Reasons, items: Sequence[Item], patience: Patience | None = None) -> list[Answer]:
    """Return an answer or error per item, in order. A batch that fails as a whole is asked item by item.

    Once `patience` is over, items are not asked about, and their error says so. Raises ConfigError and StoreError of the Reasoner, and
    ModelError if it returns another number of T-CoTs.
    """
    if not items:
        return []
    if patience is not None and patience.is_over:
        text = f"the Reasoner failed for {patience.num_failed} items before it in a row ({patience.last_error})"
        return [Refusal(NOT_ASKED, text)] * len(items)
    try:
        answers: list[Answer] = list(reasoner.reason(items))
    except Unanswered as error:
        answers = list(error.outcomes)
    except (ConfigError, StoreError, AssertionError, _MiscountedError):
        raise
    except Exception as error:  # boundary: a model, which may raise anything over an odd item
        if len(items) > 1:
            return [answer for item in items for answer in ask(reasoner, [item], patience)]
        known = isinstance(error, MediaError | ModelError)
        answers = [error if known else ModelError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")]
    if len(answers) != len(items):
        raise _MiscountedError(f"the Reasoner {reasoner.fingerprint!r} returned {len(answers)} T-CoTs for {len(items)} items")
    if patience is not None:
        patience.note(answers)
    return [_counted(answer, reasoner) for answer in answers]


def reason_missing(
    reasoner: Reasons, items: Sequence[Item], kept: KeepsTCoTs, *, retry: bool = False, patience: Patience | None = None
) -> list[Answer]:
    """Return an answer or error per item, in order, asking only for items without a stored outcome; new outcomes are stored.

    Asked about are items of which nothing is kept, those that `asks_again` names, and, with `retry`, all that got no T-CoT. Raises as
    `ask` does, and MediaError for an item whose file cannot be hashed.
    """
    keys = [outcome_key(item, reasoner.fingerprint) for item in items]
    known = {
        key: _counted(outcome, reasoner)
        for key, outcome in kept.find(keys).items()
        if isinstance(outcome, TCoT) or not (retry or asks_again(outcome.reason.value, reasoner))
    }
    missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
    answers = dict(zip(missing, ask(reasoner, list(missing.values()), patience), strict=True))
    if written := {key: answer for key, answer in answers.items() if isinstance(answer, TCoT | ParseFailure)}:
        kept.keep(written)
    return [known[key] if key in known else answers[key] for key in keys]


def _counted(answer: AnswerT, reasoner: Reasons) -> AnswerT | TCoT:
    """Add the number of frames that the Reasoner was shown, which key frames refer to."""
    return with_facts(answer, num_frames=getattr(reasoner, "num_frames", None)) if isinstance(answer, TCoT) else answer


def asks_again(reason: str, reasoner: Reasons) -> bool:
    """Return whether the next run retries an item without a T-CoT for this reason.

    It does unless the Reasoner wrote something that is no T-CoT. A text that was cut at the limit of tokens is asked for again, too,
    if the Reasoner may answer otherwise: a server's limits change, those of weights in this process are part of the fingerprint.
    """
    if reason == FailureReason.TRUNCATED:
        return not getattr(reasoner, "is_deterministic", False)
    return reason not in {known.value for known in FailureReason}


def read_answer(text: str, *, is_cut: bool, num_frames: int, dropped: log.Repeated | None = None) -> Outcome:
    """Parse model output, with a warning for dropped evidence; `dropped` counts those of one Reasoner.

    What was cut at the limit of tokens is TRUNCATED, unless it is a T-CoT all the same.
    """
    reading = read(text)
    if isinstance(reading.outcome, ParseFailure):
        return ParseFailure(reason=FailureReason.TRUNCATED, text=reading.outcome.text) if is_cut else reading.outcome
    if reading.dropped:
        example = "; ".join(reading.dropped[:3])
        (dropped or log.Repeated()).warn(f"a T-CoT points at something that cannot be read; the rest of it is used: {example}")
    return reading.written(num_frames)


def read_bare_answer(text: str, *, is_cut: bool) -> Outcome:
    """Read model output that was asked for the answer of a T-CoT alone, behind its own thinking, as a T-CoT that says it twice.

    As thinking, too: an Embedder that was trained on whole T-CoTs tells these apart better than with an empty one (docs/LOG.md). A
    model that wrote a whole T-CoT all the same is read as such. A heading before the answer ("**Final answer:**") is left out. What was
    cut at the limit of tokens is TRUNCATED.
    """
    whole = read(text).outcome
    if isinstance(whole, TCoT) or whole.reason in (FailureReason.EMPTY, FailureReason.TOO_LONG):
        return whole
    written = without_end(whole.text)
    thoughts = list(THOUGHT.finditer(written))
    is_open = bool(thoughts) and not any(thoughts[-1].groups())
    if is_cut or is_open:
        return ParseFailure(reason=FailureReason.TRUNCATED, text=text)
    answer = plain(_without_heading(plain(written[thoughts[-1].end() if thoughts else 0 :])))
    return TCoT(thinking=answer, rethink="", answer=answer) if answer else ParseFailure(reason=FailureReason.EMPTY, text=text)


def _without_heading(answer: str) -> str:
    heading = _HEADING.match(answer)
    if heading is None:
        return answer
    rest = answer[heading.end() :]
    return rest.rstrip("*_ ") if heading.group().count("*") % 4 or heading.group().count("_") % 4 else rest


def require_all(answers: Sequence[Answer], reasoner: str) -> list[Outcome]:
    """Return the answers if every item has one. Raises `Unanswered` with all outcomes, or the error of the only item."""
    errors = [answer for answer in answers if isinstance(answer, MediaError | ModelError)]
    if errors and len(answers) == 1:
        raise errors[0]
    if errors:
        raise Unanswered(f"{reasoner} did not answer for {len(errors)} of {len(answers)} items; the first: {errors[0]}", answers)
    return [answer for answer in answers if isinstance(answer, TCoT | ParseFailure)]


def failure_reason(answer: Answer) -> str | None:
    """Return the reason code of a missing T-CoT; None if there is one."""
    if isinstance(answer, TCoT):
        return None
    if isinstance(answer, ParseFailure):
        return answer.reason.value
    if isinstance(answer, MediaError):
        return MEDIA
    return answer.reason if isinstance(answer, Refusal) else OTHER


class TCoTCounts(BaseModel):
    """Numbers of items with a T-CoT, and without one by reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    made: int = 0
    failed: dict[str, int] = {}
    examples: dict[str, str] = {}
    """Reason -> first message of the model or its server."""

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> "TCoTCounts":
        """Count answers."""
        made, failed, examples = 0, {}, {}
        for answer in answers:
            reason = failure_reason(answer)
            if reason is None:
                made += 1
                continue
            failed[reason] = failed.get(reason, 0) + 1
            text = " ".join((answer.text if isinstance(answer, ParseFailure) else str(answer)).split())
            examples.setdefault(reason, text if len(text) <= _EXAMPLE_CHARS else f"{text[:_EXAMPLE_CHARS]}…")
        return cls(made=made, failed=failed, examples=examples)

    def __add__(self, other: "TCoTCounts") -> "TCoTCounts":
        failed = {reason: self.failed.get(reason, 0) + other.failed.get(reason, 0) for reason in {**self.failed, **other.failed}}
        return TCoTCounts(made=self.made + other.made, failed=failed, examples=other.examples | self.examples)

    @property
    def num_failed(self) -> int:
        """Number of items without a T-CoT."""
        return sum(self.failed.values())

    @property
    def num_unanswered(self) -> int:
        """Number of items without an answer, which the next run retries."""
        return sum(count for reason, count in self.failed.items() if reason not in {known.value for known in FailureReason})

    @property
    def is_failure(self) -> bool:
        """Whether an item got no answer, or no item got a T-CoT."""
        return bool(self.num_unanswered or (self.failed and not self.made))
