"""Child processes that answer over pipes, bounded in time and memory: the side that asks, and what a child does first."""

import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = ">I"
"""JSON is sent behind its length."""


class ChildProcess:
    """A child that runs `main` of a module with the import paths of this process, in a session of its own."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        paths = json.dumps([os.path.abspath(path) for path in sys.path if path])
        boot = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import main; main()"
        quiet = {"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1", **environment}
        quiet |= {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}  # in which dates without a zone are read
        command = [sys.executable, "-I", "-c", boot, paths, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet, start_new_session=True)

    def send(self, data: bytes) -> None:
        """Write to its standard input. Raises OSError if it ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def receive(self, size: int, deadline: float) -> bytes:
        """Read `size` bytes from its standard output. Raises TimeoutError at the deadline (`time.monotonic`), EOFError if it ended."""
        stdout = self._process.stdout
        assert stdout is not None
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        data = bytearray(size)
        position = 0
        while position < size:
            if not poll.poll(1000 * max(deadline - time.monotonic(), 0.0)):
                raise TimeoutError
            if not (num_read := os.readv(stdout.fileno(), [memoryview(data)[position:]])):
                raise EOFError("it ended")
            position += num_read
        return bytes(data)

    def receive_json(self, max_bytes: int, deadline: float) -> dict[str, Any]:
        """Read an answer of `send_json`. Raises ValueError if it is longer than `max_bytes` or no JSON, and as `receive` does."""
        (length,) = struct.unpack(LENGTH, self.receive(struct.calcsize(LENGTH), deadline))
        if length > max_bytes:
            raise ValueError(length)
        return json.loads(self.receive(length, deadline))

    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process, with those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close()

    def let_go(self) -> None:
        """Close this process's ends of the pipes of another process's child."""
        self._process.returncode = 0
        self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def begin_child() -> BinaryIO:
    """Return where a child's answers go. What libraries print goes nowhere, no file is written, and where memory runs out it dies first."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return answers


def limit_memory(num_bytes: int) -> None:
    """Let this process's address space grow by at most `num_bytes`."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    allowed = address_space_bytes() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))


def send_json(file: BinaryIO, answer: dict[str, Any]) -> None:
    """Write an answer behind its length; `file` is flushed."""
    data = json.dumps(answer).encode()
    file.write(struct.pack(LENGTH, len(data)) + data)
    file.flush()


def address_space_bytes() -> int:
    """Return the size of this process's address space in bytes, where the system reports it, else 0."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
