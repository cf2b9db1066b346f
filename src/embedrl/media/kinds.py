"""Tables of supported media kinds, of unsupported file kinds with their remedies, and of names that are not indexed."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Literal, NamedTuple

MediaKind = Literal["image", "video", "page", "text"]


class Medium(NamedTuple):
    """One kind of medium; its decoder is in `media.decoder`, its typed part in `media.content`."""

    noun: str
    """Noun of a file, in messages."""
    word: str
    """As instructions call it: "Describe the clip."."""
    suffixes: tuple[str, ...]
    """File suffixes."""
    saved_as: str
    """Suffix of files written from memory."""


_VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".3gp", ".3g2", ".f4v", ".flv", ".wmv", ".asf"),
    *(".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".dv", ".mxf", ".ogv", ".ogm", ".rm", ".rmvb"),
)
MEDIA: dict[MediaKind, Medium] = {
    "image": Medium(
        "an image",
        "picture",
        (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff", ".heic", ".heif", ".hif"),
        saved_as=".png",
    ),
    "video": Medium("a video", "clip", _VIDEO_SUFFIXES, saved_as=".mp4"),
    "page": Medium("a PDF", "page", (".pdf",), saved_as=".pdf"),
    "text": Medium("a text", "text", (".txt", ".md", ".markdown", ".csv", ".tsv", ".log"), saved_as=".txt"),
}

SHARED_VIDEO_SUFFIXES = (".ts", ".mod", ".tod", ".dat")
"""Suffixes of videos that other files have too (TypeScript, music, data): these files are known by their content alone."""
AUDIO = (".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".m4b", ".aac", ".wma")
"""Suffixes of audio files: of one, what is said in it is indexed, as passages with times."""
SKIPPED_NAMES = (
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "node_modules",
    "__pycache__",
    "Thumbs.db",
    "~$*",
    "*.aae",
    "*.eps",
    "*.ini",
    "*.pbm",
    "*.pgm",
    "*.ppm",
    "*.svg",
    "*.xmp",
    "*.xpm",
)
"""Default exclusions: thumbnails, locks and metadata of other programs, trash, vector drawings."""
NO_MEDIA = ".nomedia"
"""Marker file of a folder that is not indexed."""


class Unread(NamedTuple):
    """An unsupported kind of image, video or document file."""

    noun: str
    remedy: str


_PHOTO, RAW = Unread("a photo", "JPEG"), Unread("a camera's raw photo", "JPEG")
_VIDEO, _DOCUMENT = Unread("a video", "MP4 (H.264)"), Unread("a document", "PDF")
UNREAD: dict[str, Unread] = {
    **dict.fromkeys((".jxl", ".jp2", ".j2k", ".jpx", ".psd", ".xcf"), _PHOTO),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), RAW),
    **dict.fromkeys((".nut", ".ivf", ".y4m", ".amv", ".swf", ".bik", ".wtv", ".evo"), _VIDEO),
    **dict.fromkeys((".doc", ".ppt", ".xls", ".mobi", ".azw3", ".djvu", ".xps", ".msg"), _DOCUMENT),
    ".ole": Unread("an Office file or another of its container", "PDF"),
}
"""By suffix."""
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""First bytes of old Office files, and of new ones that a password protects."""
OFFICE_SUFFIXES = (".docx", ".docm", ".pptx", ".pptm", ".xlsx", ".xlsm")
_BRANDS = {b"crx ": ".cr3", b"jxl ": ".jxl", b"jp2 ": ".jp2"}
_MAGIC = (
    (0, b"nut/multimedia container", ".nut"),
    (0, b"DKIF\0\0", ".ivf"),
    (0, b"YUV4MPEG2", ".y4m"),
    (0, b"\xff\x0a", ".jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", ".jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", ".jp2"),
    (0, b"8BPS", ".psd"),
    (0, OLE, ".ole"),
    (8, b"CR\x02\0", ".cr2"),
)


class Package(NamedTuple):
    """An optional package that reads a format."""

    noun: str
    name: str
    module: str
    extra: str
    """The extra of ours that brings it."""
    suffixes: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return find_spec(self.module) is not None

    @property
    def missing(self) -> str:
        """What is wrong with a file where the package is missing, and what to do."""
        return f"is {self.noun}, which needs the package {self.name}: pip install 'embedrl[{self.extra}]', then run this again"


PACKAGES = {
    "HEIF": Package("a HEIF photo", "pillow-heif", "pillow_heif", "media", (".heic", ".heif", ".hif")),
    "DOCX": Package("a Word document", "mammoth", "mammoth", "documents", (".docx", ".docm", ".dotx")),
    "PPTX": Package("a PowerPoint document", "python-pptx", "pptx", "documents", (".pptx", ".pptm", ".ppsx", ".potx")),
    "XLSX": Package("an Excel document", "openpyxl", "openpyxl", "documents", (".xlsx", ".xlsm", ".xltx")),
}
"""By format."""


def is_unread(suffix: str) -> bool:
    """Return whether files of this suffix are of an unsupported kind, or of one whose package is not installed."""
    return suffix in UNREAD or any(suffix in package.suffixes and not package.is_installed for package in PACKAGES.values())


def installed() -> tuple[str, ...]:
    """Return the formats of `PACKAGES` whose package is installed."""
    return tuple(name for name, package in PACKAGES.items() if package.is_installed)


def readable(formats: Iterable[str]) -> str:
    """Return a string that changes whenever other kinds of files can be read: by another version, or with packages of other formats."""
    return " ".join([*sorted(UNREAD), *formats])


def unread_kind(suffix: str, head: bytes) -> str | None:
    """Return the unsupported kind of a file, by its first bytes or else its suffix: a key of `UNREAD`, or None."""
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return _BRANDS[head[8:12]]
    named = suffix.lower() if suffix.lower() in UNREAD else None
    return named or next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), None)


def skipped_by(name: str, patterns: tuple[str, ...]) -> str | None:
    """Return the pattern that excludes a file or folder name, ignoring case; None if none does."""
    return next((pattern for pattern in patterns if fnmatchcase(name.casefold(), pattern.casefold())), None)
