"""Protocols of the three models: Reasons, Embeds, Judges.

Outputs are cached by (item key, `fingerprint`), so a fingerprint must change whenever the output would: it covers the model's files,
prompts, tokenisation and pixel budget.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import PIL.Image

from embedrl.data.sample import Item
from embedrl.data.segments import TextSegment
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import MediaError, ModelError
from embedrl.media.passages import IN_CHARACTERS, TextMeasure

Question = tuple[TCoT, Sequence[TCoT]]
"""(anchor, candidates)."""


class Refusal(ModelError):
    """A Reasoner refused one item, for a countable reason."""

    def __init__(self, reason: str, text: str, *, about_item: bool = False) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        """Reason code."""
        self.text = text
        self.about_item = about_item
        """Whether the item is the cause (too long, say), so that others may be answered."""


class Unanswered(ModelError):
    """A Reasoner did not answer for some items of a batch."""

    def __init__(self, message: str, outcomes: Sequence[TCoT | ParseFailure | MediaError | ModelError]) -> None:
        super().__init__(message)
        self.outcomes = outcomes
        """One per item, in order: its answer, or the error."""


@runtime_checkable
class Reasons(Protocol):
    """Writes T-CoTs."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    @property
    def num_frames(self) -> int:
        """Maximum number of frames of a video that it is shown."""
        ...

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order.

        Raises MediaError for a file that cannot be read, naming it, and ModelError (`Unanswered`, if it has answers for others).
        """
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A Reasoner that counts the tokens it writes."""

    num_written: int
    """Number of tokens written so far."""


@runtime_checkable
class Embeds(Protocol):
    """Embeds items, with or without T-CoTs."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        ...

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order. A None T-CoT gives the plain vector of the item."""
        ...


@runtime_checkable
class BuildsInputs(Protocol):
    """An Embedder whose inputs can be built, and their media decoded, apart from the forward pass, in other threads."""

    def build(self, item: Item, tcot: TCoT | None) -> Any:
        """Return the input of an item: its media are decoded and scaled. Raises MediaError."""
        ...

    def embed_built(self, built: Sequence[Any]) -> np.ndarray:
        """Return the vectors of inputs of `build`: float32 (N, dim), unit length, in order."""
        ...


@runtime_checkable
class MeasuresText(Protocol):
    """An Embedder that says how it measures texts."""

    @property
    def text_measure(self) -> TextMeasure:
        """Its tokens, and how much of a text it reads."""
        ...


def text_measure_of(embedder: Embeds) -> TextMeasure:
    """Return how an Embedder measures texts; one that does not say has no tokenizer and no limit."""
    return embedder.text_measure if isinstance(embedder, MeasuresText) else IN_CHARACTERS


@runtime_checkable
class Judges(Protocol):
    """Judges T-CoTs against each other, without the media."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        """Return for each (query, target) whether they match; None where the judge failed."""
        ...

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        """Return for each question the 0-based index of the best candidate; None where the judge failed."""
        ...


Side = tuple[Item, TCoT | None]
"""An item and what a Reasoner wrote about it, if it did."""


@runtime_checkable
class Reranks(Protocol):
    """Compares a query with each of a few candidates, more closely than two vectors do."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on."""
        ...

    def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
        """Score how well each candidate answers the query, higher is better; None where it cannot say. Raises ModelError."""
        ...


@runtime_checkable
class Gates(Protocol):
    """Decides for a query, or a candidate, whether reasoning about it is expected to pay."""

    @property
    def fingerprint(self) -> str:
        """What its decisions depend on."""
        ...

    def wants(self, item: Item, plain: np.ndarray, scores: Sequence[float]) -> bool:
        """Say whether to write a T-CoT of the item, from its plain vector (dim,) and the cosines of a query's plain hits, best first."""
        ...

    def at(self, share: float) -> "Gates":
        """Return the gate that reasons about another share of items, 0..1."""
        ...


@runtime_checkable
class ReadsText(Protocol):
    """Reads text in images (optical character recognition)."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    def read(self, image: PIL.Image.Image) -> tuple[TextSegment, ...]:
        """Return the lines in an RGB image, from top to bottom, with a box for each word; () if there is no text.

        May be called from several threads. Raises Refusal for an image that it cannot read, ModelError if it cannot be asked.
        """
        ...


@runtime_checkable
class Transcribes(Protocol):
    """Transcribes speech (automatic speech recognition)."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    def transcribe(self, samples: np.ndarray) -> tuple[TextSegment, ...]:
        """Return what is said in a piece of sound, in order, with times in seconds from its beginning; () if nothing is.

        `samples` are int16 (N,), mono, at 16 kHz. May be called from several threads. Raises Refusal for a piece that it cannot
        transcribe, ModelError if it cannot be asked.
        """
        ...


@runtime_checkable
class ExplainsFailure(Protocol):
    """A judge that keeps its last failure."""

    last_failure: str
    """Message of the last failure; "" if there was none."""
