"""Dynamic batching: one model thread that serves everything queued as one batch.

A model is not thread-safe (Qwen3-VL keeps the positions of the last prompt on itself), and a batch of ten requests costs
little more than one. Requests of clients take precedence over indexing, which gets every other batch.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

from embedrl.errors import ModelError

A = TypeVar("A")
B = TypeVar("B")

WAIT_S = 600.0
"""Longest wait for an answer of a model."""


class Worker(Generic[A, B]):
    """Batches values of concurrent callers. `call` takes a list of values and returns as many results or errors."""

    def __init__(self, name: str, call: Callable[[list[A]], Sequence[B | Exception]], *, max_batch: int, background_batch: int) -> None:
        self._call, self._max_batch, self._background_batch = call, max_batch, background_batch
        self._urgent: deque[tuple[A, Future[B]]] = deque()
        self._background: deque[tuple[A, Future[B]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.num_batches = self.num_values = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Number of queued values."""
        return len(self._urgent) + len(self._background)

    def ask(self, values: Sequence[A], *, background: bool = False) -> list[B]:
        """Return one result per value, in order. Blocks; raises the error of a failed value, ModelError when closed."""
        results = self.ask_each(values, background=background)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return [result for result in results if not isinstance(result, Exception)]

    def ask_each(self, values: Sequence[A], *, background: bool = False) -> list[B | Exception]:
        """Return the result or the error of each value, in order. Blocks; raises ModelError when closed."""
        futures: list[Future[B]] = [Future() for _ in values]
        with self._changed:
            if self._closed:
                raise ModelError("the server is stopping")
            (self._background if background else self._urgent).extend(zip(values, futures, strict=True))
            self._changed.notify()
        results: list[B | Exception] = []
        wait_s = WAIT_S
        try:
            for future in futures:
                try:
                    error = future.exception(wait_s)
                    assert error is None or isinstance(error, Exception), "no other error is kept"
                    results.append(future.result() if error is None else error)
                except TimeoutError:
                    results.append(ModelError(f"a model did not answer within {WAIT_S:g} s"))
                    wait_s = 0.0
                except CancelledError:
                    results.append(ModelError("the server is stopping"))
        finally:
            for future in futures:
                future.cancel()
        return results

    def close(self) -> None:
        """Finish the current batch and fail queued values."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for _, future in (*self._urgent, *self._background):
            future.cancel()

    def _run(self) -> None:
        background_next = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._urgent or self._background)
                if self._closed:
                    return
                background = not self._urgent or (background_next and bool(self._background))
                queue, size = (self._background, self._background_batch) if background else (self._urgent, self._max_batch)
                taken = [queue.popleft() for _ in range(min(size, len(queue)))]
                background_next = not background
            batch = [(value, future) for value, future in taken if future.set_running_or_notify_cancel()]
            if batch:
                self.num_batches += 1
                self.num_values += len(batch)
                self._answer(batch)

    def _answer(self, batch: list[tuple[A, Future[B]]]) -> None:
        """Call on the whole batch; if that fails, call on each value alone, so that errors stay with their value."""
        try:
            results = self._call([value for value, _ in batch])
            if len(results) != len(batch):
                raise ModelError(f"a model returned {len(results)} results for {len(batch)} items")
        except BaseException as error:  # boundary: whatever a model raises belongs to who asked; a panic of Rust is no Exception
            if len(batch) > 1:
                for entry in batch:
                    self._answer([entry])
            else:
                batch[0][1].set_exception(error if isinstance(error, Exception) else ModelError(f"a model broke off ({error!r})"))
            return
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
