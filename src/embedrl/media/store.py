"""Local files: what may be opened, what a file holds, how much of it is read. No file is trusted for its name.

Everything in this layer opens files through `open_file`, which refuses what is not a regular file (a pipe or a device
would hang or never end) and what is empty or too large.
"""

import codecs
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedrl.errors import MediaError

Kind = Literal["image", "video", "page", "text"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"})
PAGE_SUFFIXES = frozenset({".pdf"})
SNIFF_BYTES = 65_536
"""How much of a file is read to tell what it holds."""

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\x1b")


class Limits(BaseModel):
    """How much of a foreign file is accepted; whatever exceeds a limit is a MediaError that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_bytes: int = Field(default=4 * 1024**3, ge=1)
    """Largest file, in bytes."""
    max_pixels: int = Field(default=80_000_000, ge=1)
    """Largest picture or video frame, in pixels (width x height); read from the header, before decoding."""
    max_frames: int = Field(default=20_000, ge=1)
    """Most frames of one video that are decoded to reach the sampled ones."""
    max_duration_s: float = Field(default=6 * 3600.0, gt=0)
    """Longest video, in seconds."""
    max_pages: int = Field(default=2000, ge=1)
    """Most pages of a document."""
    max_text_chars: int = Field(default=1_000_000, ge=1)
    """Longest text file, in characters."""
    decode_timeout_s: float = Field(default=60.0, gt=0)
    """Longest decoding of one video, in seconds of wall clock."""
    allow_tiff: bool = False
    """Accept TIFF, whose decoder has the longest record of security holes."""


DEFAULT = Limits()


def open_file(path: Path, limits: Limits = DEFAULT) -> BinaryIO:
    """Open a regular, non-empty file within `max_bytes` for reading. Never blocks; raises MediaError naming the file."""
    try:
        reason = refusal(path.stat())
        if reason is None:
            # The file may have been swapped since: open without blocking, and look again at what was opened.
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
            opened = os.fstat(file.fileno())
            reason = refusal(opened) or _size_refusal(opened.st_size, limits)
            if reason is None:
                return file
            file.close()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MediaError(f"{str(path)!r}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    raise MediaError(f"{str(path)!r}: {reason}")


def refusal(status: os.stat_result) -> str | None:
    """Say why something with this stat is no file to read; None if it is a regular file."""
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    if stat.S_ISREG(status.st_mode):
        return None
    return f"is {names.get(stat.S_IFMT(status.st_mode), 'something else')}, not a regular file"


def _size_refusal(size: int, limits: Limits) -> str | None:
    if size == 0:
        return "is empty (0 bytes)"
    if size > limits.max_bytes:
        return f"has {size} bytes, more than max_bytes={limits.max_bytes}: raise the limit or make the file smaller"
    return None


def media_kind(path: Path, limits: Limits = DEFAULT) -> Kind | None:
    """Tell what a file holds from its first bytes; None for what is no supported medium.

    A picture of one format named like another is fine. A name that promises an image, a video or a document which the
    bytes do not keep is a MediaError, and so is a file that cannot be read.
    """
    with open_file(path, limits) as file:
        try:
            head = file.read(SNIFF_BYTES)
        except OSError as error:
            raise MediaError(f"{str(path)!r}: cannot be read ({error.strerror})") from error
    found = _sniff(head)
    promised = path.suffix.lower()
    if found in (None, "text") and promised in IMAGE_SUFFIXES | VIDEO_SUFFIXES | PAGE_SUFFIXES:
        holds = "plain text" if found == "text" else "no image, video or document that is supported"
        raise MediaError(f"{str(path)!r}: is named {promised!r} but holds {holds}: rename or re-export it")
    return found


def _sniff(head: bytes) -> Kind | None:
    if _is_image(head):
        return "image"
    if _is_video(head):
        return "video"
    if b"%PDF-" in head[:1024]:
        return "page"
    return "text" if text_encoding(head) else None


def _is_image(head: bytes) -> bool:
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES


def _is_video(head: bytes) -> bool:
    if head[4:8] in _MP4_BOXES and head[0] < 0x20:
        return not (head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS)
    if head.startswith((b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba")):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return True
    return len(head) > 376 and head[0] == head[188] == head[376] == 0x47 and b"\x00" in head[:376]


def text_encoding(data: bytes) -> str | None:
    """Name the encoding that text bytes are in; None for binary data. The end may be cut within a character."""
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in set(data)) or not data:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        # Western text has few high bytes; compressed or encrypted data has as many as low ones.
        return "latin-1" if sum(byte >= 0x80 for byte in data) <= 0.3 * len(data) else None
    return "utf-8"


def walk(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield every file under a folder in sorted order, with None, or with the reason why it cannot be used.

    Hidden files and folders are skipped. Links to files are followed, links to folders are reported and not followed, so
    no loop and no way out of the folder exists. Nothing is opened.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"cannot be listed ({error.strerror})"
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        try:
            status = entry.stat()
            if entry.is_dir(follow_symlinks=False):
                yield from walk(path)
            elif entry.is_dir():
                yield path, "is a link to a folder, which is not followed: give that folder itself"
            else:
                yield path, refusal(status)
        except OSError as error:
            yield path, "is a broken link" if entry.is_symlink() else f"cannot be read ({error.strerror})"
