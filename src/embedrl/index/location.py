"""Index location: its folder, and its table there or in object storage."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedrl.errors import ConfigError, StoreError, unwritable
from embedrl.files import expanded

INDEX_NAME = ".embedrl-index"
TABLE_NAME = "items"
CHECKSUMS = "checksums.jsonl"
_POINTER = "table.json"
_URI = re.compile(r"^([a-z0-9+.-]+)://[^/]+/.+$")
SCHEMES = ("s3", "gs", "az")
"""Object storage, by the schemes that LanceDB knows. Keys and endpoint come from the usual variables (AWS_ACCESS_KEY_ID, …)."""


class IndexLocation(BaseModel):
    """Where an index is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    directory: Path | None
    """`.embedrl-index` of a folder: what a writer keeps to itself (T-CoTs, failures, its lock). None: a table alone, to be read."""
    uri: str
    """Where the table lies: a directory, or object storage."""
    shelf: str = Field(default="", pattern=r"^[^/]*$")
    """Stands before every path of this folder in a table that several folders share."""

    @property
    def base(self) -> Path:
        """Paths of places are relative to this folder."""
        return self.directory.parent if self.directory else Path()

    @property
    def is_remote(self) -> bool:
        """Whether the table lies in object storage."""
        return is_remote(self.uri)

    @property
    def is_begun(self) -> bool:
        """Whether there may be an index: the folder has one, or the table lies in object storage. Nothing is opened."""
        return self.directory is None or self.directory.is_dir()

    def missing(self) -> StoreError:
        """Return the error that there is nothing to search here, with what to do."""
        if self.directory is None:
            return StoreError(f"{self.uri!r}: there is no index here; make one with `embedrl index FOLDER --table {self.uri}`")
        folder = str(self.base)
        if not self.base.is_dir():
            return StoreError(f"{folder!r}: there is no such folder")
        if self.is_remote:
            return StoreError(
                f"{folder!r}: there is no index here: its table should lie at {self.uri!r}; make it with `embedrl index {folder}`"
            )
        if not self.is_begun:
            return StoreError(f"{folder!r}: there is no index here; make one with `embedrl index {folder}`")
        table, checksums = Path(self.uri, f"{TABLE_NAME}.lance"), Path(self.uri, CHECKSUMS)
        if not table.exists() and checksums.is_file() and checksums.stat().st_size:
            return StoreError(
                f"{folder!r}: was indexed, but the table of its index is gone ({str(table)!r}); put it back, or make it again with "
                f"`embedrl index {folder}`"
            )
        return StoreError(
            f"{folder!r}: was indexed, but held nothing that can be searched; add images, videos, PDFs or texts, and run "
            f"`embedrl index {folder}` again"
        )

    def stored(self, path: Path) -> Path:
        """Return an absolute path as the table holds it: relative to the folder if it lies in there, after the shelf's name."""
        return self.shelf / path.relative_to(self.base) if path.is_relative_to(self.base) else path

    def locate(self, stored: Path) -> Path:
        """Return where the file of a place lies; for one of another folder, a path that is no file on any machine."""
        if not self.shelf or stored.is_absolute():
            return self.base / stored
        return self.base / stored.relative_to(self.shelf) if stored.is_relative_to(self.shelf) else os.devnull / stored


def clean_key(prefix: str) -> str:
    """Return an item's key, or the beginning of one, as the table has it. Raises ConfigError unless it is 6 to 64 hex digits."""
    prefix = prefix.strip().lower()
    if not 6 <= len(prefix) <= 64 or prefix.strip("0123456789abcdef"):
        raise ConfigError(f"key {prefix!r}: give an item's key, or at least its first 6 hex digits")
    return prefix


def is_remote(uri: str) -> bool:
    """Say whether this names object storage and no folder. Raises ConfigError for a scheme that is not known, or no path in a bucket."""
    if "://" not in uri:
        return False
    match = _URI.match(uri)
    if not match or match[1] not in SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigError(f"{uri!r}: give a folder, or a place in object storage such as s3://bucket/name (known: {schemes})")
    return True


def find_home(path: str | Path) -> IndexLocation:
    """Return the home of a folder's index (`path`, or its parent if it is named `.embedrl-index`), or of a table in object storage."""
    if is_remote(str(path)):
        return IndexLocation(directory=None, uri=str(path).rstrip("/"))
    folder = Path(os.path.realpath(expanded(path)))
    directory = folder if folder.name == INDEX_NAME else folder / INDEX_NAME
    pointer = directory / _POINTER
    try:
        return IndexLocation(directory=directory, **json.loads(pointer.read_text()))
    except FileNotFoundError:
        return IndexLocation(directory=directory, uri=str(directory))
    except NotADirectoryError as error:
        if folder.is_dir():
            raise StoreError(f"{str(directory)!r}: is a file, where the index would lie; move it away") from error
        raise ConfigError(f"{str(folder)!r}: is a file; give the folder that is indexed") from error
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise StoreError(
            f"{str(pointer)!r}: cannot be read; it should say where the table lies, as {{'uri': 's3://bucket/name'}}"
        ) from error


def save_location(home: IndexLocation) -> None:
    """Note in the folder where its table lies, in one step. Raises StoreError."""
    assert home.directory is not None
    pointer, fresh = home.directory / _POINTER, home.directory / f"{_POINTER}.new"
    try:
        home.directory.mkdir(parents=True, exist_ok=True)
        if home.uri == str(home.directory):
            pointer.unlink(missing_ok=True)
            return
        fresh.write_text(json.dumps({"uri": home.uri, "shelf": home.shelf}))
        os.replace(fresh, pointer)
    except OSError as error:
        raise unwritable(pointer, error) from error


LEADS_OUT = "leads out of the folders that are served"


def leads_out(path: Path, roots: Sequence[Path]) -> bool:
    """Say whether a path, links resolved, lies under none of some folders (whose links are resolved); with none, nothing is asked."""
    if not roots:
        return False
    try:
        real = Path(os.path.realpath(path))
    except OSError:  # a link that went away while it was followed
        return True
    return not any(real.is_relative_to(root) for root in roots)
