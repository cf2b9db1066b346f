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
    """Annotation state of an item and a Reasoner."""

    TCOT = "tcot"
    MALFORMED = "malformed"
    """The output is not a T-CoT."""
    FAILED = "failed"
    """The medium is unreadable, or the model did not answer."""


class Annotations:
    """Records of one folder: pairs by key, everything else by (item key, Reasoner name)."""

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
        """Return the state of an outcome's key. A T-CoT takes precedence over an earlier failure."""
        return next((state for state, records in self.outcomes.items() if key in records), None)

    def outcome(self, item: Item, reasoner: str) -> TCoT | ParseFailure | str | None:
        """Return the Reasoner's output for an item or its error as a str; None if it has not been asked."""
        key = outcome_key(item, reasoner)
        state = self.state(key)
        if state is None:
            return None
        value = self.outcomes[state].get(key)
        return value["reason"] if state == State.FAILED else read_outcome(value)

    def is_unreadable(self, item: Item, reasoner: str) -> bool:
        """Return whether an item's medium was unreadable."""
        value = self.outcomes[State.FAILED].get(outcome_key(item, reasoner))
        return value is not None and value["error"] == MediaError.__name__

    def saw_answer(self, item: Item, reasoner: str) -> bool:
        """Return whether the Reasoner was shown the answer with an item."""
        key = outcome_key(item, reasoner)
        state = self.state(key)
        return state is not None and self.outcomes[state].get(key)["saw_answer"]

    def keep(self, made: Mapping[str, tuple[Item, Answer]], reasoner: str, *, saw_answer: Container[str] = ()) -> None:
        """Store outcomes by key, then drop the failures they replace. `saw_answer` holds keys too."""
        values: dict[State, dict[str, Any]] = {state: {} for state in State}
        for key, (item, outcome) in made.items():
            head = {"item": item.key, "reasoner": reasoner, "saw_answer": key in saw_answer}
            values[state_of(outcome)][key] = head | _written(outcome)
        for state, records in self.outcomes.items():
            records.put_many(values[state])
        for state, records in self.outcomes.items():
            records.drop_many(key for key in made if key not in values[state])

    def keep_pairs(self, pairs: Sequence[Pair]) -> None:
        """Store new pairs, in order."""
        self.pairs.put_many({pair.key: pair.model_dump(mode="json") for pair in pairs if pair.key not in self.pairs})

    def keep_problem(self, problem: SourceProblem) -> None:
        """Store a row's problem, if it is new."""
        key = hashlib.sha256(str(problem).encode("utf-8", "surrogatepass")).hexdigest()
        if key not in self.problems:
            self.problems.put(key, {"kind": problem.kind.value, "reason": str(problem), "num_rows": problem.num_rows})

    def read_pairs(self) -> Iterator[tuple[str, Pair]]:
        """Yield (key, pair) in the order of reading."""
        for key in self.pairs:
            yield key, Pair.model_validate(self.pairs.get(key))

    def reasoner_name(self, wanted: str | None) -> str:
        """Return the wanted Reasoner's name, or that of the only one that annotated here. Raises ConfigError."""
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
