"""Decoding of files that strangers gave, in child processes with a time and a memory limit. A bomb costs one child, not the server."""

import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

import embedrl
from embedrl.errors import MediaError
from embedrl.media.content import Frames
from embedrl.media.store import Limits, MediaKind

MAX_QUERY_PIXELS = 4_000_000
"""Pictures come back with at most so many pixels: more than any model is shown."""
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from embedrl.server.decoder import main; main()"


@dataclass(frozen=True)
class Decoded:
    """What a file holds."""

    kind: MediaKind
    format: str
    """Of a still (`JPEG`) or of a container (`mov`); else empty."""
    num_pages: int | None
    pictures: tuple[PIL.Image.Image, ...]
    """RGB: the still, the page, or the frames of a video; empty unless they were wanted."""
    times_s: tuple[float, ...]

    @property
    def frames(self) -> Frames:
        """The pictures as frames."""
        return Frames(self.pictures, self.times_s)


class Sandbox:
    """Decodes files in a few child processes, which are started when needed and live on."""

    def __init__(self, limits: Limits, memory_bytes: int, *, num_workers: int = 2) -> None:
        self.limits, self.memory_bytes = limits, memory_bytes
        self._idle: queue.Queue[_Child | None] = queue.Queue()
        for _ in range(num_workers):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._closed = False

    def decode(self, path: Path, *, page: int = 1, num_frames: int, keep: bool = True, max_pixels: int = MAX_QUERY_PIXELS) -> Decoded:
        """Decode a file in full. Raises MediaError, without a path, for one that cannot be used or takes too much."""
        with tempfile.TemporaryDirectory(prefix="embedrl-decode-") as folder:
            job = {
                "path": str(path),
                "folder": folder,
                "page": page,
                "num_frames": num_frames,
                "keep": keep,
                "max_pixels": max_pixels,
                "limits": self.limits.model_dump(),
                "timeout_s": self.limits.decode_timeout_s,
                "memory_bytes": self.memory_bytes,
            }
            answer = self._ask(job)
            if "error" in answer:
                raise MediaError(answer["error"])
            pictures = tuple(
                PIL.Image.frombytes("RGB", tuple(size), Path(folder, f"{number}.rgb").read_bytes())
                for number, size in enumerate(answer["pictures"])
            )
        return Decoded(answer["kind"], answer["format"], answer.get("num_pages"), pictures, tuple(answer.get("times_s", ())))

    def close(self) -> None:
        """End the children."""
        with self._lock:
            self._closed = True
            children, self._children = self._children, set()
        for child in children:
            child.kill()

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        child = self._idle.get()
        try:
            if child is None or not child.is_alive:
                child = self._start()
            answer = child.ask(job, self.limits.decode_timeout_s + 10)
        except (OSError, ValueError, TimeoutError):
            if child is not None:
                child.kill()
                with self._lock:
                    self._children.discard(child)
            child = None
            return {"error": "decoding it takes too much time, or breaks the decoder"}
        finally:
            self._idle.put(child)
        return answer

    def _start(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise MediaError("the server is stopping")
            child = _Child()
            self._children.add(child)
            return child


class _Child:
    def __init__(self) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": os.environ.get("PATH", "")}
        command = [sys.executable, "-I", "-c", _BOOT, str(Path(embedrl.__file__).parents[1])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet, start_new_session=True)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(job).encode() + b"\n")
        stdin.flush()
        if not select.select([stdout], [], [], timeout_s)[0]:
            raise TimeoutError
        return json.loads(stdout.readline())

    def kill(self) -> None:
        """End the process and what it forked."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
