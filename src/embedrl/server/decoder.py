"""The child process that uploads are decoded in. It holds the decoders, and forks for each file a process with little time and memory.

Reads one JSON job a line, answers one JSON line; pictures are left as raw RGB bytes in files of the job's folder.
"""

import json
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import PIL.Image

from embedrl.errors import MediaError
from embedrl.media.content import Frames, Image, Page, Video
from embedrl.media.decode import load_visual
from embedrl.media.document import num_pages, page_text
from embedrl.media.store import Limits, container_format, media_kind, still_format
from embedrl.media.text import load_text

MAX_WRITTEN_BYTES = 1024**3


def main() -> None:
    """Work through the jobs on standard input."""
    for line in sys.stdin.buffer:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _work(job)
        _, status = os.waitpid(child, 0)
        answer = Path(job["folder"]) / "answer.json"
        if os.WIFSIGNALED(status):
            died = {"error": "decoding it takes too much time or memory, or breaks the decoder"}
            sys.stdout.write(json.dumps(died) + "\n")
        else:
            sys.stdout.write(answer.read_text("utf-8") + "\n" if answer.exists() else json.dumps({"error": "it breaks the decoder"}) + "\n")
        sys.stdout.flush()


def _work(job: dict[str, Any]) -> None:
    """Decode one file, in the forked process, which ends here."""
    code = 1
    try:
        _limit(job["timeout_s"], job["memory_bytes"])
        try:
            answer = _decode(job)
        except MediaError as error:
            answer = {"error": str(error).removeprefix(f"{job['path']!r}: ")}
        except MemoryError:
            answer = {"error": "decoding it takes too much memory"}
        (Path(job["folder"]) / "answer.json").write_text(json.dumps(answer), "utf-8")
        code = 0
    finally:
        os._exit(code)


def _limit(timeout_s: float, memory_bytes: int) -> None:
    seconds = math.ceil(timeout_s)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_WRITTEN_BYTES, MAX_WRITTEN_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(seconds + 1)


def _decode(job: dict[str, Any]) -> dict[str, Any]:
    path, limits = Path(job["path"]), Limits.model_validate(job["limits"])
    kind = media_kind(path, limits)
    if kind is None:
        raise MediaError("is of no kind that is indexed: give an image, a video, a PDF or a text")
    with path.open("rb") as file:
        head = file.read(64)
    answer: dict[str, Any] = {"kind": kind, "format": still_format(head) or container_format(head) or "", "pictures": []}
    if kind == "text":
        load_text(path, limits)
        return answer
    if kind == "page":
        answer["num_pages"] = num_pages(path, limits)
        page_text(Page(path=path, number=job["page"]), limits)
    part = {"image": Image(path=path), "video": Video(path=path), "page": Page(path=path, number=job["page"])}[kind]
    seen = load_visual(part, num_frames=job["num_frames"], limits=limits)
    frames = seen.images if isinstance(seen, Frames) else (seen,)
    answer["times_s"] = list(seen.times_s) if isinstance(seen, Frames) else []
    if job["keep"]:
        for number, frame in enumerate(frames):
            small = _shrunk(frame, job["max_pixels"])
            (Path(job["folder"]) / f"{number}.rgb").write_bytes(small.tobytes())
            answer["pictures"].append(small.size)
    return answer


def _shrunk(image: PIL.Image.Image, max_pixels: int) -> PIL.Image.Image:
    scale = math.ceil(math.sqrt(image.width * image.height / max_pixels))
    return image.reduce(scale) if scale > 1 else image


if __name__ == "__main__":
    main()
