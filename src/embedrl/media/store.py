"""Media files: kind by content, limits, and walking a folder.

Nothing here trusts a name. A file is opened once, without waiting (a FIFO would wait for ever), and must then prove to be a
regular file within the limits; its kind comes from its first bytes.
"""

import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedrl.errors import MediaError, cause
from embedrl.media.kinds import (
    AUDIO,
    MEDIA,
    NO_MEDIA,
    OFFICE_SUFFIXES,
    OLE,
    PACKAGES,
    RAW,
    SKIPPED_NAMES,
    UNREAD,
    MediaKind,
    skipped_by,
    unread_kind,
)
from embedrl.media.tracks import has_only_sound
from embedrl.media.video_formats import VideoFormat, format_by_magic, has_ogg_video

ImageFormat = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "HEIF"]


class Limits(BaseModel):
    """Decoding limits of one file. Larger files are refused with a MediaError, before decoding where the header tells."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_bytes: int = Field(default=16 * 1024**3, ge=1)
    """Size of a file, in bytes."""
    max_pixels: int = Field(default=250_000_000, ge=1)
    """Width times height of an image, a frame or a rendered page, as declared by the file."""
    max_kept_pixels: int = Field(default=16_000_000, ge=1)
    """Pixels kept of an image or frame; larger ones are scaled down by 2, 4, 8, … while loading."""
    max_frames: int = Field(default=200_000, ge=1)
    """Frames decoded to sample one video."""
    max_duration_s: float = Field(default=24 * 3600.0, gt=0)
    """Length of a video, in seconds."""
    max_pages: int = Field(default=10_000, ge=1)
    """Pages of a document, images of a file with several."""
    max_text_chars: int = Field(default=1_000_000, ge=1)
    """Characters of a text file, or of the text of a page."""
    decode_timeout_s: float = Field(default=60.0, gt=0)
    """Time for decoding one file or rendering one page, in seconds."""
    decode_memory_bytes: int = Field(default=1024**3, ge=64 * 1024**2)
    """Memory for decoding, of all files that are decoded at once, beside what the decoders themselves need, in bytes."""
    allow_tiff: bool = True
    """Decode TIFF too."""
    skip_names: tuple[str, ...] = SKIPPED_NAMES
    """Names of files and folders that are not indexed, whatever their case; `*`, `?` and `[…]` stand for others."""

    @property
    def part_s(self) -> float:
        """Time for one of the jobs in which a long film is decoded, in seconds; the next goes on where it ended."""
        return 0.4 * self.decode_timeout_s

    @property
    def image_formats(self) -> tuple[ImageFormat, ...]:
        """Supported image formats."""
        formats: tuple[ImageFormat, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "HEIF")
        return (*formats, "TIFF") if self.allow_tiff else formats


DEFAULT = Limits()
_in_force = DEFAULT


def limits_in_force() -> Limits:
    """Return this process's default limits."""
    return _in_force


def put_in_force(limits: Limits) -> None:
    """Set this process's default limits."""
    global _in_force
    _in_force = limits


def open_regular(path: Path, limits: Limits = DEFAULT) -> BinaryIO:
    """Open a regular, non-empty file within the byte limit; never waits. Raises MediaError for anything else."""
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 (the caller closes it)
    except (OSError, ValueError) as error:
        broken = path.is_symlink() and not path.exists() if isinstance(error, FileNotFoundError) else False
        reason = "is a link to nothing" if broken else f"cannot be read {cause(error) if isinstance(error, OSError) else f'({error})'}"
        raise MediaError(f"{str(path)!r}: {reason}") from error
    status = os.fstat(file.fileno())
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file (a folder, a device, a pipe or a socket)"
    elif status.st_size == 0:
        problem = "is empty (0 bytes)"
    elif status.st_size > limits.max_bytes:
        problem = f"has {status.st_size} bytes, more than max_bytes={limits.max_bytes}"
    if problem:
        file.close()
        raise MediaError(f"{str(path)!r}: {problem}")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a FIFO for reading blocks until someone writes; regular files ignore the flag (and Windows lacks it).
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


HEAD_BYTES = 4096
"""How much of a file tells its kind."""
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_STILL_BRANDS = (*_HEIF_BRANDS, b"avif", b"avis", b"crx ", b"jxl ", b"jp2 ")
_MOVIE_BRANDS = (b"iso", b"mp4", b"avc1", b"qt  ", b"M4V", b"3g")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_WRITTEN = re.compile(
    r"[\t\n\r\x20-\x7e\u00a0-\u024f\u0370-\u06ff\u0900-\u0e7f\u1e00-\u206f"
    r"\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef]"
)
"""Characters that texts are written in."""
_DATA_SUFFIXES = (".json", ".jsonl")
"""Text that was written for programs."""
_MP3_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]")
"""Start of an MPEG audio frame (ISO 11172-3, 2.4.1.3): sync, version, layer, bit rate."""
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ")


DocumentFormat = Literal["DOCX", "PPTX", "XLSX", "ODT", "ODS", "ODP", "EPUB", "RTF", "HTML", "EML", "MBOX"]
DOCUMENTS: dict[DocumentFormat, tuple[str, ...]] = {
    **{name: PACKAGES[name].suffixes for name in ("DOCX", "PPTX", "XLSX")},
    "ODT": (".odt", ".ott"),
    "ODS": (".ods", ".ots"),
    "ODP": (".odp", ".otp"),
    "EPUB": (".epub",),
    "RTF": (".rtf",),
    "HTML": (".html", ".htm", ".xhtml"),
    "EML": (".eml", ".mht", ".mhtml"),
    "MBOX": (".mbox", ".mbx"),
}
"""Documents that are converted to text, with their suffixes."""
_DOCUMENT_PARTS: tuple[tuple[bytes, DocumentFormat], ...] = (
    (b"mimetypeapplication/epub+zip", "EPUB"),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", "ODT"),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "ODS"),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", "ODP"),
    (b"word/document.xml", "DOCX"),
    (b"ppt/presentation.xml", "PPTX"),
    (b"xl/workbook.xml", "XLSX"),
)
_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html)[\s>]", re.I | re.S
)
_POSTMARK = re.compile(rb"From [^\n]*\d{4}[^\n]*\n>?")
_WRITTEN_AS_TEXT = ("RTF", "HTML", "EML", "MBOX")
_MAIL_START = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\r?\n(?:[ \t][^\n]*\r?\n)*)+")
_MAIL_HEADERS = re.compile(rb"^(from|received|return-path|date|subject|message-id|mime-version):", re.I | re.M)


def status_of(path: Path | str) -> os.stat_result | None:
    """Return the status of a file, links not followed; None if it is gone: others write and delete files while a folder is walked."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def document_format(suffix: str, head: bytes) -> DocumentFormat | None:
    """Return the format of a document that is converted to text, by the first 4 KiB and the suffix; None for anything else."""
    named = next((name for name, suffixes in DOCUMENTS.items() if suffix.lower() in suffixes), None)
    if head.startswith(b"PK\3\4"):
        return next((name for part, name in _DOCUMENT_PARTS if part in head), None if named in _WRITTEN_AS_TEXT else named)
    if head.startswith(b"{\\rtf"):
        return "RTF"
    if named == "RTF" or (suffix and named not in _WRITTEN_AS_TEXT) or not looks_textual(head):
        return None
    if named is None and _HTML_START.match(head):
        return "HTML"
    postmark = _POSTMARK.match(head) if named is None else None
    start = _MAIL_START.match(head, postmark.end() if postmark else 0) if named is None else None
    kinds = {name.lower() for name in _MAIL_HEADERS.findall(start[0])} if start else set()
    is_mail = len(kinds) >= 3 and kinds & {b"from", b"received", b"return-path"}
    return ("MBOX" if postmark else "EML") if is_mail else named


def media_kind(path: Path, limits: Limits = DEFAULT) -> MediaKind | None:
    """Return the media kind of a file by its first bytes; None for unsupported ones (archives, audio, unknown formats, JSON data …).

    A wrong name among media is forgiven (a JPEG called .png). Raises MediaError for a file that cannot be opened, for one whose name
    promises an image, a video or a PDF while its content is neither, and for a photo, video or document of a kind that is not read.
    """
    with open_regular(path, limits) as file:
        head = file.read(HEAD_BYTES)
    kind: MediaKind | None = "text" if (document := document_format(path.suffix, head)) else sniff(head, limits)
    package = PACKAGES.get(document or (still_format(head) if kind == "image" else None) or "")
    if package and not package.is_installed:
        raise MediaError(f"{str(path)!r}: {package.missing}")
    if kind is None and head.startswith(OLE) and path.suffix.lower() in OFFICE_SUFFIXES:
        raise MediaError(f"{str(path)!r}: is protected by a password, or an old binary document; save it without a password, or as PDF")
    if kind is None and (named := next((package for package in PACKAGES.values() if path.suffix.lower() in package.suffixes), None)):
        raise MediaError(f"{str(path)!r}: is named like {named.noun}, but holds no format we read; rename or convert it")
    if (unread := unread_kind(path.suffix, head)) and (kind is None or UNREAD[unread] is RAW):
        noun, remedy = UNREAD[unread]
        raise MediaError(f"{str(path)!r}: is {noun} of a kind that is not read ({unread}); convert it to {remedy}")
    promised = next((name for name, medium in MEDIA.items() if path.suffix.lower() in medium.suffixes), None)
    if promised and kind != promised and kind in (None, "text"):
        content = "plain text" if kind == "text" else "no format we read"
        raise MediaError(f"{str(path)!r}: is named like {MEDIA[promised].noun}, but holds {content}; rename or convert it")
    if kind in (None, "text") and path.suffix.lower() in AUDIO and audio_format(path.suffix, head) is None:
        raise MediaError(f"{str(path)!r}: is named like an audio file, but holds no format we read; rename or convert it")
    return None if kind == "text" and path.suffix.lower() in _DATA_SUFFIXES else kind


def sniff(head: bytes, limits: Limits = DEFAULT) -> MediaKind | None:
    """Return the media kind of a file's first 4 KiB (or all of a shorter file)."""
    if still_format(head) in limits.image_formats:
        return "image"
    if container_format(head):
        return "video"
    textual = looks_textual(head)
    if head.lstrip(b"\xef\xbb\xbf\0\t\n\f\r ").startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not textual):
        return "page"
    return "text" if textual else None


def still_format(head: bytes) -> ImageFormat | None:
    """Return the image format by the first bytes."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:2] == b"BM" and len(head) > 18 and head[6:10] == b"\0\0\0\0" and head[15:18] == b"\0\0\0":
        return "BMP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if (head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS) or holds_still(head):
        return "AVIF" if b"avif" in head[16:64] else "HEIF"
    return "TIFF" if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) else None


def holds_still(head: bytes) -> bool:
    """Return whether an ISO file of a rare or damaged brand is a still by its other brands, or its first items (ISO 23008-12, 6.2)."""
    if head[4:8] != b"ftyp" or head[8:12] in _STILL_BRANDS or head[8:12].startswith(_MOVIE_BRANDS):
        return False
    size = int.from_bytes(head[:4], "big")
    others = {head[at : at + 4] for at in range(16, min(size, 64), 4)}
    return bool(others & {*_HEIF_BRANDS, b"avif", b"avis"}) or head[size + 4 : size + 8] + head[size + 28 : size + 32] == b"metapict"


def container_format(head: bytes) -> VideoFormat | None:
    """Return the demuxer of a video container by the first 4 KiB; None for images and audio in the same container."""
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _STILL_BRANDS + _AUDIO_BRANDS or holds_still(head) else "mov"
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip") and not looks_textual(head):
        return "mov"
    demuxer = format_by_magic(head)
    return None if demuxer == "mpegts" and looks_textual(head) else demuxer  # lines of equal length may have a "G" every 188 bytes


AudioFormat = Literal["mov", "matroska", "asf", "flv", "mp3", "wav", "flac", "ogg", "aac"]


def audio_format(suffix: str, head: bytes) -> AudioFormat | None:
    """Return the demuxer of an audio file by its first bytes, and its suffix where these may be anything; None for other files."""
    suffix = suffix.lower()
    if head[4:8] == b"ftyp":
        return "mov" if head[8:12] in _AUDIO_BRANDS or (suffix in AUDIO and head[8:12] not in _STILL_BRANDS) else None
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"OggS"):
        return None if has_ogg_video(head) else "ogg"
    if suffix == ".wma" and format_by_magic(head) == "asf":
        return "asf"
    is_synced = len(head) > 1 and head[0] == 0xFF
    if suffix == ".aac" and is_synced and head[1] & 0xF6 == 0xF0:
        return "aac"
    if _has_id3(head):  # before other formats, too
        return "aac" if suffix == ".aac" else "flac" if suffix == ".flac" else "mp3"
    if suffix != ".mp3" or still_format(head) or looks_textual(head):
        return None
    return "mp3" if (is_synced and head[1] & 0xE0 == 0xE0) or _MP3_FRAME.search(head) else None  # other tags and padding may come first


def _has_id3(head: bytes) -> bool:
    """Return whether bytes begin with the header of an ID3v2 tag (id3.org, ID3v2.4 §3.1): a text may begin with its three letters."""
    return len(head) >= 10 and head.startswith(b"ID3") and head[3] in (2, 3, 4) and head[4] < 0xFF and max(head[6:10]) < 0x80


def is_audio(path: Path, limits: Limits = DEFAULT) -> bool:
    """Return whether a file is an audio file that we read, in a container of videos too. Raises MediaError if it cannot be opened."""
    with open_regular(path, limits) as file:
        return audio_demuxer(path.suffix, file) is not None


def audio_demuxer(suffix: str, file: BinaryIO) -> AudioFormat | None:
    """Return the demuxer of an open audio file, also of one that could hold a video and has sound alone; None for other files."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    container = container_format(head)
    if container in ("mov", "matroska", "asf", "flv"):
        return audio_format(suffix, head) or (container if has_only_sound(file, container) else None)
    return audio_format(suffix, head)


def looks_textual(data: bytes) -> bool:
    """Return whether bytes look like text: a byte order mark, almost no control characters, or UTF-16."""
    if data.startswith(b"\xef\xbb\xbf"):
        return True
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # of UTF-16, or of UTF-32, which looks like it
        text = data[: HEAD_BYTES & ~3].decode("utf-32" if data[2:4] == b"\0\0" else "utf-16", "replace")
        return is_written(text)
    return _has_few_controls(data) or wide_encoding(data) is not None


def is_written(text: str) -> bool:
    """Return whether a decoded text is one: almost nothing in it is damaged or a control character."""
    return sum(char == "\ufffd" or not (char.isprintable() or char.isspace()) for char in text) <= len(text) / 200


def _has_few_controls(data: bytes) -> bool:
    return len(data) - len(data.translate(None, _CONTROLS)) <= len(data) / 200


def wide_encoding(data: bytes) -> str | None:
    """Return the UTF-16 encoding of bytes without a byte order mark; None if they are not UTF-16."""
    if b"\0" not in data or _has_few_controls(data):  # a line end or a space would have one, and other characters others
        return None
    bare = data[:HEAD_BYTES].replace(b"\0", b"")
    if len(bare) > 0.8 * len(data[:HEAD_BYTES]) and bare.isascii() and _has_few_controls(bare):
        return None  # letters with a stray zero: as UTF-16 every pair would be an ideograph; Cyrillic has a control character in each
    for encoding in ("utf-16-le", "utf-16-be"):
        try:
            text = data[: HEAD_BYTES & ~1][: len(data) & ~1].decode(encoding)
        except UnicodeDecodeError:
            continue
        if len(_WRITTEN.findall(text)) >= 0.99 * len(text) and any(char.isspace() or char.isalnum() for char in text):
            return encoding
    return None


HIDDEN = "hidden"
"""What files and folders are counted as whose names begin with a dot, but for our own."""
_OURS = ".embedrl"


def walk(folder: Path, skip_names: tuple[str, ...] = (), skipped: Counter[str] | None = None) -> Iterator[tuple[Path, str | None]]:
    """Yield (file, None or the reason why it cannot be used) for every file below a folder, sorted within each folder.

    Hidden files and folders are skipped, and what `skip_names` match; `skipped` counts both. Links are followed, folders
    behind links last; no folder is entered twice. Raises MediaError if `folder` itself is not a folder.
    """
    if not folder.is_dir():
        raise MediaError(f"{str(folder)!r}: is not a folder")
    yield from _walk(folder, skip_names, Counter() if skipped is None else skipped)


def _walk(top: Path, skip_names: tuple[str, ...], skipped: Counter[str]) -> Iterator[tuple[Path, str | None]]:
    seen: set[tuple[int, int]] = set()
    pending, linked = [top], deque[Path]()
    while pending or linked:
        path = pending.pop() if pending else linked.popleft()
        if path != top and (pattern := skipped_by(path.name, skip_names)):
            skipped[pattern] += 1
            continue
        try:
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield path, None
            elif not stat.S_ISDIR(status.st_mode):
                yield path, "is not a regular file (a device, a pipe or a socket)"
            elif (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                children = sorted(path.iterdir(), reverse=True)
                if skip_names and path != top and any(child.name == NO_MEDIA for child in children):
                    skipped[NO_MEDIA] += 1
                    continue
                visible = [child for child in children if not child.name.startswith(".")]
                skipped.update(HIDDEN for child in children if child.name.startswith(".") and not child.name.startswith((_OURS, NO_MEDIA)))
                links = {child for child in visible if child.is_symlink() and child.is_dir()}
                linked.extend(sorted(links))
                pending.extend(child for child in visible if child not in links)
        except OSError as error:
            broken = path.is_symlink() and isinstance(error, FileNotFoundError)
            yield path, "is a link to nothing" if broken else f"cannot be read {cause(error)}"
