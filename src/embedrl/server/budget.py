"""Memory budget of decoded media in pixels, shared by all requests and released at the end of each."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from embedrl.server.problem import Problem

REQUEST_PIXELS = 64_000_000
"""Pixels that one request may hold decoded, three bytes each; its images are scaled down to fit."""
WAIT_S = 10.0
"""How long a request waits for others to give back."""


class PixelBudget:
    """Pixel budget shared by all requests."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels, self.num_held = max_pixels, 0
        self._changed = threading.Condition()

    def take(self, num_pixels: int) -> None:
        """Acquire pixels, waiting for room. Raises Problem 429 on timeout."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.num_held + num_pixels <= self.max_pixels, WAIT_S):
                raise Problem(429, "other requests hold too many images: try again", "busy", retry_after_s=2)
            self.num_held += num_pixels

    def give_back(self, num_pixels: int) -> None:
        """Release pixels."""
        with self._changed:
            self.num_held -= num_pixels
            self._changed.notify_all()


class _Held:
    def __init__(self) -> None:
        self.num_pixels = 0


_HELD: ContextVar[_Held | None] = ContextVar("held", default=None)


@contextmanager
def holding(budget: PixelBudget) -> Generator[None]:
    """Context manager that releases a request's pixels at its end."""
    held = _Held()
    token = _HELD.set(held)
    try:
        yield
    finally:
        _HELD.reset(token)
        budget.give_back(held.num_pixels)


@contextmanager
def decoding(budget: PixelBudget, at_most: int) -> Generator[_Held]:
    """Reserve the maximum of a decoding while it runs, then reduce to the pixels that the block counts."""
    request, held = _HELD.get(), _Held()
    budget.take(at_most)
    kept = 0
    try:
        yield held
        kept = held.num_pixels if request else 0
    finally:
        if request:
            request.num_pixels += kept
        budget.give_back(at_most - kept)
