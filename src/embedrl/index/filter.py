"""Which items of an index a search may return: by place, by date of the file, and by words that must occur."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.row import shown

MAX_WORDS = 16


class Filter(BaseModel):
    """Conditions that all hold for an item that may be found; an item that lies in several places needs one where they do."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str = Field(default="", max_length=1000)
    """A folder of the library (`trips/2024`), or a pattern (`*.pdf`, `trips/*/b*.jpg`) whose `*` matches across folders."""
    since_s: float | None = Field(default=None, allow_inf_nan=False)
    """The file was changed at this time or later, seconds since 1970."""
    until_s: float | None = Field(default=None, allow_inf_nan=False)
    """The file was changed before this time, seconds since 1970."""
    words: tuple[str, ...] = Field(default=(), max_length=MAX_WORDS)
    """Each occurs as a whole word, in any case, in the file's name, the item's own text, or its answer."""

    @model_validator(mode="after")
    def _in_order(self) -> "Filter":
        if self.since_s is not None and self.until_s is not None and self.since_s >= self.until_s:
            raise ValueError(f"since_s={self.since_s}, until_s={self.until_s}: give an earlier time first")
        return self

    def __bool__(self) -> bool:
        return self != Filter()


def matching_keys(index: Index, where: Filter | None, shown_as: Callable[[Path], str] = shown) -> set[str] | None:
    """Return the keys of the items that may be found; None for all.

    `shown_as` says how the path of a place is called where it is not as it is kept: an index beside its folder keeps whole paths.
    """
    if not where:
        return None
    pattern = os.path.normpath(where.path).strip("/") if where.path else "."
    earliest, latest = (None if time_s is None else round(time_s * 1e9) for time_s in (where.since_s, where.until_s))
    return {
        place.key
        for place in index.places(where.words)
        if (earliest is None or place.stamp.mtime_ns >= earliest)
        and (latest is None or place.stamp.mtime_ns < latest)
        and (pattern in ("", ".") or _lies_in(shown_as(place.path).lstrip("/"), pattern))
    }


def read_time(text: str, *, is_end: bool = False) -> float:
    """Return seconds since 1970 of an ISO date or time, UTC unless it says otherwise; a date as an end includes its day.

    Raises ConfigError for anything else.
    """
    try:
        if len(text) <= len("2024-05-01"):
            found = datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=is_end)
        else:
            found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{text[:40]!r}: give a date like 2024-05-01, or a time like 2024-05-01T12:30") from error


def _lies_in(path: str, pattern: str) -> bool:
    return path == pattern or path.startswith(f"{pattern}/") or fnmatchcase(path, pattern)
