"""Ordered, concurrent map over batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
