"""Ordered, concurrent map over batches, and ordered results that one thread makes ahead of their use."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from embedrl.errors import ConfigError

QUEUED_BATCHES_PER_WORKER = 4
"""Batches queued per worker, so that a slow batch stalls the others at most once in this many batches."""

A = TypeVar("A")
B = TypeVar("B")


def map_concurrently(
    call: Callable[[A], B], batches: Iterable[A], max_in_flight: int, *, initializer: Callable[[], None] | None = None
) -> Iterator[B]:
    """Yield the result of each batch, in order, with up to `max_in_flight` concurrent calls; 1 calls in this thread.

    Each thread calls `initializer` before its first batch. An error is raised when its batch's turn comes; then no other call is
    started, and those under way are waited for.
    """
    if max_in_flight == 1:
        yield from map(call, batches)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(max_in_flight, initializer=initializer) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(call, batch))
                if len(waiting) >= 2 * max_in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def num_queued(batch_size: int, max_in_flight: int) -> int:
    """Return the number of items to queue for `max_in_flight` workers. Raises ConfigError."""
    if max_in_flight < 1:
        raise ConfigError(f"max_in_flight={max_in_flight}: give at least 1")
    return batch_size if max_in_flight == 1 else batch_size * max_in_flight * QUEUED_BATCHES_PER_WORKER


def split(rows: list[A], size: int) -> list[list[A]]:
    """Cut a list into batches of `size`; the last one may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class Stopped(Exception):
    """Work was given up because nobody waits for its result any more."""


class Stop:
    """Request to give up work in another thread; that thread checks it between steps."""

    def __init__(self) -> None:
        self._requested = threading.Event()

    def request(self) -> None:
        """Let the next `check` raise Stopped; idempotent."""
        self._requested.set()

    def check(self) -> None:
        """Raise Stopped if this was requested."""
        if self._requested.is_set():
            raise Stopped


class ReadAhead(Generic[A, B]):
    """Iterator over the results of a call, in order, that one thread makes ahead while those that wait weigh less than `max_weight`.

    0: no thread, each result is made when it is asked for. An error of the call is raised in its turn, and ends the iteration. Leaving
    the context before the last result is made requests `stop`, and waits for the call under way.
    """

    def __init__(self, call: Callable[[A], B], items: Iterable[A], weigh: Callable[[B], int], max_weight: int, stop: Stop) -> None:
        self._results = map(call, items)
        self._weigh, self._max_weight, self._stop = weigh, max_weight, stop
        self._waiting: deque[tuple[B, int]] = deque()
        self._weight, self._is_done, self._is_closed = 0, False, False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True) if max_weight else None

    def __enter__(self) -> "ReadAhead[A, B]":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            if self._thread is not None and not self._is_done:
                self._stop.request()
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[B]:
        return self

    def __next__(self) -> B:
        if self._thread is None:
            return next(self._results)
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_done)
            if self._waiting:
                value, weight = self._waiting.popleft()
                self._weight -= weight
                self._changed.notify_all()
                return value
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def wait(self, timeout_s: float) -> bool:
        """Wait for the next result; return whether it is there, or the end is known."""
        with self._changed:
            return self._thread is None or self._changed.wait_for(lambda: bool(self._waiting) or self._is_done, timeout_s)

    def _run(self) -> None:
        try:
            for value in self._results:
                with self._changed:
                    weight = self._weigh(value)
                    self._waiting.append((value, weight))
                    self._weight += weight
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._weight < self._max_weight or self._is_closed)
                    if self._is_closed:
                        return
        except BaseException as error:  # raised where the results are taken
            self._error = error
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()
