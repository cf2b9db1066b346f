"""RapidOCR in a child process, which is bounded by time and memory and may crash alone.

A request is the size and the pixels of an image (RGB), an answer JSON behind its length: the lines that were read, or why none was.
"""

import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from embedrl.data.protocols import Refusal
from embedrl.errors import ConfigError
from embedrl.media.sandbox import address_space_bytes
from embedrl.media.store import Limits

TIMES_AS_LONG, TIMES_AS_MUCH = 4, 2
"""Its limits of time and memory, as multiples of those of decoding a file: images of 2,000 pixels a side take 1.8 GB."""
_START_TIMEOUT_S = 120.0
_MAX_ANSWER_BYTES = 64 * 1024**2
_HEADER = ">III"
_LENGTH = ">I"
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from embedrl.models.rapid_ocr import main; main()"

Line = tuple[str, float, list[list[float]], list[tuple[str, list[list[float]] | None]]]
"""Text, confidence, corners, and its pieces with theirs."""


class OcrProcess:
    """A child process that reads images one at a time, started when the first one comes, and again after each that broke it."""

    def __init__(self, params: dict[str, Any], limits: Limits) -> None:
        self.params, self.limits = params, limits
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize | None = None
        """Ends the child, at the latest when nobody holds this object any more."""
        self._asking = threading.Lock()

    def start(self) -> None:
        """Start the child and load the models. Raises ConfigError if they do not run here."""
        with self._asking:
            self._start()

    def read(self, image: PIL.Image.Image) -> list[Line]:
        """Return the lines in an image. Raises Refusal if it takes too long or too much memory, or breaks the child."""
        with self._asking:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            deadline = time.monotonic() + TIMES_AS_LONG * self.limits.decode_timeout_s
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(struct.pack(_HEADER, *image.size, len(pixels := image.tobytes())) + pixels)
                self._process.stdin.flush()
                answer = self._answer(deadline)
            except TimeoutError as error:
                self._kill()
                reason = f"reading its text takes longer than {TIMES_AS_LONG} times decode_timeout_s={self.limits.decode_timeout_s:g}"
                raise Refusal("timeout", reason, about_item=True) from error
            except (OSError, EOFError, ValueError) as error:
                self._kill()
                reason = f"rapidocr ends, or takes more than {TIMES_AS_MUCH} times decode_memory_bytes={self.limits.decode_memory_bytes}"
                raise Refusal("crashed", reason, about_item=True) from error
            except BaseException:  # an answer that nobody waited for must not be taken for that of the next image
                self._kill()
                raise
        if "out_of_memory" in answer:
            reason = f"reading its text takes more than {TIMES_AS_MUCH} times decode_memory_bytes={self.limits.decode_memory_bytes}"
            raise Refusal("crashed", reason, about_item=True)
        if "error" in answer:
            raise Refusal("model_error", f"rapidocr does not read it ({answer['error']})", about_item=False)
        return answer["lines"]

    def close(self) -> None:
        """End the child; the next image starts another."""
        with self._asking:
            self._kill()

    def _start(self) -> None:
        self._kill()
        settings = {"params": self.params, "memory_bytes": TIMES_AS_MUCH * self.limits.decode_memory_bytes}
        paths = json.dumps([os.path.abspath(path) for path in sys.path if path])
        command = [sys.executable, "-I", "-c", _BOOT, paths, json.dumps(settings)]
        quiet = {"PATH": os.environ.get("PATH", ""), "OPENBLAS_NUM_THREADS": "1"}
        quiet |= {name: os.environ[name] for name in ("OMP_NUM_THREADS", "TZ") if name in os.environ}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet, start_new_session=True)
        self._end = weakref.finalize(self, _end, self._process)
        try:
            started = self._answer(time.monotonic() + _START_TIMEOUT_S)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            started = {"error": str(error) or "it says nothing"}
        if "error" in started:
            self._kill()
            raise ConfigError(f"rapidocr: its models do not run here ({started['error']}); install it again")

    def _answer(self, deadline: float) -> dict[str, Any]:
        (length,) = struct.unpack(_LENGTH, self._read(struct.calcsize(_LENGTH), deadline))
        if length > _MAX_ANSWER_BYTES:
            raise ValueError(length)
        return json.loads(self._read(length, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process is not None
        stdout = self._process.stdout
        assert stdout is not None
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        data = bytearray()
        while len(data) < size:
            if not poll.poll(1000 * max(deadline - time.monotonic(), 0.0)):
                raise TimeoutError
            if not (part := os.read(stdout.fileno(), size - len(data))):
                raise EOFError("it ended")
            data += part
        return bytes(data)

    def _kill(self) -> None:
        self._process = None
        if self._end is not None:
            self._end()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and close its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def serve(load: Callable[[dict[str, Any]], Callable[[np.ndarray], list[Line]]]) -> None:
    """Read the images on standard input, in a child: `load` returns what reads pixels (height, width, BGR)."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints is no answer
    settings = json.loads(sys.argv[2])
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    with suppress(OSError):  # where memory runs out, it goes before the process that asks
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Boundary: ONNX Runtime and OpenCV have errors of their own, all below Exception.
    try:
        read = load(settings["params"])
    except Exception as error:
        _say(answers, {"error": str(error)})
        return
    _say(answers, {"ready": True})
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    allowed = address_space_bytes() + settings["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))
    while len(head := sys.stdin.buffer.read(struct.calcsize(_HEADER))) == struct.calcsize(_HEADER):
        width, height, num_bytes = struct.unpack(_HEADER, head)
        pixels = np.frombuffer(sys.stdin.buffer.read(num_bytes), np.uint8).reshape(height, width, 3)
        try:
            answer = {"lines": read(np.ascontiguousarray(pixels[..., ::-1]))}
        except MemoryError:
            answer = {"out_of_memory": True}
        except Exception as error:
            answer = {"out_of_memory": True} if "alloc" in str(error).lower() else {"error": str(error)}
        _say(answers, answer)


def _say(file: Any, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode()
    file.write(struct.pack(_LENGTH, len(data)) + data)
    file.flush()
