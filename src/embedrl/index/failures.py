"""Persistent record of files and pages that could not be indexed."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_serializer

from embedrl.data.records import Records
from embedrl.index.index import Index
from embedrl.index.row import Stamp, place_id, shown
from embedrl.media.kinds import readable
from embedrl.media.store import Limits

_FILE = "failures.jsonl"


class Failure(BaseModel):
    """A file or page that could not be indexed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path
    """Relative to the folder that holds the index, if it lies in there; else absolute."""
    page: int | None = None
    """1-based page number, if only that page failed."""
    unit: int | None = None
    """1-based number of the scene or passage, if only that one failed; 0: all of a video, beside its scenes."""
    reason: str
    """Message, without a redundant path."""
    stamp: Stamp | None = None
    """Stamp of the file at that time; None if it could not be read at all."""
    limits: str = ""
    """Hash of the limits and the readable kinds it was read with; others cause a retry."""

    @field_serializer("path", when_used="json")
    def _readable(self, path: Path) -> str:
        return shown(path)

    @property
    def id(self) -> str:
        """Id of the place."""
        return place_id(self.path, self.page, self.unit)


def limits_hash(limits: Limits, formats: Iterable[str]) -> str:
    """Return a short hash of limits, and of the kinds that an installation with the packages of these formats reads."""
    return hashlib.sha256(f"{limits.model_dump_json()} {readable(formats)}".encode()).hexdigest()[:12]


def open_failures(index: Index) -> Records:
    """Open the record of failures of an index, by place id."""
    return Records(index.directory / _FILE)


def list_failures(index: Index) -> list[Failure]:
    """Return the failures of files that still exist, by path and page."""
    records = open_failures(index)
    try:
        return in_order(read_failures(records).values())
    finally:
        records.close()


def read_failures(records: Records) -> dict[str, Failure]:
    """Read all failures, by place id."""
    values = ((key, records.get(key)) for key in records)
    return {key: Failure.model_validate({**value, "path": Path(value["path"])}) for key, value in values}


def keep_failures(records: Records, failures: Iterable[Failure]) -> None:
    """Write failures, in one batch."""
    records.put_many({failure.id: {**failure.model_dump(mode="json"), "path": str(failure.path)} for failure in failures})


def in_order(failures: Iterable[Failure]) -> list[Failure]:
    """Sort failures by path and page."""
    return sorted(failures, key=lambda failure: (os.fsencode(failure.path), failure.page or 0, failure.unit or 0))
