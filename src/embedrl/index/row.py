"""Row schema of the index: one file, or one unit of it: a page, a scene, a passage."""

import hashlib
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from embedrl.errors import MediaError, cause
from embedrl.media.kinds import MEDIA, MediaKind
from embedrl.media.metadata import Source

Modality = MediaKind
MODALITIES: tuple[Modality, ...] = tuple(MEDIA)

Vectors = Literal["plain", "tcot"]
"""Which of a row's two vectors is meant: that of the item alone, or that of the item with its T-CoT."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)


def place_id(path: Path, page: int | None, unit: int | None = None) -> str:
    """Return the hash (32 hex digits) that names a place in an index."""
    within = str(page or "") if unit is None else f"{page or ''}\0{unit}"
    return hashlib.sha256(os.fsencode(path) + b"\0" + within.encode()).hexdigest()[:32]


def shown(path: Path) -> str:
    """Return a path as text; bytes of a name that are no Unicode become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")


_MAX_NS = 2**63 - 1
"""Nanoseconds since 1970 that the table's column holds: up to the year 2262."""


class Stamp(_Row):
    """What tells whether a file changed without reading it."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Return the stamp of a file. Raises MediaError if it cannot be read."""
        try:
            status = path.stat()
        except OSError as error:
            raise MediaError(f"{str(path)!r}: cannot be read {cause(error)}") from error
        return cls.of_status(status)

    @classmethod
    def of_status(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file's status; a date that 64 bits of nanoseconds do not hold is the last that they do."""
        return cls(size=status.st_size, mtime_ns=max(-_MAX_NS, min(status.st_mtime_ns, _MAX_NS)))


class Place(_Row):
    """Where an item lies, and as what it was indexed: the part of a row that an incremental run needs in memory."""

    id: str
    key: str
    """Key of the Item; places with the same content share it."""
    path: Path
    """Relative to the folder that holds the index, if it lies in there; else absolute."""
    page: int | None = None
    """1-based page number of a document."""
    unit: int | None = None
    """1-based number of a scene or a passage; 0: all of a video, beside its scenes; None: all of a file, or a page."""
    num_places: int = 1
    """How many places the file makes: pages of a document, scenes and the whole of a video, passages of a text."""
    split: str | None = None
    """How the file was divided: the fingerprint of a `Splitting`; None before there was one."""
    start_char: int | None = None
    end_char: int | None = None
    """Span of a passage, in characters of the text as it is read."""
    start_byte: int | None = None
    end_byte: int | None = None
    """Span of a passage, in bytes of the file; None where the text is not kept as UTF-8."""
    captured_s: float | None = None
    """When the file was taken, seconds since 1970; None if nothing says it but its mtime."""
    captured_from: Source | None = None
    """What says so: a sidecar, EXIF, QuickTime, XMP, PDF, the name."""
    camera: str = ""
    latitude: float | None = None
    longitude: float | None = None
    """Where it was taken, degrees (WGS 84)."""
    about: str = ""
    """Title, description and keywords of the file."""
    sidecars: str = ""
    """What tells whether the file's sidecars changed."""
    readers: str = ""
    """How the words in it are read: the medium and what its readers' output depends on (`WordReader.noted`)."""
    medium: str = ""
    """Key of the item without the words that were read in it; "" where none were."""
    stamp: Stamp
    reasoner: str = ""
    """Name of the Reasoner that was asked; empty if none was."""

    @property
    def taken_s(self) -> float:
        """When it was taken, or else changed, seconds since 1970."""
        return self.stamp.mtime_ns / 1e9 if self.captured_s is None else self.captured_s

    @property
    def position(self) -> tuple[bytes, int, int]:
        """What places are sorted by: the path, then the page, the scene or the passage."""
        return os.fsencode(self.path), self.page or 0, self.unit or 0


class Row(_Row):
    """One row of the table."""

    place: Place
    modality: Modality
    plain: np.ndarray
    """float32 (dim,), unit length: the item alone."""
    tcot: np.ndarray
    """float32 (dim,), unit length: the item with its T-CoT; equal to `plain` where there is none."""
    tcot_text: str | None = None
    """The T-CoT as rendered, or None."""
    tcot_failure: str | None = None
    """Why there is no T-CoT although a Reasoner was asked."""
    answer: str = ""
    verification: str | None = None
    """`Verification` as JSON."""
    text: str = ""
    """The item's own text: of a text file, a passage or a page; words that were read in a medium."""
    segments: str = ""
    """The words that were read in it, with times or boxes: `write_segments`."""
    start_s: float | None = None
    end_s: float | None = None
    """Time span of a video or a scene, seconds."""
    frame_times_s: tuple[float, ...] = ()
    """Times of the frames that evidence numbers count, seconds."""
    thumbnail: bytes = b""
    """JPEG, at most 256 pixels a side; empty for text."""
    embedder: str
    created_s: float
    """When the row was made, seconds since 1970."""


VECTOR_COLUMNS: dict[Vectors, str] = {"plain": "plain_vector", "tcot": "tcot_vector"}
ADDED_COLUMNS = (
    *("unit", "split", "start_char", "end_char", "start_byte", "end_byte"),
    *("captured_s", "captured_from", "latitude", "longitude"),
)
"""Columns that a table of a former version lacks; their values are then None."""
ADDED_TEXTS = ("camera", "about", "sidecars", "readers", "medium")
"""Further ones, which are "" there."""
ADDED_ROW_TEXTS = ("segments",)
"""Further ones that belong to a row, not to its place."""
ADDED = (*ADDED_COLUMNS, *ADDED_TEXTS, *ADDED_ROW_TEXTS)
PART_COLUMNS = ("page", "unit", "start_s", "end_s", "start_char", "end_char")
"""Columns of numbers that tell which part of its file an item is."""
_PLACE_FIELDS = ("id", "key", "page", "num_places", "reasoner")
PLACE_COLUMNS = [*_PLACE_FIELDS, "path", "size", "mtime_ns", *ADDED_COLUMNS, *ADDED_TEXTS]
_SAME_NAME = sorted(Row.model_fields.keys() - {"place", "plain", "tcot"})


def written_as(text: str, column: str) -> str:
    """Return a text as words are asked for in a column: composed (NFC); of a name, all but letters, their marks and digits are spaces."""
    text = unicodedata.normalize("NFC", text)
    if column != "name":
        return text
    parts = "".join(char if char.isalnum() or unicodedata.category(char).startswith("M") else " " for char in text)
    return " ".join(parts.split()) or text


def write_row(row: Row) -> dict[str, Any]:
    """Return a row as the columns of the table. Paths are bytes: a name need not be valid Unicode."""
    place = row.place
    return {
        **{name: getattr(row, name) for name in _SAME_NAME},
        **place.model_dump(include={*_PLACE_FIELDS, *ADDED_COLUMNS, *ADDED_TEXTS}),
        **place.stamp.model_dump(),
        "path": os.fsencode(place.path),
        "name": written_as(os.fsencode(place.path.name).decode("utf-8", "replace"), "name"),
        "text": written_as(row.text, "text"),
        "answer": written_as(row.answer, "answer"),
        "about": written_as(place.about, "about"),
        VECTOR_COLUMNS["plain"]: row.plain,
        VECTOR_COLUMNS["tcot"]: row.tcot,
    }


def read_place(record: Mapping[str, Any]) -> Place:
    """Read the columns `PLACE_COLUMNS`."""
    fields: dict[str, Any] = {name: record[name] for name in _PLACE_FIELDS}
    fields |= {name: record.get(name) for name in ADDED_COLUMNS} | {name: record.get(name) or "" for name in ADDED_TEXTS}
    return Place(path=Path(os.fsdecode(record["path"])), stamp=Stamp(size=record["size"], mtime_ns=record["mtime_ns"]), **fields)


def read_row(record: Mapping[str, Any]) -> Row:
    """Read the columns that `write_row` made."""
    vectors = {name: np.asarray(record[column], dtype=np.float32) for name, column in VECTOR_COLUMNS.items()}
    fields = {name: record[name] for name in _SAME_NAME if name not in ADDED_ROW_TEXTS}
    fields |= {name: record.get(name) or "" for name in ADDED_ROW_TEXTS}
    return Row(place=read_place(record), **vectors, **fields)
