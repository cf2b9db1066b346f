"""Protocols of the three models: Reasons, Embeds, Judges. Anything with these methods will do.

A T-CoT is made once per item and cached by (item key, `fingerprint`), so it must change whenever the output would: it names
the model, its prompts and its pixel budget.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import MediaError, ModelError

Question = tuple[TCoT, Sequence[TCoT]]
"""An anchor and the candidates to choose from."""


class Refusal(ModelError):
    """A Reasoner has no answer about one item, for a reason that can be counted."""

    def __init__(self, reason: str, text: str, *, about_item: bool = False) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        """In one word."""
        self.text = text
        self.about_item = about_item
        """Whether it is this item that is not taken (too long, say): others may well get an answer."""


class Unanswered(ModelError):
    """A Reasoner did not answer for some of its items."""

    def __init__(self, message: str, outcomes: Sequence[TCoT | ParseFailure | MediaError | ModelError]) -> None:
        super().__init__(message)
        self.outcomes = outcomes
        """One for each item, in order: its answer, or why there is none."""


@runtime_checkable
class Reasons(Protocol):
    """Writes T-CoTs."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    @property
    def num_frames(self) -> int:
        """How many frames of a video it is shown, at most."""
        ...

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order.

        Raises MediaError for a file that cannot be read, naming it, and ModelError (`Unanswered`, if it has answers for others).
        """
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A Reasoner that knows what its answers cost."""

    num_written: int
    """Tokens that it has written so far."""


@runtime_checkable
class Embeds(Protocol):
    """Turns items and their T-CoTs into vectors."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order. A None T-CoT gives the plain vector of the item."""
        ...


@runtime_checkable
class Judges(Protocol):
    """Reads T-CoTs only, never the media."""

    @property
    def fingerprint(self) -> str:
        """What the output depends on, for caching."""
        ...

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        """Say of each (query, target) whether the two could belong to one pair; None where the judge failed."""
        ...

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        """Name the 0-based index of the candidate that fits each anchor best; None where the judge failed."""
        ...


@runtime_checkable
class ExplainsFailure(Protocol):
    """A judge that knows why it failed last."""

    last_failure: str
    """In the words of the server or model; empty if it never did."""
