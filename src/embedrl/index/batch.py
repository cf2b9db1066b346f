"""Ingest one batch: decode, reason, embed, make rows. Failures are recorded per item."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from embedrl import log
from embedrl.concurrency import Stop, Stopped
from embedrl.data.evidence import verify
from embedrl.data.items import candidate
from embedrl.data.protocols import Embeds, Gates, Reasons
from embedrl.data.reasoning import Answer, Patience, RecordedTCoTs, TCoTCounts, asks_again, failure_reason, reason_missing
from embedrl.data.records import Records
from embedrl.data.sample import Item
from embedrl.data.segments import TextSegment, span_of, write_segments
from embedrl.data.tcot import TCoT, render, tcot_or_none
from embedrl.data.vectors import OddVectorError, builds_inputs, require_unit
from embedrl.errors import EmbedRLError, MediaError, ModelError
from embedrl.index.gate import declined, is_declined
from embedrl.index.marks import Marks
from embedrl.index.reading import Preview, preview
from embedrl.index.row import Modality, Place, Row
from embedrl.index.stages import Stages
from embedrl.index.words import WordReader
from embedrl.media.content import Text
from embedrl.media.store import Limits

NUM_DECODERS = 4

A = TypeVar("A")
B = TypeVar("B")


class _FailsForAllError(ModelError):
    """A model raised, over each of the values that it was called for, what is no error of this package: the cause."""


@dataclass
class Work:
    """One content to reason about and embed, and its places."""

    item: Item
    modality: Modality
    places: list[Place]
    segments: tuple[TextSegment, ...] = ()
    """The words that were read in it."""

    def copied(self, source: Row, place: Place) -> Row:
        """Return a row of the same content at another place, with the words as they were read there: in audio at times of their own."""
        start_s, end_s = span_of(self.segments) if self.modality == "text" else (source.start_s, source.end_s)
        own = {"place": place, "segments": write_segments(self.segments), "start_s": start_s, "end_s": end_s}
        return source.model_copy(update=own)


class Decoded(NamedTuple):
    """A batch that was decoded: what models and rows need of each work, and what could not be decoded."""

    works: list[tuple[Work, "Looked"]]
    broken: list[tuple[Work, MediaError]]


class Looked(NamedTuple):
    """What was decoded of an item."""

    preview: Preview
    embedder_input: Any = None
    """Its plain input of the Embedder, if that was built ahead."""


class Made(NamedTuple):
    """What was made of a batch."""

    rows: list[Row]
    """One per place."""
    broken: list[tuple[Work, MediaError]]
    """Works that no row could be made of, each with its error."""
    tcots: TCoTCounts
    """What the Reasoner was good for."""


@dataclass
class Batches:
    """Turns Work into rows during a run. Without a Reasoner, rows have plain vectors only."""

    reasoner: Reasons | None
    embedder: Embeds
    tcots: Records
    """T-CoTs of this and earlier runs, by (item key, Reasoner name)."""
    limits: Limits
    num_frames: int
    marks: Marks
    words: WordReader
    retry: bool = False
    """Retry items with an invalid T-CoT."""
    gate: Gates | None = None
    """Decides which items are reasoned about; None: all of them."""
    redo_declined: bool = False
    """Without a gate: reason about items, too, about which a gate of an earlier run decided not to."""
    builds_ahead: bool = False
    """Build the plain inputs of the Embedder when a batch is decoded, where it has such and nothing else is shown to it: a T-CoT points
    at details of the original pixels, which are not kept."""
    stop: Stop = field(default_factory=Stop)
    patience: Patience = field(default_factory=Patience)
    said_it_is_gone: bool = False
    stages: Stages = field(default_factory=Stages)

    def __post_init__(self) -> None:
        is_plain = self.reasoner is None and self.gate is None
        self.builder = builds_inputs(self.embedder) if self.builds_ahead and is_plain else None

    def decode(self, works: Sequence[Work]) -> Decoded:
        """Decode a batch, several items at once."""
        broken: list[tuple[Work, MediaError]] = []
        with self.stages.timed("decode"), ThreadPoolExecutor(min(NUM_DECODERS, os.cpu_count() or 1)) as pool:
            return Decoded(_sift(works, list(pool.map(self._look, works)), broken), broken)

    def make_rows(self, decoded: Decoded) -> Made:
        """Reason about a decoded batch, embed it, and make its rows."""
        looked, broken = decoded
        with self.stages.timed("embed"):
            decided = _sift(looked, self._each(self._decide, [work.item for work, _ in looked]), broken)
        with self.stages.timed("reason"):
            answers = iter(self._reason([work.item for (work, _), choice in decided if not choice.is_declined]))
            reasoned = _sift(decided, [None if choice.is_declined else next(answers) for _, choice in decided], broken)
        with self.stages.timed("embed"):
            asked = [Asked(work.item, choice.plain, answer, look.embedder_input) for ((work, look), choice), answer in reasoned]
            embedded = _sift(reasoned, self._each(self._embed, asked), broken)
        rows = [
            row
            for (((work, look), choice), answer), vectors in embedded
            for row in self._rows(work, look.preview, answer, self._why(choice, answer), vectors)
        ]
        return Made(rows, broken, TCoTCounts.of(answer for _, answer in reasoned if answer is not None))

    def is_unsettled(self, reason: str) -> bool:
        """Say whether an item without a T-CoT for this reason is to be asked about again."""
        if is_declined(reason):
            return self.redo_declined if self.gate is None else reason != declined(self.gate.fingerprint)
        return self.retry or (self.reasoner is not None and asks_again(reason, self.reasoner))

    def _look(self, work: Work) -> Looked | MediaError:
        self.stop.check()
        place = work.places[0]
        try:
            with self.marks.decoding(marked_as(place.path, place.unit), place.stamp):
                shown = preview(work.item, work.segments, num_frames=self.num_frames, limits=self.limits)
                return Looked(shown, self._built(work.item))
        except MediaError as error:
            return error

    def _built(self, item: Item) -> Any:
        """Build an item's plain input of the Embedder, if that is done ahead; None where it fails, which is found again in its turn."""
        if self.builder is None:
            return None
        try:
            return self.builder.build(item, None)
        except EmbedRLError:
            raise
        except Exception:  # boundary: a model, which may raise anything over an odd item
            return None

    def _each(self, call: Callable[[Sequence[A]], Sequence[B]], values: Sequence[A]) -> list[B | MediaError]:
        """Call for values as `_each` does; one that stands alone is at fault where the Embedder has a vector for something else."""
        try:
            return _each(call, values)
        except _FailsForAllError as error:
            if len(values) > 1 or not self._embeds_a_word():
                raise
            return [_fault_of_item(error)]

    def _embeds_a_word(self) -> bool:
        try:
            self._vectors([candidate((Text(text="word"),))], [None])
        except Exception:  # boundary: a model, which may raise anything
            return False
        return True

    def _decide(self, items: Sequence[Item]) -> list["Choice"]:
        """Ask the gate, if there is one, about items."""
        if self.gate is None or self.reasoner is None:
            return [Choice()] * len(items)
        plain = self._vectors(items, [None] * len(items))
        return [Choice(not self.gate.wants(item, vector, ()), vector) for item, vector in zip(items, plain, strict=True)]

    def _reason(self, items: Sequence[Item]) -> list[Answer | None]:
        """Return an answer or error per item, of this or an earlier run; new ones are on the disk when this returns."""
        if self.reasoner is None:
            return [None] * len(items)
        answers = reason_missing(self.reasoner, items, RecordedTCoTs(self.tcots), retry=self.retry, patience=self.patience)
        if self.patience.is_over and not self.said_it_is_gone:
            self.said_it_is_gone = True
            log.warn(
                f"the Reasoner failed for {self.patience.num_failed} items in a row, the last time with: {self.patience.last_error}; "
                "the rest gets plain vectors only, and the next run asks for its T-CoTs"
            )
        return [*answers]

    def _embed(self, asked: Sequence["Asked"]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return (plain vector, vector with T-CoT) per item, of its plain vector if known; equal for items without a T-CoT."""
        if self.builder is not None and asked and all(request.embedder_input is not None for request in asked):
            plain = self._checked(
                self.builder.embed_built([request.embedder_input for request in asked]), [request.item for request in asked]
            )
            return list(zip(plain, plain, strict=True))
        unknown = [(place, item, None) for place, (item, known, *_) in enumerate(asked) if known is None]
        reasoned = [(place, item, answer) for place, (item, _, answer, _) in enumerate(asked) if isinstance(answer, TCoT)]
        vectors = iter(self._vectors([item for _, item, _ in (*unknown, *reasoned)], [tcot for *_, tcot in (*unknown, *reasoned)]))
        plain = {place: known for place, (_, known, *_) in enumerate(asked) if known is not None}
        plain |= {place: next(vectors) for place, *_ in unknown}
        with_tcot = plain | {place: next(vectors) for place, *_ in reasoned}
        return [(plain[place], with_tcot[place]) for place in range(len(asked))]

    def _vectors(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return unit vectors, float32 (items, dim). Raises ModelError for an Embedder that returns others."""
        if not items:
            return np.empty((0, self.embedder.dim), dtype=np.float32)
        return self._checked(self.embedder.embed(items, tcots), items)

    def _checked(self, returned: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        """Return an Embedder's vectors as float32. Raises ModelError if they are not of its dimension and of unit length."""
        vectors = np.asarray(returned, dtype=np.float32)
        require_unit(vectors, items, self.embedder)
        return vectors

    def _why(self, choice: "Choice", answer: Answer | None) -> str | None:
        """Return the reason of an item without a T-CoT, if a Reasoner or a gate was asked."""
        if choice.is_declined and self.gate is not None:
            return declined(self.gate.fingerprint)
        return None if answer is None else failure_reason(answer)

    def _rows(
        self, work: Work, look: Preview, answer: Answer | None, tcot_failure: str | None, vectors: tuple[np.ndarray, np.ndarray]
    ) -> list[Row]:
        tcot = tcot_or_none(answer)
        verification = None
        if tcot is not None:
            # A page's keywords stand in its text layer, which is no part of the item.
            item = work.item.model_copy(update={"content": (*work.item.content, Text(text=look.full_text))})
            verification = verify(tcot.evidence, item, len(look.frame_times_s) or None).model_dump_json()
        plain, with_tcot = vectors
        return [
            Row(
                place=place,
                modality=work.modality,
                plain=plain,
                tcot=with_tcot,
                tcot_text=render(tcot) if tcot else None,
                tcot_failure=tcot_failure,
                answer=tcot.answer if tcot else "",
                verification=verification,
                text=look.text,
                segments=write_segments(work.segments),
                start_s=look.start_s,
                end_s=look.end_s,
                frame_times_s=look.frame_times_s,
                thumbnail=look.thumbnail,
                embedder=self.embedder.fingerprint,
                created_s=time.time(),
            )
            for place in work.places
        ]


@dataclass(frozen=True)
class Choice:
    """What a gate decided about an item; without one, it is reasoned about."""

    is_declined: bool = False
    """Whether not to reason about it."""
    plain: np.ndarray | None = None
    """The plain vector that the gate read, float32 (dim,), unit length."""


class Asked(NamedTuple):
    """What an Embedder is asked for."""

    item: Item
    plain: np.ndarray | None
    """The plain vector, if it is known."""
    answer: Answer | None
    embedder_input: Any
    """Its plain input, if that was built ahead."""


def marked_as(path: Path, unit: int | None) -> Path:
    """Return what a unit is called in the marks: one that ends a process does not take the other units of its file with it."""
    return path if unit is None else path / str(unit)


def _work(source: object) -> Work:
    """Return the work at the bottom of nested (work, result) pairs."""
    while isinstance(source, tuple):
        source = source[0]
    assert isinstance(source, Work)
    return source


def _sift(sources: Sequence[A], results: Sequence[B | MediaError], broken: list[tuple[Work, MediaError]]) -> list[tuple[A, B]]:
    """Pair what went well with its result; add the rest to `broken`."""
    good = []
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, MediaError):
            broken.append((_work(source), result))
        else:
            good.append((source, result))
    return good


def _each(call: Callable[[Sequence[A]], Sequence[B]], values: Sequence[A]) -> list[B | MediaError]:
    """Call for all values at once; if that fails, for each alone.

    What a model raises for some values, and not for the others, is these values' MediaError. Raises ModelError if it does so for all.
    """
    if not values:
        return []
    try:
        results: list[B | MediaError] = list(call(values))
    except MediaError as error:
        if len(values) == 1:
            return [error]
        return [result for value in values for result in _each(call, [value])]
    except Exception as error:  # boundary: a model, which may raise anything over an odd item
        if isinstance(error, EmbedRLError | AssertionError | Stopped) and not isinstance(error, OddVectorError):
            raise
        if len(values) > 1 and (alone := _each_alone(call, values)):
            return alone
        reason = f"a model fails for each of {len(values)} items ({_said(error)}); what is indexed stays, run again"
        raise _FailsForAllError(reason) from error
    if len(results) != len(values):
        raise ModelError(f"a model returned {len(results)} results for {len(values)} items")
    return results


def _each_alone(call: Callable[[Sequence[A]], Sequence[B]], values: Sequence[A]) -> list[B | MediaError]:
    """Call for each value alone, with a MediaError in the place of what failed; nothing if all did."""
    results: list[B | MediaError] = []
    for value in values:
        try:
            results += _each(call, [value])
        except _FailsForAllError as error:
            results.append(_fault_of_item(error))
    return results if not all(isinstance(result, MediaError) for result in results) else []


def _fault_of_item(error: _FailsForAllError) -> MediaError:
    """Return the MediaError of an item that a model fails for."""
    return MediaError(f"the model fails for it ({_said(error.__cause__ or error)}); it is tried again once the file changes, or by --retry")


def _said(error: BaseException) -> str:
    """Return an error on one line."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, EmbedRLError) else f"{type(error).__name__}: {text}"
