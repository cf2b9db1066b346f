"""A sequence of pairs whose media are made when a pair is read."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import overload

from embedrl.data.sample import Pair

NUM_KEPT = 64
"""Pairs in memory: several generation batches of the shipped recipes, some 80 MB in the generated world."""


class LazyPairs(Sequence[Pair]):
    """Pairs made by number when they are read, so that memory does not grow with their media; those read last are kept."""

    def __init__(self, tasks: Sequence[str], make: Callable[[int], Pair], answers: Callable[[int, int], bool] | None = None) -> None:
        self.tasks = tasks
        """The task of each pair, without making it."""
        self.answers = answers
        """(number of a query's pair, of a target's) -> whether that target answers it, too; None: it is not known of any."""
        self._make = lru_cache(NUM_KEPT)(make)

    def __len__(self) -> int:
        return len(self.tasks)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyPairs": ...
    def __getitem__(self, index: int | slice) -> "Pair | LazyPairs":
        places = range(len(self))[index]
        if isinstance(places, int):
            return self._make(places)
        answers = self.answers
        part = None if answers is None else lambda query, target: answers(places[query], places[target])
        return LazyPairs(self.tasks[index], lambda place: self[places[place]], part)


def tasks_of(pairs: Sequence[Pair]) -> Sequence[str]:
    """Return the task of each pair, without making any."""
    return pairs.tasks if isinstance(pairs, LazyPairs) else [pair.task for pair in pairs]
