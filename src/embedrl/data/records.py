"""Append-only key-value records that survive kill -9.

One JSON line per record, with a checksum (CRC-32; lines of former versions have none); the last line of a key wins. A batch is on
the disk (fsync) when `put_many` returns. A line torn by a kill is cut off by the next writer and unseen by readers; a damaged line
loses that record and no other, and is counted and said. One process writes at a time, with any number of threads; any number read. A
file that went away with its folder is made anew by the next write.
"""

import errno
import fcntl
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from embedrl import log
from embedrl.data.sample import Item
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, parse, render, with_facts
from embedrl.errors import StoreError, unreadable, unwritable


class WriterLock:
    """Exclusive inter-process file lock, released by the system when the process ends."""

    def __init__(self, path: Path) -> None:
        """Acquire the lock. Raises StoreError if another process holds it."""
        self._fd: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise StoreError(f"{str(path)!r}: another process is writing here; wait for it to end, or stop it") from error
        self._fd = fd

    def release(self) -> None:
        """Release the lock; idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Records:
    """Key-value records in an append-only file. Reads the state of its opening or last `refresh`; the first write takes the lock."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.num_damaged = 0
        """Lines that could not be read; a torn last line is not counted."""
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        self._num_lines = 0
        self._fd: int | None = None
        self._lock: WriterLock | None = None
        self._appending = threading.Lock()
        self.refresh()

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def keys(self) -> Iterator[str]:
        """Yield all keys, in order of first appearance."""
        return iter(list(self._places))

    def get(self, key: str) -> Any:
        """Return the last value of a key (JSON types), or None."""
        place = self._places.get(key)
        if place is None or self._fd is None:
            return None
        return json.loads(os.pread(self._fd, place[1], place[0]))["value"]

    def put(self, key: str, value: Any) -> None:
        """Store one value; see `put_many`."""
        self.put_many({key: value})

    def put_many(self, values: Mapping[str, Any]) -> None:
        """Append values (JSON types, not None) and fsync. Raises StoreError with nothing stored."""
        assert all(value is not None for value in values.values()), "None is how a record is dropped"
        self._append(list(values.items()))

    def drop_many(self, keys: Iterable[str]) -> None:
        """Delete keys; unknown ones are ignored."""
        self._append([(key, None) for key in dict.fromkeys(keys) if key in self._places])

    def refresh(self) -> None:
        """Read what any process appended since the last read. Raises StoreError."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if (packed := self.path.with_name(f"{self.path.name}.gz")).is_file():
                raise StoreError(f"{str(packed)!r} is packed, and records are read and added to in place: unpack it (gunzip)") from None
            return
        except OSError as error:
            raise unreadable(self.path, error) from error
        if self._fd is not None and os.path.sameopenfile(fd, self._fd):
            os.close(fd)
        else:
            if self._fd is not None:
                os.close(self._fd)
            self._fd, self._places, self._end, self._num_lines, self.num_damaged = fd, {}, 0, 0, 0
        num_damaged = self.num_damaged
        try:
            with open(self._fd, "rb", closefd=False) as file:
                file.seek(self._end)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._learn(line)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if self.num_damaged > num_damaged:
            log.warn(f"{str(self.path)!r}: {self.num_damaged} damaged lines are left out; what they held is made again")

    def compact(self) -> None:
        """Rewrite the file with live records only. Open readers keep the old file until they refresh."""
        self._take_lock()
        assert self._fd is not None
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            with fresh.open("wb") as file:
                file.writelines(os.pread(self._fd, length, offset) for offset, length in self._places.values())
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise unwritable(fresh, error) from error
        self.refresh()

    @property
    def num_stale(self) -> int:
        """Number of lines that `compact` would remove."""
        return self._num_lines - len(self._places)

    def close(self) -> None:
        """Close the file and release the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _learn(self, line: bytes) -> None:
        place = (self._end, len(line))
        self._end += len(line)
        self._num_lines += 1
        try:
            key, value = _read_line(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            self.num_damaged += 1
            return
        if value is None:
            self._places.pop(key, None)
        else:
            self._places[key] = place

    def _append(self, values: list[tuple[str, Any]]) -> None:
        if not values:
            return
        with self._appending:
            self._append_alone(values)

    def _append_alone(self, values: list[tuple[str, Any]]) -> None:
        self._take_lock()
        lines = [_write_line(key, value) for key, value in values]
        try:
            fd = self._open_to_append()
        except FileNotFoundError:  # the folder went away, with our lock and what we knew
            if self._lock is not None:
                self._lock.release()
                self._lock = None
            self._take_lock()
            fd = self._open_to_append()
        try:
            _write_all(fd, b"".join(lines))
            os.fsync(fd)
        except OSError as error:
            os.ftruncate(fd, self._end)
            raise unwritable(self.path, error) from error
        finally:
            os.close(fd)
        for line in lines:
            self._learn(line)

    def _open_to_append(self) -> int:
        """Open the file that was read. Raises FileNotFoundError if it is gone or was replaced."""
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self._fd is None or not os.path.sameopenfile(fd, self._fd):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        return fd

    def _take_lock(self) -> None:
        """Become the writer: take the lock, refresh, and truncate a torn last line."""
        if self._lock is not None:
            return
        lock = WriterLock(self.path.with_name(self.path.name + ".lock"))
        try:
            new = not self.path.exists()
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                if new:
                    sync_folder(self.path.parent)
                self.refresh()
                if os.fstat(fd).st_size > self._end:
                    os.ftruncate(fd, self._end)
            finally:
                os.close(fd)
        except OSError as error:
            lock.release()
            if isinstance(error, StoreError):
                raise
            raise unwritable(self.path, error) from error
        self._lock = lock


def _write_line(key: str, value: Any) -> bytes:
    body = json.dumps({"key": key, "value": value}, separators=(",", ":")).encode()
    return b'%s,"crc":"%08x"}\n' % (body[:-1], zlib.crc32(body))


def _read_line(line: bytes) -> tuple[str, Any]:
    """Parse a line to (key, value). Raises ValueError, KeyError or TypeError for a damaged one."""
    record = json.loads(line)
    key, value = record["key"], record["value"]
    if not isinstance(key, str):
        raise TypeError("a key is a text")
    if "crc" in record and _write_line(key, value) != line:
        raise ValueError("the line is not as it was written")
    return key, value


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Fsync a folder. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def outcome_key(item: Item, reasoner: str) -> str:
    """Return the cache key of an item and a Reasoner, sha256 (hex). Raises MediaError for an unreadable item."""
    return hashlib.sha256(f"{item.key}\0{reasoner}".encode("utf-8", "surrogatepass")).hexdigest()


_FACTS = ("num_frames", "num_unread")
"""Fields of evidence that a T-CoT's text does not contain."""


def write_outcome(outcome: TCoT | ParseFailure) -> dict[str, Any]:
    """Serialise a Reasoner's output as a record's value."""
    if isinstance(outcome, TCoT):
        facts = outcome.evidence.model_dump(include=set(_FACTS))
        return {"tcot": render(outcome)} | facts
    return {"failure": outcome.reason.value, "text": outcome.text}


def read_outcome(value: Mapping[str, Any]) -> TCoT | ParseFailure:
    """Deserialise a value of `write_outcome`."""
    if "tcot" in value:
        outcome = parse(value["tcot"])
        facts = {name: value[name] for name in _FACTS if name in value}
        return with_facts(outcome, **facts) if isinstance(outcome, TCoT) else outcome
    return ParseFailure(reason=FailureReason(value["failure"]), text=value["text"])
