"""Console output: results on stdout; progress, warnings and errors on stderr.

In a run of several processes only rank 0 speaks, but for errors. Text is never read as markup, and control characters in it (file names and
model output are untrusted) do not reach the terminal. Where a stream is not a terminal it gets plain lines: tables become
tab-separated values, and a progress bar becomes a line now and then. NO_COLOR is respected.
"""

import io
import json
import os
import re
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

from rich.box import ASCII, HEAVY_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PLAIN_INTERVAL_S = 30.0
"""Minimum interval of progress lines without a terminal."""

T = TypeVar("T")

_stdout = Console(highlight=False, markup=False, emoji=False)
_stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_JSON_CONTROL = re.compile(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Bar(Protocol):
    """Handle of a progress bar."""

    def advance(self, n: int = 1, **figures: float | str) -> None:
        """Advance by `n` units and show figures by name (the last of each stays)."""
        ...

    def reach(self, done: int, total: int) -> None:
        """Set the numbers of units done and in all."""
        ...


def is_main_process() -> bool:
    """Return whether this is the only process, or rank 0 of several (environment variable RANK)."""
    return os.environ.get("RANK", "0") in ("", "0")


def result(text: str) -> None:
    """Write a line of results to stdout."""
    _say(_stdout, text)


def print_json(value: Any) -> None:
    """Write a value to stdout as JSON. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, indent=2, ensure_ascii=not _encoding(_stdout).lower().startswith("utf"), allow_nan=False)
    _say(_stdout, _JSON_CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text))


def print_paths(paths: Iterable[Path]) -> None:
    """Write paths to stdout, one per line; without a terminal, as raw bytes for other programs."""
    for path in paths:
        buffer = None if _stdout.is_terminal else getattr(_stdout.file, "buffer", None)
        if buffer is None:
            _say(_stdout, os.fsencode(path).decode("utf-8", "replace"))
        elif is_main_process():
            try:
                _stdout.file.flush()
                buffer.write(os.fsencode(path) + b"\n")
                buffer.flush()
            except BrokenPipeError:
                _stdout.on_broken_pipe()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table to stdout; without a terminal, as tab-separated values with a header."""
    cells = [[_clean(str(cell)) for cell in row] for row in rows]
    if not _stdout.is_terminal:
        for row in ([_clean(column) for column in columns], *cells):
            _say(_stdout, "\t".join(re.sub(r"[\t\n]+", " ", cell) for cell in row))
        return
    box = HEAVY_HEAD if _encoding(_stdout).lower().startswith("utf") else ASCII
    drawn = Table(title=Text(_clean(title)), title_justify="left", box=box)
    for column in columns:
        drawn.add_column(Text(_clean(column)), overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    if is_main_process():
        _replaces(_stdout).print(drawn)


def size_text(num_bytes: int) -> str:
    """Return a size in the largest unit of which it has one: "340 B", "1.2 kB", "3.4 MB", "5,600.0 GB"."""
    size, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB"):
        if round(size, 1) < 1000:
            break
        size, unit = size / 1000, larger
    return f"{num_bytes} B" if unit == "B" else f"{size:,.1f} {unit}"


def info(text: str) -> None:
    """Write a remark to stderr."""
    _say(_stderr, text)


def warn(text: str) -> None:
    """Write a warning to stderr."""
    _say(_stderr, text, label="warning: ", style="yellow")


class Repeated:
    """A warning about one of many items: printed for the 1st, 10th, 100th … of them, with their number so far."""

    def __init__(self) -> None:
        self.count = 0

    def warn(self, text: str) -> None:
        """Count it, and write it to stderr if it is its turn."""
        self.count += 1
        if str(self.count).strip("0") == "1":
            warn(text if self.count == 1 else f"{text} ({self.count:,} of these so far)")


def error(text: str) -> None:
    """Write an error to stderr; ranks other than 0 name themselves."""
    label = "error: " if is_main_process() else f"error (rank {os.environ['RANK']}): "
    _say(_stderr, text, label=label, style="bold red", any_rank=True)


@overload
def progress(work: int | None, description: str) -> AbstractContextManager[Bar]: ...
@overload
def progress(work: Collection[T], description: str) -> Iterator[T]: ...
def progress(work: int | Collection[T] | None, description: str) -> AbstractContextManager[Bar] | Iterator[T]:
    """Progress bar: `with progress(total, ...) as bar: bar.advance()`, or `for row in progress(rows, ...)`.

    A total of None means that the end is not known.
    """
    return _bar(work, description) if work is None or isinstance(work, int) else _track(work, description)


def _track(rows: Collection[T], description: str) -> Iterator[T]:
    with _bar(len(rows), description) as bar:
        for row in rows:
            yield row
            bar.advance()


@contextmanager
def _bar(total: int | None, description: str) -> Generator[Bar]:
    if not is_main_process():
        yield _NoBar()
        return
    if not _stderr.is_terminal:
        bar = _LineBar(total, _clean(description))
        yield bar
        bar.report()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=_replaces(_stderr)) as shown:
        yield _LiveBar(shown, total, _clean(description))


class _RateColumn(ProgressColumn):
    """How many units are done a second."""

    def render(self, task: Task) -> Text:
        """Return the rate of the last samples, in the end that of the whole work; empty while it is not known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g}/s" if speed else "")


class _NoBar:
    def advance(self, n: int = 1, **figures: float | str) -> None: ...

    def reach(self, done: int, total: int) -> None: ...


class _LiveBar:
    def __init__(self, shown: Progress, total: int | None, description: str) -> None:
        self.shown, self.figures = shown, {}
        self.task = shown.add_task(description, total=total, figures="")

    def advance(self, n: int = 1, **figures: float | str) -> None:
        self.figures |= figures
        self.shown.update(self.task, advance=n, figures=_written(self.figures))

    def reach(self, done: int, total: int) -> None:
        self.shown.update(self.task, completed=done, total=total)


class _LineBar:
    def __init__(self, total: int | None, description: str) -> None:
        self.total, self.description, self.done = total, description, 0
        self.figures: dict[str, float | str] = {}
        self.started = self.reported = time.monotonic()

    def advance(self, n: int = 1, **figures: float | str) -> None:
        self.done += n
        self.figures |= figures
        self._report_now_and_then()

    def reach(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._report_now_and_then()

    def _report_now_and_then(self) -> None:
        if time.monotonic() - self.reported >= PLAIN_INTERVAL_S and self.done != self.total:
            self.report()

    def report(self) -> None:
        self.reported = time.monotonic()
        elapsed_s = self.reported - self.started
        share = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        rate = f" ({self.done / elapsed_s:.3g}/s{self._left(elapsed_s)})" if self.done and elapsed_s >= 1 else ""
        info(f"{self.description}: {share} in {elapsed_s:.0f} s{rate} {_written(self.figures)}".rstrip())

    def _left(self, elapsed_s: float) -> str:
        """Say how long the rest will take at the rate so far; empty at the end, or where the end is not known."""
        if self.total is None or self.done >= self.total:
            return ""
        return f", {(self.total - self.done) * elapsed_s / self.done:.0f} s left"


def _written(figures: dict[str, float | str]) -> str:
    return _clean(" ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in figures.items()))


def _say(console: Console, text: str, *, label: str = "", style: str = "", any_rank: bool = False) -> None:
    if not (any_rank or is_main_process()):
        return
    _replaces(console)
    if console.is_terminal:
        console.print(Text.assemble((label, style), _clean(text)), soft_wrap=True)
        return
    try:  # rich would turn tabs into spaces
        console.file.write(f"{label}{_clean(text)}\n")
        console.file.flush()
    except BrokenPipeError:  # nobody reads any more, as in `embedrl search ... | head`
        console.on_broken_pipe()


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)


def _encoding(console: Console) -> str:
    return getattr(console.file, "encoding", None) or "utf-8"


def _replaces(console: Console) -> Console:
    """Make a console's stream write "?" for characters that its encoding lacks."""
    if isinstance(console.file, io.TextIOWrapper) and console.file.errors in ("strict", "surrogateescape"):
        console.file.reconfigure(errors="replace")
    return console
