"""Typed content parts (text, image, video, page) and content keys.

A part names a file (`path`) or holds decoded pixels. Parts with the same bytes have the same key wherever they lie, so results
can be cached and joined by key alone.
"""

import hashlib
import math
import re
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from embedrl.errors import ConfigError, MediaError, cause

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Frames:
    """Decoded frames of one video, in order, with their timestamps in seconds."""

    images: tuple[PIL.Image.Image, ...]
    times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.images or len(self.images) != len(self.times_s):
            raise MediaError(f"{len(self.images)} frames with {len(self.times_s)} times: give one time per frame, at least one frame")

    def since(self, start_s: float) -> "Frames":
        """The same frames with timestamps counted from `start_s`, the start of a span: never negative."""
        return Frames(self.images, tuple(max(0.0, round(time_s - start_s, 6)) for time_s in self.times_s)) if start_s else self


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)


class FrameFiles(_Part):
    """Frames of a video as image files, in order, with their timestamps in seconds; decoded lazily."""

    paths: tuple[Path, ...]
    times_s: tuple[float, ...]

    @model_validator(mode="after")
    def _timed(self) -> "FrameFiles":
        if not self.paths or len(self.paths) != len(self.times_s):
            raise ConfigError(f"{len(self.paths)} frames with {len(self.times_s)} times: give one time per frame, at least one frame")
        return self


def well_formed(text: str) -> str:
    """Return text that UTF-8 can encode: surrogate pairs are joined, lone surrogates become U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Text(_Part):
    """A piece of text."""

    kind: Literal["text"] = "text"
    text: str

    @field_validator("text", mode="before")
    @classmethod
    def _writable(cls, text: object) -> object:
        return well_formed(text) if isinstance(text, str) else text


class Image(_Part):
    """An image: a file, one of several in a file, or pixels in memory."""

    kind: Literal["image"] = "image"
    path: Path | None = None
    number: int | None = Field(default=None, ge=1, exclude_if=lambda number: number is None)
    """1-based number of an image of a multi-image file (TIFF, HEIF); None: the main one."""
    pixels: PIL.Image.Image | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _one_source(self) -> "Image":
        return _require_one(self, self.path, self.pixels)


class Video(_Part):
    """A video or a span of one: a file, frame files, or frames in memory."""

    kind: Literal["video"] = "video"
    path: Path | None = None
    frame_files: FrameFiles | None = None
    frames: Frames | None = Field(default=None, exclude=True, repr=False)
    start_s: float = 0.0
    """Start of the span, in seconds."""
    end_s: float | None = None
    """End of the span, in seconds; None for the end of the video."""

    @model_validator(mode="after")
    def _one_source(self) -> "Video":
        if not math.isfinite(self.start_s) or not self.start_s <= (math.inf if self.end_s is None else self.end_s):
            raise ConfigError(f"start_s={self.start_s}, end_s={self.end_s}: a span ends behind its start; give seconds")
        return _require_one(self, self.path, self.frame_files, self.frames)


class Page(_Part):
    """One page of a document: a PDF file and a page number, or pixels in memory."""

    kind: Literal["page"] = "page"
    path: Path | None = None
    number: int = Field(default=1, ge=1)
    """1-based page number."""
    pixels: PIL.Image.Image | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _one_source(self) -> "Page":
        return _require_one(self, self.path, self.pixels)


P = TypeVar("P")
Part = Annotated[Text | Image | Video | Page, Field(discriminator="kind")]
Content = tuple[Part, ...]


def _require_one(part: P, *sources: object) -> P:
    if sum(source is not None for source in sources) != 1:
        raise ConfigError(f"{type(part).__name__}: give exactly one of a path and decoded pixels")
    return part


def part_files(part: Part) -> tuple[Path, ...]:
    """Return the files of a part; none for a text or pixels in memory."""
    if isinstance(part, Video) and part.frame_files is not None:
        return part.frame_files.paths
    return () if isinstance(part, Text) or part.path is None else (part.path,)


def map_images(part: Part, change: Callable[[PIL.Image.Image, int], PIL.Image.Image]) -> Part:
    """Return a part with its decoded image or frames changed: (image, its number among the frames); files and texts stay."""
    match part:
        case Image(pixels=PIL.Image.Image() as pixels):
            return Image(pixels=change(pixels, 0))
        case Page(pixels=PIL.Image.Image() as pixels):
            return Page(pixels=change(pixels, 0))
        case Video(frames=Frames() as frames):
            return Video(frames=replace(frames, images=tuple(change(image, number) for number, image in enumerate(frames.images))))
    return part


def content_key(content: Sequence[Part]) -> str:
    """Return the sha256 (hex) of the parts' file bytes or pixels; paths do not count."""
    digest = hashlib.sha256()
    for part in content:
        for field in _part_fields(part):
            digest.update(len(field).to_bytes(8, "big") + field)
    return digest.hexdigest()


def _part_fields(part: Part) -> list[bytes]:
    match part:
        case Text():
            return [b"text", part.text.encode("utf-8", "surrogatepass")]
        case Image():
            number = [] if part.number is None else [str(part.number).encode()]
            return [b"image", *number, _source(part.path, part.pixels)]
        case Page():
            return [b"page", str(part.number).encode(), _source(part.path, part.pixels)]
        case Video():
            span = f"{part.start_s}:{part.end_s}".encode()
            if part.path is not None:
                return [b"video", span, file_sha256(part.path)]
            if part.frame_files is not None:
                times = repr(part.frame_files.times_s).encode()
                return [b"frame files", span, times, *(file_sha256(path) for path in part.frame_files.paths)]
            assert part.frames is not None
            times = repr(part.frames.times_s).encode()
            return [b"video", span, times, *(_pixel_sha256(image) for image in part.frames.images)]


def _source(path: Path | None, pixels: PIL.Image.Image | None) -> bytes:
    if path is not None:
        return file_sha256(path)
    assert pixels is not None
    return _pixel_sha256(pixels)


def _pixel_sha256(image: PIL.Image.Image) -> bytes:
    # A palette image is its palette and its indices.
    palette = bytes(image.getpalette("RGBA") or ()) if image.mode in ("P", "PA") else b""
    return hashlib.sha256(f"{image.mode}{image.size}".encode() + palette + image.tobytes()).digest()


def file_sha256(path: Path) -> bytes:
    """Return the sha256 of a file's bytes, cached by path, size and mtime. Raises MediaError."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{str(path)!r}: cannot be read {cause(error)}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever, a device may have no end
        raise MediaError(f"{str(path)!r}: is not a regular file")
    return _file_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=65_536)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise MediaError(f"{str(path)!r}: cannot be read {cause(error)}") from error


def folder_fingerprint(folder: Path, suffixes: Sequence[str], *, without: Collection[str] = ()) -> str:
    """Return a fingerprint (12 hex digits) of a folder's files with one of these suffixes, but for those of some names."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes and path.name not in without:
            digest.update(path.name.encode() + b"\0" + file_sha256(path))
    return digest.hexdigest()[:12]
