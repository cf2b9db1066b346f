"""Which items of an index a search may return: by place, by date of the file, and by words that must occur."""

from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.index.index import Index
from embedrl.index.row import shown

MAX_WORDS = 16


class Where(BaseModel):
    """Conditions that all hold for an item that may be found; an item that lies in several places needs one where they do."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str = Field(default="", max_length=1000)
    """A folder of the library (`trips/2024`), or a pattern (`*.pdf`, `trips/*/b*.jpg`) whose `*` matches across folders."""
    since_s: float | None = Field(default=None, allow_inf_nan=False)
    """The file was changed at this time or later, seconds since 1970."""
    until_s: float | None = Field(default=None, allow_inf_nan=False)
    """The file was changed before this time, seconds since 1970."""
    words: tuple[str, ...] = Field(default=(), max_length=MAX_WORDS)
    """Each occurs exactly, whatever the case, in the file's name, the item's own text, or its answer."""

    @model_validator(mode="after")
    def _in_order(self) -> "Where":
        if self.since_s is not None and self.until_s is not None and self.since_s >= self.until_s:
            raise ValueError(f"since_s={self.since_s}, until_s={self.until_s}: give an earlier time first")
        return self

    def __bool__(self) -> bool:
        return bool(self.path.strip() or self.words or self.since_s is not None or self.until_s is not None)


def matching_keys(index: Index, where: Where | None) -> set[str] | None:
    """Return the keys of the items that may be found; None for all. Looks at every row once."""
    if not where:
        return None
    pattern = where.path.strip().strip("/")
    earliest, latest = (None if time_s is None else round(time_s * 1e9) for time_s in (where.since_s, where.until_s))
    return {
        place.key
        for place in index.select([word for word in where.words if word.strip()])
        if (earliest is None or place.stamp.mtime_ns >= earliest)
        and (latest is None or place.stamp.mtime_ns < latest)
        and (not pattern or _lies_in(place.path, pattern))
    }


def _lies_in(path: Path, pattern: str) -> bool:
    name = shown(path)
    return name == pattern or name.startswith(f"{pattern}/") or fnmatchcase(name, pattern)
