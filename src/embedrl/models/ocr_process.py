"""RapidOCR in a child process, which is bounded by time and memory and may crash alone.

A request is the size and the pixels of an image (RGB), an answer JSON behind its length: the lines that were read, or why none was.
"""

import json
import os
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image

from embedrl.data.protocols import Refusal
from embedrl.errors import ConfigError
from embedrl.media.child_process import ChildProcess, begin_child, limit_memory, send_json
from embedrl.media.sandbox import START_TIMEOUT_S
from embedrl.media.store import Limits

TIMES_AS_LONG, TIMES_AS_MUCH = 4, 2
"""Its limits of time and memory, as multiples of those of decoding a file: images of 2,000 pixels a side take 1.8 GB."""
_MAX_ANSWER_BYTES = 64 * 1024**2
_HEADER = ">III"

Line = tuple[str, float, list[list[float]], list[tuple[str, list[list[float]] | None]]]
"""Text, confidence, corners, and its pieces with theirs."""


class OcrProcess:
    """A child process that reads images one at a time, started when the first one comes, and again after each that broke it."""

    def __init__(self, params: dict[str, Any], limits: Limits) -> None:
        self.params, self.limits = params, limits
        self._child: ChildProcess | None = None
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
            child = self._child if self._child is not None and self._child.is_alive() else self._start()
            deadline = time.monotonic() + TIMES_AS_LONG * self.limits.decode_timeout_s
            try:
                child.send(struct.pack(_HEADER, *image.size, len(pixels := image.tobytes())) + pixels)
                answer = child.receive_json(_MAX_ANSWER_BYTES, deadline)
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

    def _start(self) -> ChildProcess:
        self._kill()
        settings = {"params": self.params, "memory_bytes": TIMES_AS_MUCH * self.limits.decode_memory_bytes}
        threads = {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]} if "OMP_NUM_THREADS" in os.environ else {}
        self._child = ChildProcess("embedrl.models.rapid_ocr", json.dumps(settings), **threads)
        self._end = weakref.finalize(self, self._child.kill)
        try:
            started = self._child.receive_json(_MAX_ANSWER_BYTES, time.monotonic() + START_TIMEOUT_S)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            started = {"error": str(error) or "it says nothing"}
        if "error" in started:
            self._kill()
            raise ConfigError(f"rapidocr: its models do not run here ({started['error']}); install it again")
        return self._child

    def _kill(self) -> None:
        self._child = None
        if self._end is not None:
            self._end()


def serve(load: Callable[[dict[str, Any]], Callable[[np.ndarray], list[Line]]]) -> None:
    """Read the images on standard input, in a child: `load` returns what reads pixels (height, width, BGR)."""
    answers, settings = begin_child(), json.loads(sys.argv[2])
    # Boundary: ONNX Runtime and OpenCV have errors of their own, all below Exception.
    try:
        read = load(settings["params"])
    except Exception as error:
        send_json(answers, {"error": str(error)})
        return
    send_json(answers, {"ready": True})
    limit_memory(settings["memory_bytes"])
    while len(head := sys.stdin.buffer.read(struct.calcsize(_HEADER))) == struct.calcsize(_HEADER):
        width, height, num_bytes = struct.unpack(_HEADER, head)
        pixels = np.frombuffer(sys.stdin.buffer.read(num_bytes), np.uint8).reshape(height, width, 3)
        try:
            answer = {"lines": read(np.ascontiguousarray(pixels[..., ::-1]))}
        except MemoryError:
            answer = {"out_of_memory": True}
        except Exception as error:
            answer = {"out_of_memory": True} if "alloc" in str(error).lower() else {"error": str(error)}
        send_json(answers, answer)
