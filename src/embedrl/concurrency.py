"""Several batches under way at once, for models that stand for many workers."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from embedrl.errors import ConfigError

BATCHES_PER_LANE = 4
"""Who gathers work before it is done gathers so much: the lanes then wait for the slowest of them once in so many batches."""

A = TypeVar("A")
B = TypeVar("B")


def in_lanes(call: Callable[[A], B], batches: Iterable[A], num_lanes: int) -> Iterator[B]:
    """Yield the result of each batch, in order, with up to `num_lanes` calls under way; one lane is this thread, and no other.

    An error is raised when its batch's turn comes; then no other call is started, and those under way are waited for.
    """
    if num_lanes == 1:
        yield from map(call, batches)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(num_lanes) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(call, batch))
                if len(waiting) >= 2 * num_lanes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def num_gathered(batch_size: int, num_lanes: int) -> int:
    """Return how many items to gather before their batches are done. Raises ConfigError."""
    if num_lanes < 1:
        raise ConfigError(f"num_lanes={num_lanes}: give at least 1")
    return batch_size if num_lanes == 1 else batch_size * num_lanes * BATCHES_PER_LANE


def split(rows: list[A], size: int) -> list[list[A]]:
    """Cut a list into batches of `size`; the last one may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
