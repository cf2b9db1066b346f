"""Decode a visual part to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image

from embedrl.errors import ConfigError, MediaError, cause
from embedrl.media.content import Frames, Image, Page, Video, part_files
from embedrl.media.dates import first_seconds
from embedrl.media.front_matter import MAX_CHARS, front_matter
from embedrl.media.image import to_rgb
from embedrl.media.kinds import MediaKind
from embedrl.media.metadata import Metadata, captured, damage_noted, from_name, merge
from embedrl.media.resize import Scale, scaled
from embedrl.media.sampling import frames_in_memory
from embedrl.media.sandbox import pool, reading_answer
from embedrl.media.sidecars import sidecars_of
from embedrl.media.sound import Sound
from embedrl.media.stills import MULTI_IMAGE
from embedrl.media.store import HEAD_BYTES, DocumentFormat, Limits, document_format, is_audio, limits_in_force, open_regular, still_format
from embedrl.media.subtitles import Cue
from embedrl.media.text import LONG_DOCUMENT, load_long_text

Want = Literal["pixels", "text", "num_pages", "scan", "metadata", "subtitles", "sound"]

NUM_CHECKED_FRAMES = 8
"""Number of frames decoded to check a video."""


@dataclass(frozen=True)
class Look:
    """Decoded content of a visual part, as far as requested."""

    images: tuple[PIL.Image.Image, ...] = ()
    """RGB: the image, the page, or the frames of a video."""
    times_s: tuple[float, ...] = ()
    """Timestamps of the frames, in seconds."""
    text: str = ""
    """Text layer of a page."""
    num_pages: int | None = None
    """Number of pages of a page's document, or of images of an image's file."""
    duration_s: float | None = None
    """Duration of a video file whose pixels were requested, in seconds."""

    @property
    def visual(self) -> PIL.Image.Image | Frames:
        """The pixels: an image, or frames."""
        return Frames(self.images, self.times_s) if self.times_s else self.images[0]


def look(
    part: Image | Video | Page,
    *want: Want,
    num_frames: int | None = None,
    limits: Limits | None = None,
    scale: Scale | None = None,
    keep_pixels: bool = True,
) -> Look:
    """Decode the requested content of a part; its pixels scaled, or only checked. Raises MediaError, naming the file.

    `num_frames` is a fact of who looks (a Reasoner's `num_frames`, a budget's); without it, frames that are in memory or in files of
    their own are all there. Without `limits`, those of this process count.
    """
    if num_frames is not None and num_frames < 1:
        raise ConfigError(f"num_frames={num_frames}: give at least 1")
    if isinstance(part, Video) and part.path is not None and "pixels" in want and num_frames is None:
        raise ConfigError(f"{str(part.path)!r}: num_frames: say how many frames of a video file are sampled (a Reasoner's num_frames)")
    limits = limits or limits_in_force()
    files = part_files(part)
    if not files:
        return _look_in_memory(part, num_frames, scale) if "pixels" in want else Look()
    job = job_of(part, *want, num_frames=num_frames, limits=limits, scale=scale, keep_pixels=keep_pixels)
    answer = pool().decode(job, files[0], limits)
    with reading_answer(files[0]):
        return Look(
            images=answer.images,
            times_s=tuple(map(float, answer.head.get("times_s", ()))),
            text=str(answer.head.get("text", "")),
            num_pages=None if (count := answer.head.get("num_pages")) is None else int(count),
            duration_s=None if (length := answer.head.get("duration_s")) is None else float(length),
        )


def job_of(
    part: Image | Video | Page,
    *want: Want,
    limits: Limits,
    num_frames: int | None = None,
    scale: Scale | None = None,
    keep_pixels: bool = True,
) -> dict[str, Any]:
    """Serialise a decoding job of a part with files, for a child process."""
    files = part_files(part)
    video = part if isinstance(part, Video) else None
    return {
        "kind": part.kind,
        "paths": [str(path) for path in files],
        "folder": None if all(path.is_absolute() for path in files) else str(Path.cwd()),
        "number": part.number if isinstance(part, Page | Image) else None,
        "start_s": video.start_s if video else 0.0,
        "end_s": video.end_s if video else None,
        "times_s": video.frame_files.times_s if video and video.frame_files else None,
        "num_frames": num_frames,
        "want": want,
        "keep_pixels": keep_pixels,
        "scale": scale.model_dump() if scale else None,
        "limits": limits.model_dump(),
    }


def _look_in_memory(part: Image | Video | Page, num_frames: int | None, scale: Scale | None) -> Look:
    if isinstance(part, Video):
        frames = frames_in_memory(part, num_frames)
        return Look(tuple(scaled(image, scale, is_frame=True) for image in frames.images), frames.times_s)
    assert part.pixels is not None
    return Look((scaled(to_rgb(part.pixels), scale, is_frame=False),))


def load_visual(
    part: Image | Video | Page, *, num_frames: int | None = None, limits: Limits | None = None, scale: Scale | None = None
) -> PIL.Image.Image | Frames:
    """Decode a part: RGB pixels of an image or a page, sampled frames of a video. Raises MediaError, naming the file."""
    return look(part, "pixels", num_frames=num_frames, limits=limits, scale=scale).visual


def page_text(page: Page, limits: Limits | None = None) -> str:
    """Return the text layer of a page, "" if it has none (a scan, or pixels in memory). Raises MediaError."""
    return look(page, "text", limits=limits).text


def read_text(path: Path, limits: Limits | None = None) -> str:
    """Return the text of a text file, or of a document (`store.DOCUMENTS`) as Markdown, converted in a child process.

    It may be long: 100 times `max_text_chars` for a text, 10 times for a document. Raises MediaError.
    """
    limits = limits or limits_in_force()
    if not is_document(path, limits):
        return load_long_text(path, limits)
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{str(path)!r}: cannot be read {cause(error)}") from error
    return _converted(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns), limits)


@lru_cache(maxsize=4)
def _converted(path: Path, version: tuple[int, ...], limits: Limits) -> str:
    """Convert a version of a document; its passages are asked for one by one."""
    job = document_job(path, "text", limits)
    answer = pool().decode(job, path, limits, max_text_chars=LONG_DOCUMENT * limits.max_text_chars)
    return str(answer.head.get("text", ""))


def document_job(path: Path, want: Want, limits: Limits) -> dict[str, Any]:
    """Serialise a job about a document, for a child process."""
    folder = None if path.is_absolute() else str(Path.cwd())
    return {"kind": "text", "paths": [str(path)], "folder": folder, "want": [want], "keep_pixels": False, "limits": limits.model_dump()}


def is_document(path: Path, limits: Limits | None = None) -> bool:
    """Return whether a file is a document that is converted to text. Raises MediaError if it cannot be opened."""
    return format_of(path, limits or limits_in_force()) is not None


def format_of(path: Path, limits: Limits) -> DocumentFormat | None:
    """Return the format of a document that is converted to text; None for another file. Raises MediaError if it cannot be opened."""
    with open_regular(path, limits) as file:
        return document_format(path.suffix, file.read(HEAD_BYTES))


def read_metadata(path: Path, kind: MediaKind, limits: Limits | None = None, *, sidecars: Sequence[Path] | None = None) -> Metadata:
    """Return what a file, its sidecars and its name say of it: when it was taken, with what, where. Raises MediaError.

    `sidecars` are those that may be opened; by default all that lie beside it.
    """
    limits = limits or limits_in_force()
    if kind == "text" and not is_audio(path, limits):
        if not is_document(path, limits):
            return merge([*_front_matter(path, limits), from_name(path.name)])
        job, files = document_job(path, "metadata", limits), []
    else:
        part = {"image": Image(path=path), "page": Page(path=path)}.get(kind)
        job = job_of(part, "metadata", limits=limits) if part else _spoken_job(path, "metadata", limits)
        files = [str(sidecar.absolute()) for sidecar in (sidecars_of(path) if sidecars is None else sidecars)]
    answer = pool().decode({**job, "files": files}, path, limits)
    with reading_answer(path):
        return Metadata.model_validate(answer.head["metadata"])


def _front_matter(path: Path, limits: Limits) -> list[dict[str, Any]]:
    """Return what a text says of itself before it begins, as sources of `merge`."""
    sources: list[dict[str, Any]] = []
    with open_regular(path, limits) as file:
        head = file.read(MAX_CHARS)
    with damage_noted(sources, "front matter"):
        words, dates = front_matter(head.decode("utf-8", "replace").replace("\r\n", "\n"))
        sources.append({"about": words, **captured(first_seconds(dates), "front_matter")})
    return sources


def read_subtitles(path: Path, files: Sequence[Path], limits: Limits | None = None) -> tuple[list[Cue], list[Cue], list[tuple[Path, str]]]:
    """Return the cues of the subtitles of a video or an audio file, by time, its chapters, and (file, reason) of what could not be read.

    Subtitles are those of the `files`, or else of a video's own stream of text; chapters are those of a video. Raises MediaError.
    """
    limits = limits or limits_in_force()
    job = _spoken_job(path, "subtitles", limits)
    answer = pool().decode({**job, "files": [str(file.absolute()) for file in files]}, path, limits)
    with reading_answer(path):
        cues, chapters = (
            [Cue(float(start_s), float(end_s), str(text)) for start_s, end_s, text in answer.head[name]] for name in ("cues", "chapters")
        )
        return cues, chapters, [(path.with_name(Path(name).name), str(reason)) for name, reason in answer.head["problems"]]


def _spoken_job(path: Path, want: Want, limits: Limits, start_s: float = 0.0) -> dict[str, Any]:
    """Serialise a job about a video or an audio file."""
    return job_of(Video(path=path, start_s=start_s), want, limits=limits) | {"kind": "audio" if is_audio(path, limits) else "video"}


def read_sound(path: Path, start_s: float, limits: Limits | None = None) -> Sound:
    """Return the sound of a video or an audio file from a time on, two minutes at most: see `soundtrack`. Raises MediaError."""
    limits = limits or limits_in_force()
    answer = pool().decode(_spoken_job(path, "sound", limits, start_s), path, limits)
    with reading_answer(path):
        next_s = None if (at := answer.head["next_s"]) is None else float(at)
        if next_s is not None and not next_s > start_s:
            raise ValueError(next_s)
        return Sound(np.frombuffer(answer.data, np.int16), next_s, bool(answer.head["has_track"]))


def num_pages(path: Path, limits: Limits | None = None) -> int:
    """Return the number of pages of a PDF. Raises MediaError if it cannot be opened or exceeds `max_pages`."""
    return look(Page(path=path), "num_pages", limits=limits).num_pages or 0


def num_images(path: Path, limits: Limits | None = None) -> int:
    """Return the number of images of a still file, 1 for an animation. Raises MediaError if there are more than `max_pages`."""
    limits = limits or limits_in_force()
    with open_regular(path, limits) as file:
        head = file.read(64)
    if still_format(head) not in MULTI_IMAGE:
        return 1
    return look(Image(path=path), "num_pages", limits=limits).num_pages or 1


def count_frames(part: Image | Video | Page | None, *, num_frames: int | None = None) -> int | None:
    """Return the number of frames sampled from a video for at most `num_frames`; None for other parts. Raises MediaError.

    A video that is a file is decoded for it, and needs `num_frames`; of others, None stands for all that there are.
    """
    if not isinstance(part, Video):
        return None
    if part.frame_files is not None and (part.start_s, part.end_s) == (0.0, None):
        count = len(part.frame_files.paths)
        return count if num_frames is None else min(num_frames, count)
    return len(look(part, "pixels", num_frames=num_frames, keep_pixels=False).times_s)


def check(part: Image | Video | Page, limits: Limits | None = None) -> None:
    """Check that a part can be decoded. Raises MediaError, naming the file."""
    look(part, "pixels", num_frames=NUM_CHECKED_FRAMES, limits=limits, keep_pixels=False)
