"""Decoder child process: reads jobs from stdin and writes decoded content, isolated from crashes.

A job and an answer are JSON behind their length in 4 bytes; the images of an answer follow as raw RGB, then its plain bytes (sound).
"""

import json
import math
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import PIL.Image

from embedrl.errors import MediaError
from embedrl.media.child_process import LENGTH, address_space_bytes, begin_child, limit_memory, send_json
from embedrl.media.content import FrameFiles, Image, Page, Video
from embedrl.media.image import load_image, num_images, still_metadata
from embedrl.media.metadata import from_name, merge
from embedrl.media.resize import read_scale, scaled
from embedrl.media.sandbox import GRACE_S
from embedrl.media.sidecars import from_sidecar
from embedrl.media.store import Limits

MAX_GROWTH_BYTES = 512 * 1024**2
"""Memory growth after which a child is replaced."""


def main() -> None:
    """Process the jobs on standard input."""
    answers = begin_child()
    PIL.Image.MAX_IMAGE_PIXELS = None  # our own limits count here
    answers.write(b"R")
    answers.flush()
    os.dup2(1, 2)
    size_at_start = address_space_bytes()
    while len(head := sys.stdin.buffer.read(struct.calcsize(LENGTH))) == struct.calcsize(LENGTH):
        job = json.loads(sys.stdin.buffer.read(struct.unpack(LENGTH, head)[0]))
        answer, images = _work(job)
        answer["is_last"] = address_space_bytes() > size_at_start + MAX_GROWTH_BYTES
        answer["sizes"] = [image.size for image in images]
        plain = answer.pop("bytes", b"")
        answer["num_bytes"] = len(plain)
        send_json(answers, answer)
        for image in images:
            answers.write(image.tobytes())
        answers.write(plain)
        answers.flush()


@lru_cache(maxsize=8)
def _limits(written: str) -> Limits:
    return Limits.model_validate_json(written)


def _work(job: dict[str, Any]) -> tuple[dict[str, Any], list[PIL.Image.Image]]:
    """Process a job within its limits."""
    limits = _limits(json.dumps(job["limits"]))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    signal.alarm(math.ceil(limits.decode_timeout_s + GRACE_S))
    try:
        limit_memory(job["memory_bytes"])
        if job.get("folder"):
            os.chdir(job["folder"])
        return _look(job, limits)
    except MediaError as error:
        return {"error": str(error)}, []
    except MemoryError:
        return {"out_of_memory": True}, []
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        signal.alarm(0)


def _look(job: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], list[PIL.Image.Image]]:
    """Do a job: its answer, and images if they are wanted."""
    paths, want = [Path(path) for path in job["paths"]], job["want"]
    answer: dict[str, Any] = {}
    images: tuple[PIL.Image.Image, ...] = ()
    if "metadata" in want:
        return {"metadata": _metadata(job["kind"], paths[0], map(Path, job["files"]), limits)}, []
    match job["kind"]:
        case "text":
            from embedrl.media.office import document_text

            answer["text"] = document_text(paths[0], limits)
        case "image":
            if "num_pages" in want:
                answer["num_pages"] = num_images(paths[0], limits)
            if "pixels" in want:
                images = (load_image(Image(path=paths[0], number=job["number"]), limits),)
        case "page":
            from embedrl.media.document import load_page, num_pages, page_text

            page = Page(path=paths[0], number=job["number"])
            if "num_pages" in want:
                answer["num_pages"] = num_pages(paths[0], limits)
            if "text" in want:
                answer["text"] = page_text(page, limits)
            if "pixels" in want:
                images = (load_page(page, limits),)
        case "video" if "scan" in want:
            from embedrl.media.scan import scan_video

            scan = scan_video(paths[0], job["start_s"], job["shortest_s"], limits)
            answer.update(times_s=scan.times_s, changes_s=scan.changes_s, next_s=scan.next_s, duration_s=scan.duration_s)
            return answer, [scan.signatures]
        case "video" | "audio" if "sound" in want:
            from embedrl.media.soundtrack import decode_sound

            sound = decode_sound(paths[0], job["start_s"], limits)
            return {"next_s": sound.next_s, "has_track": sound.has_track, "bytes": sound.samples.tobytes()}, []
        case "video" | "audio" if "subtitles" in want:
            from embedrl.media.soundtrack import embedded_cues, frame_rate, read_chapters, tag_lyrics
            from embedrl.media.subtitles import read_subtitles

            is_video, files = job["kind"] == "video", [Path(file) for file in job["files"]]
            embedded, fps = (embedded_cues, partial(frame_rate, paths[0], limits)) if is_video else (tag_lyrics, float)
            answer["cues"], answer["problems"] = read_subtitles(paths[0], files, embedded, fps, limits)
            answer["chapters"] = read_chapters(paths[0], limits) if is_video else []
            return answer, []
        case "video":
            from embedrl.media.video import load_frames, read_video

            files = FrameFiles(paths=tuple(paths), times_s=tuple(job["times_s"])) if job["times_s"] else None
            video = Video(path=None if files else paths[0], frame_files=files, start_s=job["start_s"], end_s=job["end_s"])
            if files:
                frames = load_frames(video, job["num_frames"], limits)
            else:
                frames, answer["duration_s"] = read_video(video, job["num_frames"], limits)
            images, answer["times_s"] = frames.images, frames.times_s
    if not job["keep_pixels"]:
        return answer, []
    scale = read_scale(job["scale"])
    return answer, [scaled(image, scale, is_frame=job["kind"] == "video") for image in images]


def _metadata(kind: str, path: Path, sidecars: Iterable[Path], limits: Limits) -> dict[str, Any]:
    """Return what a file and its sidecars say of it. A sidecar was written by a person or a program that knew better."""
    own: list[dict[str, Any]] = []
    match kind:
        case "image":
            own = still_metadata(path, limits)
        case "video":
            from embedrl.media.video import video_metadata

            own = [video_metadata(path, limits)]
        case "audio":
            from embedrl.media.soundtrack import audio_metadata

            own = [audio_metadata(path, limits)]
        case "page":
            from embedrl.media.document import document_metadata

            own = [document_metadata(path, limits)]
        case "text":
            from embedrl.media.properties import document_properties

            own = document_properties(path, limits)
    beside = [source for sidecar in sidecars for source in from_sidecar(sidecar)]
    return merge([*beside, *own, from_name(path.name)]).model_dump()


if __name__ == "__main__":
    main()
