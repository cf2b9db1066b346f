"""The annotation folder: pairs, and the T-CoT or failure of each of their items."""

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from embedrl.data.reasoning import Answer
from embedrl.data.records import Records, outcome_key, read_outcome, write_outcome
from embedrl.data.sample import Item, Pair
from embedrl.data.sources.row import SourceProblem
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import ConfigError, MediaError


class State(StrEnum):
    """What there is for an item and a Reasoner."""

    TCOT = "tcot"
    MALFORMED = "malformed"
    """The Reasoner wrote something that is no T-CoT."""
    FAILED = "failed"
    """Its medium cannot be read, or the model did not answer."""


class Annotations:
    """The records of one folder. Pairs are kept by their keys, all else by (item key, Reasoner name)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pairs = Records(folder / "pairs.jsonl")
        """Pairs whose sides both have a state under the Reasoner that read them."""
        self.reasoners = Records(folder / "reasoners.jsonl")
        """By name: how many frames of a video it saw."""
        self.problems = Records(folder / "problems.jsonl")
        """Rows that gave no pair, and pairs whose media are missing, of all runs."""
        self.outcomes = {state: Records(folder / f"{name}.jsonl") for state, name in _FILES.items()}

    def close(self) -> None:
        """Close all files."""
        for records in (self.pairs, self.reasoners, self.problems, *self.outcomes.values()):
            records.close()

    def state(self, key: str) -> State | None:
        """Return what there is under an outcome's key; a T-CoT comes before a failure of former days."""
        return next((state for state, records in self.outcomes.items() if key in records), None)

    def outcome(self, item: Item, reasoner: str) -> TCoT | ParseFailure | str | None:
        """Return what the Reasoner wrote about an item, or the reason why nothing; None if it has not been asked."""
        key = outcome_key(item, reasoner)
        state = self.state(key)
        if state is None:
            return None
        value = self.outcomes[state].get(key)
        return value["reason"] if state == State.FAILED else read_outcome(value)

    def is_unreadable(self, item: Item, reasoner: str) -> bool:
        """Say whether the Reasoner could not read an item's medium."""
        value = self.outcomes[State.FAILED].get(outcome_key(item, reasoner))
        return value is not None and value["error"] == MediaError.__name__

    def saw_answer(self, item: Item, reasoner: str) -> bool:
        """Say whether the Reasoner was shown the answer with an item."""
        key = outcome_key(item, reasoner)
        state = self.state(key)
        return state is not None and self.outcomes[state].get(key)["saw_answer"]

    def keep(self, made: Mapping[str, tuple[Item, Answer]], reasoner: str, *, saw_answer: Container[str] = ()) -> None:
        """Write outcomes by their keys, and then drop what they replace. `saw_answer` are keys too."""
        values: dict[State, dict[str, Any]] = {state: {} for state in State}
        for key, (item, outcome) in made.items():
            head = {"item": item.key, "reasoner": reasoner, "saw_answer": key in saw_answer}
            values[state_of(outcome)][key] = head | _written(outcome)
        for state, records in self.outcomes.items():
            records.put_many(values[state])
        for state, records in self.outcomes.items():
            records.drop_many(key for key in made if key not in values[state])

    def keep_pairs(self, pairs: Sequence[Pair]) -> None:
        """Write pairs that are new, in their order."""
        self.pairs.put_many({pair.key: pair.model_dump(mode="json") for pair in pairs if pair.key not in self.pairs})

    def keep_problem(self, problem: SourceProblem) -> None:
        """Write what is wrong with a row, if it is new."""
        key = hashlib.sha256(str(problem).encode("utf-8", "surrogatepass")).hexdigest()
        if key not in self.problems:
            self.problems.put(key, {"kind": problem.kind.value, "reason": str(problem), "num_rows": problem.num_rows})

    def read_pairs(self) -> Iterator[tuple[str, Pair]]:
        """Yield all pairs with their keys, in the order in which they were read."""
        for key in self.pairs:
            yield key, Pair.model_validate(self.pairs.get(key))

    def reasoner_name(self, wanted: str | None) -> str:
        """Return the name of a Reasoner that annotated here: the wanted one, or the only one. Raises ConfigError."""
        names = list(self.reasoners)
        if not names:
            raise ConfigError(f"{str(self.folder)!r}: nothing is annotated there")
        if wanted is None and len(names) > 1:
            raise ConfigError(f"{str(self.folder)!r}: several Reasoners annotated there; name one of {', '.join(map(repr, names))}")
        if wanted is not None and wanted not in names:
            raise ConfigError(f"reasoner={wanted!r}: annotated nothing there; choose from {', '.join(map(repr, names))}")
        return wanted or names[0]


_FILES = {State.TCOT: "tcots", State.MALFORMED: "malformed", State.FAILED: "failed"}


def state_of(outcome: Answer) -> State:
    """Name the kind of outcome."""
    if isinstance(outcome, TCoT):
        return State.TCOT
    return State.MALFORMED if isinstance(outcome, ParseFailure) else State.FAILED


def _written(outcome: Answer) -> dict[str, str]:
    if isinstance(outcome, TCoT | ParseFailure):
        return write_outcome(outcome)
    return {"error": type(outcome).__name__, "reason": str(outcome)}
