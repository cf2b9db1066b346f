"""Marks of files that are being decoded: a run that starts after a death knows which file the process may have died of.

Files are decoded in child processes, so this takes a file that costs more than a child: where the machine runs out of memory, say.
Only decoding that lasts is marked, which costs nothing otherwise and lets a kill from outside seldom meet a mark.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from embedrl.index.row import Stamp

MARK_AFTER_S = 1.0
MAX_DEATHS = 2
"""Number of processes that died while decoding a file after which it is left out until it changes."""
_FILE = "decoding.json"


class Marks:
    """The marks of an index, by file as it is now."""

    def __init__(self, directory: Path) -> None:
        """Read what a process that died has left. Marks that are damaged count as none."""
        self._path = directory / _FILE
        self._lock = threading.Lock()
        try:
            left = json.loads(self._path.read_text("utf-8"))
            self._deaths = {str(name): int(count) for name, count in left.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._deaths = {}
        self._marked: Counter[str] = Counter()

    def num_deaths(self, path: Path, stamp: Stamp) -> int:
        """Return how many processes ended while they decoded a file."""
        return self._deaths.get(_name(path, stamp), 0)

    @contextmanager
    def decoding(self, path: Path, stamp: Stamp) -> Generator[None]:
        """Mark a file while the block lasts, if it lasts for some time."""
        name = _name(path, stamp)
        timer = threading.Timer(MARK_AFTER_S, self._mark, [name])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                if name in self._marked:
                    self._marked.subtract([name])
                    self._write()

    def clear(self) -> None:
        """Forget all: a run came to its end."""
        self._deaths.clear()
        self._write()

    def _mark(self, name: str) -> None:
        with self._lock:
            self._marked.update([name])
            self._write()

    def _write(self) -> None:
        self._marked = +self._marked
        left = self._deaths | {name: self._deaths.get(name, 0) + 1 for name in self._marked}
        if not left:
            self._path.unlink(missing_ok=True)
            return
        unfinished = self._path.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(left, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)


def _name(path: Path, stamp: Stamp) -> str:
    return f"{stamp.size} {stamp.mtime_ns} {path}"
