"""Outcome of a source row: a Pair, optionally with T-CoTs, or a SourceProblem; with counts of both."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from embedrl.data.sample import Pair
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, read
from embedrl.errors import MediaError


class ProblemKind(StrEnum):
    """Kinds of problems of a row."""

    UNREADABLE = "unreadable"
    """Damaged file: invalid JSON or UTF-8, broken block."""
    FIELDS = "fields"
    """A field is missing or has an invalid value."""
    EMPTY = "empty"
    """A side has neither text nor a medium."""
    MEDIA = "media"
    """A medium is missing or cannot be used."""
    ANNOTATION = "annotation"
    """The row reports that its annotation failed."""


class SourceProblem(BaseModel):
    """A row, or a part of it, that cannot be used."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path
    """The file that holds the row."""
    row: int | None = None
    """1-based row number; None if the file is not a list of rows."""
    kind: ProblemKind
    reason: str
    num_rows: int = 1
    """Number of rows without a pair; 0 if only a part of the pair was dropped."""

    def __str__(self) -> str:
        return f"{str(self.path)!r}{f', row {self.row}' if self.row else ''}: {self.reason}"


class AnnotatedPair(Pair):
    """A Pair with T-CoTs from its source, which are not part of its key."""

    query_tcot: TCoT | ParseFailure | None = None
    """None if there is none."""
    target_tcot: TCoT | ParseFailure | None = None


Outcome = Pair | SourceProblem


def annotated(pair: Pair, query_text: str | None, target_text: str | None, *, num_frames: int | None = None) -> AnnotatedPair:
    """Return a pair with the T-CoTs that a model wrote about it, parsed. One that cannot be read stays, as a ParseFailure."""
    return AnnotatedPair(
        task=pair.task,
        query=pair.query,
        target=pair.target,
        negatives=pair.negatives,
        query_tcot=None if query_text is None else read(query_text).written(num_frames),
        target_tcot=None if target_text is None else read(target_text).written(num_frames),
    )


class RowError(ValueError):
    """A row that cannot be used; raised by a reader, or yielded to continue. Internal to this package."""

    def __init__(self, kind: ProblemKind, reason: str, num_rows: int = 1) -> None:
        super().__init__(reason)
        self.kind, self.num_rows = kind, num_rows


def make_pairs(path: Path, rows: Iterable[Any], make: Callable[[Any], Iterator[Pair | RowError]]) -> Iterator[Outcome]:
    """Make pairs of the rows of a file. A RowError among the rows stands for as many as it says; one from `make`, for a part of its row."""
    number = 1
    for row in rows:
        if isinstance(row, RowError):
            yield SourceProblem(path=path, row=number, kind=row.kind, reason=str(row), num_rows=row.num_rows)
            number += row.num_rows
            continue
        try:
            for made in make(row):
                if isinstance(made, RowError):
                    yield SourceProblem(path=path, row=number, kind=made.kind, reason=str(made), num_rows=0)
                else:
                    yield made
        except RowError as error:
            yield SourceProblem(path=path, row=number, kind=error.kind, reason=str(error))
        except MediaError as error:
            yield SourceProblem(path=path, row=number, kind=ProblemKind.MEDIA, reason=str(error))
        except ValidationError as error:
            yield SourceProblem(path=path, row=number, kind=ProblemKind.FIELDS, reason=_wrong_fields(error, row))
        number += 1


def _wrong_fields(error: ValidationError, row: object) -> str:
    errors = error.errors(include_url=False, include_input=False)
    wrongs = [f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}".removeprefix(": ") for wrong in errors]
    if isinstance(row, dict) and any(wrong["type"] == "missing" and len(wrong["loc"]) == 1 for wrong in errors):
        wrongs.append(f"the row has only {', '.join(map(str, row))[:200] or 'nothing'}")
    return "; ".join(wrongs)


@dataclass
class Coverage:
    """Counts of one task: pairs, and T-CoTs of their sides."""

    num_pairs: int = 0
    num_tcots: int = 0
    num_without: int = 0
    """Number of sides without a T-CoT."""
    failures: Counter[FailureReason] = field(default_factory=Counter)
    """Reason -> number of sides with an invalid T-CoT."""


class SourceReport:
    """Running counts of source outcomes."""

    def __init__(self) -> None:
        self.tasks: dict[str, Coverage] = {}
        self.problems: Counter[ProblemKind] = Counter()
        """Rows, and parts of rows, that were left out."""
        self.num_lost = 0
        """Rows that gave no pair."""

    def watch(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Count outcomes while passing them on."""
        for outcome in outcomes:
            self._count(outcome)
            yield outcome

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, SourceProblem):
            self.problems[outcome.kind] += max(outcome.num_rows, 1)
            self.num_lost += outcome.num_rows
            return
        coverage = self.tasks.setdefault(outcome.task, Coverage())
        coverage.num_pairs += 1
        for tcot in (outcome.query_tcot, outcome.target_tcot) if isinstance(outcome, AnnotatedPair) else (None, None):
            match tcot:
                case TCoT():
                    coverage.num_tcots += 1
                case ParseFailure():
                    coverage.failures[tcot.reason] += 1
                case None:
                    coverage.num_without += 1

    def lines(self) -> list[str]:
        """Return the report as text: a line per task, and one for problems."""
        lines = []
        for name, coverage in self.tasks.items():
            line, num_sides = f"{name}: {coverage.num_pairs} pairs", 2 * coverage.num_pairs
            if coverage.num_without < num_sides:
                line += f", T-CoTs of {coverage.num_tcots} of {num_sides} sides"
                wrong = {**coverage.failures, **({"none": coverage.num_without} if coverage.num_without else {})}
                line += f" ({_listed(wrong)})" if wrong else ""
            lines.append(line)
        if self.problems:
            lines.append(f"{self.num_lost} rows gave no pair; problems: {_listed(self.problems)}")
        return lines


def _listed(counts: dict[Any, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
