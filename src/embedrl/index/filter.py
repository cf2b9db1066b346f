"""Metadata filters for search: modality, path, modification date and words."""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from fnmatch import translate
from pathlib import Path
from unicodedata import normalize

from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.row import MODALITIES, Modality, Place, shown

MAX_WORDS = 16
MAX_PATH_CHARS = 1000


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Metadata filter: an item is returned if all conditions hold for it, in at least one of the places (files) it lies in.

    Raises ConfigError for conditions that no item can meet.
    """

    modality: tuple[Modality, ...] | None = None
    """Modalities of the items; None for all."""
    path: str = ""
    """A folder of the library (`trips/2024`), or a pattern (`*.pdf`, `trips/*/b*.jpg`) whose `*` matches across folders."""
    since_s: float | None = None
    """Earliest modification time of the file, seconds since 1970, inclusive."""
    until_s: float | None = None
    """Latest modification time of the file, seconds since 1970, exclusive."""
    words: tuple[str, ...] = ()
    """All must occur as whole words, case ignored, in the file's name, the item's text or its T-CoT's answer."""

    def __post_init__(self) -> None:
        if self.modality is not None and (not self.modality or set(self.modality) - set(MODALITIES)):
            raise ConfigError(f"modality={list(self.modality)!r}: choose one or more of {', '.join(MODALITIES)}, or None for all")
        if len(self.path) > MAX_PATH_CHARS:
            raise ConfigError(f"path={self.path[:40]!r}…: has {len(self.path)} characters; give at most {MAX_PATH_CHARS}")
        if len(self.words) > MAX_WORDS:
            raise ConfigError(f"words: {len(self.words)} words; give at most {MAX_WORDS}")
        for name, time_s in (("since_s", self.since_s), ("until_s", self.until_s)):
            if time_s is not None and not math.isfinite(time_s):
                raise ConfigError(f"{name}={time_s}: give seconds since 1970")
        if self.since_s is not None and self.until_s is not None and self.since_s >= self.until_s:
            raise ConfigError(f"since_s={self.since_s:g}, until_s={self.until_s:g}: give the earlier time first")

    @property
    def by_place(self) -> bool:
        """Whether a condition other than `modality` is set."""
        return bool(self.path or self.words) or self.since_s is not None or self.until_s is not None

    def matching(self, places: Iterable[Place], shown_as: Callable[[Path], str] = shown) -> Iterator[Place]:
        """Yield the places that meet the conditions on path and date. `shown_as` maps a path to the name that `path` is matched with."""
        folder = _written_alike(os.path.normpath(self.path).strip("/")) if self.path else ""
        pattern = re.compile(translate(folder))  # `fnmatch` would keep thousands of patterns
        earliest, latest = (None if time_s is None else round(time_s * 1e9) for time_s in (self.since_s, self.until_s))
        for place in places:
            changed = place.stamp.mtime_ns
            in_time = (earliest is None or changed >= earliest) and (latest is None or changed < latest)
            if in_time and (folder in ("", ".") or _lies_in(_written_alike(shown_as(place.path).lstrip("/")), folder, pattern)):
                yield place


def matching_keys(index: Index, filter: Filter, shown_as: Callable[[Path], str] = shown) -> set[str] | None:
    """Return the keys of the items that meet the conditions on path, date and words; None if none of them is set."""
    if not filter.by_place:
        return None
    return {place.key for place in filter.matching(index.places(filter.words), shown_as)}


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


def _lies_in(path: str, folder: str, pattern: re.Pattern[str]) -> bool:
    return path == folder or path.startswith(f"{folder}/") or pattern.match(path) is not None


def _written_alike(path: str) -> str:
    """Return a path in composed form (NFC): some systems name files in the decomposed one."""
    return path if path.isascii() else normalize("NFC", path)
