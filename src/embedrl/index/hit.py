"""Search results, built from the rows of an index."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_serializer

from embedrl.data.evidence import Verification
from embedrl.data.segments import TextSegment, locate, matching, read_segments
from embedrl.data.tcot import TCoT, parse, tcot_or_none
from embedrl.index.exact import Neighbour
from embedrl.index.index import Index
from embedrl.index.row import Modality, Place, Row, shown
from embedrl.media.metadata import Source

EXCERPT_CHARS = 300


class OtherUnit(BaseModel):
    """Another page, scene or passage of the file of a hit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    score: float
    """Cosine to the query, -1..1."""
    page: int | None = None
    unit: int | None = None
    """1-based number of a scene or a passage; 0: all of a video."""
    start_s: float | None = None
    end_s: float | None = None
    """Time span, seconds."""
    start_char: int | None = None
    end_char: int | None = None
    """Span in characters."""


class HitFields(BaseModel):
    """What a Hit tells of an item wherever it is shown: in Python, on the command line and over HTTP."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    key: str
    score: float
    """Cosine to the query, -1..1: of the vectors with T-CoT, or of the plain ones if query or item has none; 0 without a query."""
    without_reasoning: bool = False
    """Whether a gate decided to answer the query without reasoning about it."""
    rerank_score: float | None = None
    """Score of the reranker; null where it was not asked, or could not score the item."""
    modality: Modality
    captured_s: float | None = None
    """When the file was taken, seconds since 1970; null if nothing says it but its mtime."""
    captured_from: Source | None = None
    """Source of that time: a sidecar, EXIF, QuickTime, XMP, PDF, the name."""
    camera: str = ""
    latitude: float | None = None
    longitude: float | None = None
    """Where it was taken, degrees (WGS 84)."""
    about: str = ""
    """Title, description and keywords of the file."""
    modified_s: float
    """Modification time of the file, seconds since 1970."""
    page: int | None = None
    """1-based page number of a document."""
    num_pages: int | None = None
    """Number of pages of the document."""
    unit: int | None = None
    """1-based number of the scene or passage; 0: all of a video that has scenes; null: a file that is not divided."""
    num_units: int | None = None
    """Number of scenes or passages of the file."""
    start_s: float | None = None
    end_s: float | None = None
    """Time span of a video or a scene, seconds."""
    start_char: int | None = None
    end_char: int | None = None
    """Span of a passage in characters of the text, whose line ends are one character each."""
    start_byte: int | None = None
    end_byte: int | None = None
    """Span of a passage in bytes of the file; null where it is not UTF-8."""
    other_units: tuple[OtherUnit, ...] = ()
    """Other pages, scenes or passages of the file, best first; some of them."""
    num_other_units: int = 0
    """Number of other units: among the 1,000 best, or of what passes the filter."""
    tcot_failure: str | None = None
    """Reason if the Reasoner was asked and gave no valid T-CoT."""
    excerpt: str = ""
    """Beginning of the item's text."""
    read: tuple[TextSegment, ...] = ()
    """Words read or heard in it (subtitles) that hold words of the query, at most 3."""
    shared: tuple[str, ...] = ()
    """Phrases that the query (its text or T-CoT; or the liked item) and the item's T-CoT share, in the order of the item's answer."""


class Hit(HitFields):
    """A search result: an item with its score, T-CoT and evidence.

    `Index.thumbnail(hit.key)` is its image, `Index.locate(hit.path)` its file.
    """

    model_config = ConfigDict(extra="forbid")

    path: Path
    """Relative to the indexed folder if inside it, else absolute."""
    other_paths: tuple[Path, ...] = ()
    """Other files with the same content."""
    tcot: TCoT | None = None
    verification: Verification | None = None
    """Validity of each piece of the T-CoT's evidence."""
    key_frame_times_s: tuple[float | None, ...] = ()
    """Timestamp of each key frame of the evidence, seconds; None for a frame that does not exist."""
    keyword_places: tuple[TextSegment | None, ...] = ()
    """For each keyword of the evidence, when it is said or where it stands, if it was read in the medium; else None."""
    answer: str = ""
    """The T-CoT's answer; empty without one."""

    @field_serializer("path", "other_paths", when_used="json")
    def _readable(self, value: Path | tuple[Path, ...]) -> str | list[str]:
        return [shown(path) for path in value] if isinstance(value, tuple) else shown(value)


_OF_PLACE = sorted(Place.model_fields.keys() & Hit.model_fields.keys())
"""What a Hit tells of its place, under the same name."""


@dataclass(frozen=True)
class Catalogue:
    """Where every item lies, as of one version of an index."""

    version: int
    places: Mapping[str, tuple[Place, ...]]
    """Places that may be shown, by key, each sorted by path and page."""
    barred: frozenset[str] = frozenset()
    """Keys of items of which no place may be shown."""

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Path of each item's first place that may be shown, by key."""
        return {key: os.fsencode(places[0].path) for key, places in self.places.items()}


@dataclass(frozen=True)
class View:
    """What a caller may see of an index, and what paths are called there; all of it, as it is kept, unless it says otherwise."""

    shown_as: Callable[[Path], str] = shown
    catalogue: Callable[[], Catalogue] | None = None
    """Returns what is there now."""


WHOLE = View()


def places_by_key(places: Iterable[Place]) -> dict[str, tuple[Place, ...]]:
    """Group places by the key of their item, each group sorted by path and page."""
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(place.key, []).append(place)
    return {key: tuple(sorted(group, key=lambda place: place.position)) for key, group in groups.items()}


def look_up(index: Index, neighbours: Sequence[Neighbour], catalogue: Catalogue | None = None, asked: str = "") -> tuple[Hit, ...]:
    """Return the Hits of these items; an item that another process removed meanwhile is left out.

    With a `catalogue`, only places that it names are shown. `asked` are the words of the query.
    """
    rows: dict[str, list[Row]] = {}
    served = None if catalogue is None else {place.id for near in neighbours for place in catalogue.places.get(near.key, ())}
    for row in index.rows([neighbour.key for neighbour in neighbours]):
        if served is None or row.place.id in served:
            rows.setdefault(row.place.key, []).append(row)
    return tuple(hit_of(neighbour.score, rows[neighbour.key], asked) for neighbour in neighbours if neighbour.key in rows)


def hit_of(score: float, rows: Sequence[Row], asked: str = "") -> Hit:
    """Make the Hit of an item from its rows, of which the first is shown, for a query of some words."""
    row = rows[0]
    segments = read_segments(row.segments)
    tcot = tcot_of(row)
    frames = row.frame_times_s
    numbers = tcot.evidence.key_frames if tcot else ()
    return Hit(
        **{name: getattr(row.place, name) for name in _OF_PLACE},
        score=score,
        other_paths=tuple(dict.fromkeys(other.place.path for other in rows[1:] if other.place.path != row.place.path)),
        modality=row.modality,
        modified_s=row.place.stamp.mtime_ns / 1e9,
        num_pages=row.place.num_places if row.place.page else None,
        num_units=None if row.place.unit is None else row.place.num_places - (row.modality == "video"),
        start_s=row.start_s,
        end_s=row.end_s,
        tcot=tcot,
        tcot_failure=row.tcot_failure,
        verification=Verification.model_validate_json(row.verification) if row.verification else None,
        key_frame_times_s=tuple(frames[number - 1] if 1 <= number <= len(frames) else None for number in numbers),
        keyword_places=tuple(locate(keyword, segments) for keyword in tcot.evidence.keywords) if tcot and segments else (),
        read=matching(segments, asked),
        answer=row.answer,
        excerpt=row.text[:EXCERPT_CHARS],
    )


def tcot_of(row: Row) -> TCoT | None:
    """Return the T-CoT of a row, None if it has none."""
    return tcot_or_none(parse(row.tcot_text)) if row.tcot_text else None
