"""Metadata filters for search: modality, path, modification date and words."""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from fnmatch import translate
from pathlib import Path
from typing import cast
from unicodedata import normalize

from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.row import MODALITIES, Modality, Place, shown
from embedrl.media.content import well_formed

MAX_WORDS = 16
MAX_PATH_CHARS = 1000
_EARTH_KM = 6371.0


class ConditionError(ConfigError):
    """A condition that cannot be read, or that no item can meet; `name` is the condition's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Metadata filter: an item is returned if all conditions hold for it, in at least one of the places (files) it lies in.

    Raises ConditionError.
    """

    modality: tuple[Modality, ...] | None = None
    """Modalities of the items; None for all."""
    path: str = ""
    """A folder of the library (`trips/2024`), or a pattern (`*.pdf`, `trips/*/b*.jpg`) whose `*` matches across folders."""
    since_s: float | None = None
    """Earliest time at which the file was taken, or else modified, seconds since 1970, inclusive."""
    until_s: float | None = None
    """Latest time at which the file was taken, or else modified, seconds since 1970, exclusive."""
    words: tuple[str, ...] = ()
    """All must occur as whole words, case ignored, in the file's name, title, keywords or camera, the item's text or its T-CoT's answer."""
    camera: str = ""
    """Each word occurs in the name of the camera, case ignored."""
    area: tuple[float, ...] | None = None
    """Where the file was taken, degrees: (latitude, longitude, distance in km), or a box (south, west, north, east)."""

    def __post_init__(self) -> None:
        for name, listed in (("modality", self.modality), ("words", self.words)):
            if isinstance(listed, str):  # else it would be one of letters
                raise ConditionError(name, f"{name}={listed!r}: give a tuple, as in {name}=({listed!r},)")
        object.__setattr__(self, "path", well_formed(self.path))  # as bytes of a name that are no Unicode are shown
        object.__setattr__(self, "words", tuple(map(well_formed, self.words)))  # half a character is in no item
        if self.modality is not None and (not self.modality or set(self.modality) - set(MODALITIES)):
            choices = ", ".join(MODALITIES)
            raise ConditionError("modality", f"modality={list(self.modality)!r}: choose from {choices}, or leave it out")
        for name, text in (("path", self.path), ("camera", self.camera)):
            if len(text) > MAX_PATH_CHARS:
                raise ConditionError(name, f"{name}={text[:40]!r}…: has {len(text)} characters; give at most {MAX_PATH_CHARS}")
        if self.path and os.path.normpath(self.path).split(os.sep)[0] == os.pardir:
            raise ConditionError("path", f"path={self.path!r}: leads out of the library; give a folder in it, or a pattern")
        if len(self.words) > MAX_WORDS:
            raise ConditionError("words", f"words: {len(self.words)} words; give at most {MAX_WORDS}")
        for name, time_s in (("since_s", self.since_s), ("until_s", self.until_s)):
            if time_s is not None and not math.isfinite(time_s):
                raise ConditionError(name, f"{name}={time_s}: give seconds since 1970")
        if self.since_s is not None and self.until_s is not None and self.since_s >= self.until_s:
            raise ConditionError("since", f"since_s={self.since_s:g}, until_s={self.until_s:g}: give the earlier time first")
        if self.area is not None:
            _check_area(self.area)

    @property
    def by_place(self) -> bool:
        """Whether a condition other than `modality` is set."""
        return bool(self.path or self.words or self.camera) or self.area is not None or self.since_s is not None or self.until_s is not None

    def matching(self, places: Iterable[Place], shown_as: Callable[[Path], str] = shown) -> Iterator[Place]:
        """Yield the places that meet the conditions on path, date, camera and area. `shown_as`: what a path is called."""
        folder = _written_alike(os.path.normpath(self.path).strip("/")) if self.path else ""
        pattern = re.compile(translate(folder))  # `fnmatch` would keep thousands of patterns
        earliest, latest = (None if time_s is None else round(time_s * 1e9) for time_s in (self.since_s, self.until_s))
        camera = self.camera.casefold().split()
        for place in places:
            is_there = self.area is None or _lies_within(place, self.area)
            if not is_there or not all(word in place.camera.casefold() for word in camera):
                continue
            taken = round(place.taken_s * 1e9) if place.captured_s is not None else place.stamp.mtime_ns
            in_time = (earliest is None or taken >= earliest) and (latest is None or taken < latest)
            if in_time and (folder in ("", ".") or _lies_in(_written_alike(shown_as(place.path).lstrip("/")), folder, pattern)):
                yield place


def matching_keys(index: Index, filter: Filter, shown_as: Callable[[Path], str] = shown) -> set[str] | None:
    """Return the keys of the items that meet the conditions on path, date and words; None if none of them is set."""
    if not filter.by_place:
        return None
    return {place.key for place in filter.matching(index.places(filter.words), shown_as)}


def read_filter(
    modality: Sequence[str] | None = None,
    under: str | None = None,
    since: str | None = None,
    until: str | None = None,
    words: str | None = None,
    camera: str | None = None,
    area: str | None = None,
    *,
    zone: tzinfo | None = UTC,
) -> Filter:
    """Read a filter from the words of a command or request; what is None or empty is no condition.

    Times without an offset are in `zone` (None: this machine's zone). Raises ConditionError.
    """
    try:
        since_s, until_s = (read_time(time, is_end=is_end, zone=zone) if time else None for time, is_end in ((since, False), (until, True)))
    except ConfigError as error:
        raise ConditionError("since", f"since, until: {error}") from error
    if since_s is not None and until_s is not None and since_s >= until_s:
        raise ConditionError("since", f"since={since}, until={until}: give the earlier time first")
    return Filter(
        modality=cast(tuple[Modality, ...], tuple(dict.fromkeys(modality))) if modality else None,
        path=under or "",
        since_s=since_s,
        until_s=until_s,
        words=tuple((words or "").split()),
        camera=camera or "",
        area=read_area(area) if area else None,
    )


def read_time(text: str, *, is_end: bool = False, zone: tzinfo | None = UTC) -> float:
    """Convert an ISO 8601 date or time to seconds since 1970; with `is_end`, a date includes its whole day.

    A time without an offset is in `zone` (None: this machine's zone). Raises ConfigError for anything else.
    """
    try:
        if len(text) > len("2024-05-01"):
            return _seconds(datetime.fromisoformat(text), zone)
        day = date.fromisoformat(text)
        if is_end and day == date.max:  # the day after it has no name
            return _seconds(datetime.combine(day, time.max), zone)
        return _seconds(datetime.combine(day + timedelta(days=is_end), time()), zone)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{text[:40]!r}: give a date like 2024-05-01, or a time like 2024-05-01T12:30") from error


def _seconds(moment: datetime, zone: tzinfo | None) -> float:
    if moment.tzinfo is not None:
        return moment.timestamp()
    try:
        return moment.replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):  # in the first and the last year of the calendar an offset may lead out of it
        return moment.replace(tzinfo=UTC).timestamp()


def read_area(text: str) -> tuple[float, ...]:
    """Read `LATITUDE,LONGITUDE,KM` or `SOUTH,WEST,NORTH,EAST`. Raises ConditionError for anything else."""
    try:
        area = tuple(float(part) for part in text.split(","))
    except ValueError:
        area = ()
    _check_area(area, text)
    return area


def _check_area(area: tuple[float, ...], text: str | None = None) -> None:
    """Raise ConditionError for what is neither a distance from a point nor a box on the globe."""
    box = area if len(area) == 4 else (area[0], area[1], area[0], area[1]) if len(area) == 3 and area[2] >= 0 else ()
    is_whole = all(math.isfinite(value) for value in area) and len(box) == 4
    if not is_whole or not (-90 <= box[0] <= box[2] <= 90 and -180 <= box[1] <= 180 and -180 <= box[3] <= 180):
        raise ConditionError(
            "area",
            f"area {text if text is not None else area!r}: give latitude,longitude,km such as 48.86,2.35,10, or a box "
            "south,west,north,east such as 48.8,2.2,48.9,2.5 (degrees: latitudes within 90, longitudes within 180)",
        )


def _lies_within(place: Place, area: tuple[float, ...]) -> bool:
    """Say whether a file was taken in an area; a box whose west is greater than its east crosses the 180th meridian."""
    if place.latitude is None or place.longitude is None:
        return False
    if len(area) == 4:
        south, west, north, east = area
        between = west <= place.longitude <= east if west <= east else place.longitude >= west or place.longitude <= east
        return south <= place.latitude <= north and between
    latitude, longitude, distance_km = area
    center, other = math.radians(latitude), math.radians(place.latitude)
    half = math.sin((other - center) / 2) ** 2
    half += math.cos(center) * math.cos(other) * math.sin(math.radians(place.longitude - longitude) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(min(1.0, math.sqrt(half))) <= distance_km


def _lies_in(path: str, folder: str, pattern: re.Pattern[str]) -> bool:
    return path == folder or path.startswith(f"{folder}/") or pattern.match(path) is not None


def _written_alike(path: str) -> str:
    """Return a path in composed form (NFC): some systems name files in the decomposed one."""
    return path if path.isascii() else normalize("NFC", path)
