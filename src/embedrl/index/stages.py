"""Where the time of an ingestion goes."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

STAGES = ("read", "decode", "reason", "embed", "write")
_OF_MODELS = ("reason", "embed")


class Stages:
    """Seconds by stage, from several threads: what goes on at once counts in each stage. "model" is when any model works."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys((*STAGES, "model"), 0.0)
        self._started_s = time.perf_counter()
        self._num_working, self._working_since = 0, 0.0
        self._counting = threading.Lock()

    @contextmanager
    def timed(self, stage: str) -> Generator[None]:
        """Context manager that adds its time to a stage."""
        started = time.perf_counter()
        self._note_working(stage in _OF_MODELS)
        try:
            yield
        finally:
            self._note_working(-(stage in _OF_MODELS))
            with self._counting:
                self._seconds[stage] += time.perf_counter() - started

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, of models, and in all since the beginning."""
        with self._counting:
            return {**self._seconds, "total": time.perf_counter() - self._started_s}

    def _note_working(self, change: int) -> None:
        with self._counting:
            now = time.perf_counter()
            self._seconds["model"] += now - self._working_since if self._num_working else 0.0
            self._num_working, self._working_since = self._num_working + change, now
