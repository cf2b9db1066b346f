"""Pool of decoder child processes with memory and time limits. A file that crashes a decoder costs one child.

Children are started when they are first needed, and live on: a file costs a message, not a process. Requests and answers are JSON
behind their length, images follow as raw RGB, sound as raw samples; everything that comes back is bounded and checked, since a child
may have been taken over by what it decoded. A process that forks starts a pool of its own.
"""

import atexit
import fcntl
import json
import os
import signal
import struct
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image

from embedrl.errors import MediaError, ModelError
from embedrl.media.child_process import LENGTH, ChildProcess
from embedrl.media.store import Limits

MAX_CHILDREN = 4
GRACE_S = 5.0
"""Seconds after `decode_timeout_s` at which a decoder is killed."""
MAX_BROKEN_FILES = 1024
MAX_BREAKS = 2
"""Number of crashes after which a file is not decoded again until it changes."""
START_TIMEOUT_S = 120.0
_MAX_HEAD_BYTES = 1024**2
_PIPE_BYTES = 1024**2
_BYTES_PER_CHAR = 12
"""Of JSON: a character outside the basic plane is two escapes of six."""


class Answer(NamedTuple):
    """Answer of a child about a file."""

    head: dict[str, Any]
    images: tuple[PIL.Image.Image, ...]
    data: bytes = b""
    """What is neither text nor image: samples of sound."""


class _Death(Exception):
    """A child died or was killed while decoding."""


class Pool:
    """Pool of decoders in child processes. Thread-safe; a caller waits until a child is free."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._slots = _Slots(size)
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._broken: OrderedDict[tuple[Any, ...], list[str]] = OrderedDict()
        self._lock = threading.Lock()

    def decode(self, job: Mapping[str, Any], path: Path, limits: Limits, *, max_text_chars: int | None = None) -> Answer:
        """Run a job. Raises MediaError, naming the file, if it cannot be decoded, exceeds limits, or crashes the decoder.

        Its answer may hold `max_text_chars` characters, by default as many as the limits say.
        Each child has its share of `decode_memory_bytes`. A file that needs more is tried once more, alone, with all of it.
        """
        file = _identity(path, limits)
        if len(reasons := self._broken.get(file, [])) >= MAX_BREAKS:
            raise MediaError(f"{str(path)!r}: {reasons[-1]}; it is not tried again until it changes")
        reason = ""
        for num_slots in dict.fromkeys((1, self.size)):
            memory_bytes = limits.decode_memory_bytes * num_slots // self.size
            try:
                with self._slots.take(num_slots):
                    answer = self._ask({**job, "memory_bytes": memory_bytes}, limits, max_text_chars or limits.max_text_chars)
            except TimeoutError:
                self._remember(file, reason := f"decoding takes longer than decode_timeout_s={limits.decode_timeout_s:g}")
                break
            except _Death as error:
                reason = f"breaks the decoder, or takes more than decode_memory_bytes={limits.decode_memory_bytes} ({error})"
                self._remember(file, reason) if num_slots == self.size else None
                continue
            if "error" in answer.head:
                raise MediaError(answer.head["error"])
            if "out_of_memory" not in answer.head:
                return answer
            reason = f"decoding takes more memory than decode_memory_bytes={limits.decode_memory_bytes}"
        raise MediaError(f"{str(path)!r}: {reason}")

    def close(self) -> None:
        """Terminate the children; the next job starts new ones."""
        with self._lock:
            children, self._children, self._idle = self._children, set(), []
        for child in children:
            child.kill()

    def forget(self) -> None:
        """Release the children of the process that this one was forked from."""
        for child in self._children:
            child.let_go()

    def _remember(self, file: tuple[Any, ...], reason: str) -> None:
        with self._lock:
            self._broken.setdefault(file, []).append(reason)
            self._broken.move_to_end(file)
            while len(self._broken) > MAX_BROKEN_FILES:
                self._broken.popitem(last=False)

    def _ask(self, job: Mapping[str, Any], limits: Limits, max_text_chars: int) -> Answer:
        child = self._idle_child()
        if child is None:
            child = _Child()
            with self._lock:
                self._children.add(child)
        answer = None
        try:
            answer = child.ask(job, limits, max_text_chars)
        finally:
            with self._lock:
                is_ours = child in self._children
                if answer is not None and is_ours and not answer.head.get("is_last"):
                    self._idle.append(child)
                else:
                    self._children.discard(child)
                    is_ours = False
            if not is_ours:
                child.kill()
        return answer

    def _idle_child(self) -> "_Child | None":
        """Take a child that lives. Those that were killed while they were idle (where memory runs out, they go first) broke at no file."""
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.is_alive():
                    return child
                self._children.discard(child)
                child.kill()
        return None


class _Slots:
    """Fair counting semaphore that can be acquired several at a time, first come, first served."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._freed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def take(self, count: int) -> Generator[None]:
        with self._turn, self._freed:
            self._freed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._freed:
                self._free += count
                self._freed.notify()


class _Child(ChildProcess):
    """One decoder process."""

    def __init__(self) -> None:
        super().__init__("embedrl.media.decoder", OMP_NUM_THREADS="1", MALLOC_ARENA_MAX="1")
        if hasattr(fcntl, "F_SETPIPE_SZ") and self._process.stdout is not None:  # images then take few turns of the two processes
            with suppress(OSError):
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            self.receive(1, time.monotonic() + START_TIMEOUT_S)
        except (_Death, TimeoutError) as error:
            self.kill()
            raise ModelError(f"the decoder process does not start: {error or 'it says nothing'}") from error

    def ask(self, job: Mapping[str, Any], limits: Limits, max_text_chars: int) -> Answer:
        """Send a job and read the answer. Raises _Death and TimeoutError."""
        data = json.dumps(job).encode()
        try:
            self.send(struct.pack(LENGTH, len(data)) + data)
        except OSError as error:
            raise _Death(self._how()) from error
        deadline = time.monotonic() + limits.decode_timeout_s + 2 * GRACE_S
        try:
            head = self.receive_json(_MAX_HEAD_BYTES + _BYTES_PER_CHAR * max_text_chars, deadline)
            sizes = [(int(width), int(height)) for width, height in head.get("sizes", ())]
            if any(min(size) < 1 for size in sizes) or 3 * sum(width * height for width, height in sizes) > limits.decode_memory_bytes:
                raise ValueError(sizes)
            num_bytes = int(head.get("num_bytes", 0))
            if not 0 <= num_bytes <= limits.decode_memory_bytes:
                raise ValueError(num_bytes)
            images = tuple(PIL.Image.frombytes("RGB", size, self.receive(3 * size[0] * size[1], deadline)) for size in sizes)
            data = self.receive(num_bytes, deadline)
        except (ValueError, TypeError, AttributeError) as error:
            raise _Death("it answers nonsense") from error
        return Answer(head, images, data)

    def receive(self, size: int, deadline: float) -> bytes:
        """Read from its standard output. Raises _Death and TimeoutError."""
        try:
            return super().receive(size, deadline)
        except EOFError:
            raise _Death(self._how()) if self._signal() != signal.SIGALRM else TimeoutError from None

    def _signal(self) -> int:
        with suppress(subprocess.TimeoutExpired):
            return -self._process.wait(GRACE_S)
        return 0

    def _how(self) -> str:
        number = self._signal()
        return signal.Signals(number).name if number > 0 else f"exit code {-number}"


@contextmanager
def reading_answer(path: Path) -> Generator[None]:
    """Raise MediaError for a file about which a child answered nonsense: what it says has other keys or types."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise MediaError(f"{str(path)!r}: breaks the decoder (it answers nonsense)") from error


def _identity(path: Path, limits: Limits) -> tuple[Any, ...]:
    """Return the identity of a file's current version and of its job."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return (os.fspath(path), limits)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, limits)


_current: Pool | None = None
_creating = threading.Lock()


def pool() -> Pool:
    """Return the pool of this process."""
    global _current
    with _creating:
        if _current is None:
            _current = Pool(min(MAX_CHILDREN, os.cpu_count() or 1))
        return _current


@atexit.register
def _close() -> None:
    if _current is not None:
        _current.close()


def _forked() -> None:
    global _current, _creating
    if _current is not None:
        _current.forget()
    _current, _creating = None, threading.Lock()


os.register_at_fork(after_in_child=_forked)
