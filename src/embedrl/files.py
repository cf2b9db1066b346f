"""Small files: JSON that must be one object or list, and writing that leaves a whole file or none."""

import json
import os
from pathlib import Path
from typing import Any

from embedrl.errors import ConfigError, EmbedRLError, unwritable

_LFS = b"version https://git-lfs.github.com/spec/"


def read_json_file(path: Path, error: type[EmbedRLError], remedy: str, *, kind: type = dict) -> Any:
    """Read a JSON file that holds one object (or a list). Raises `error`, which names the file, what is wrong with it and the remedy."""
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{str(path)!r} cannot be read as JSON ({flaw(path) or reason}): {remedy}") from reason
    if not isinstance(value, kind):
        raise error(f"{str(path)!r} is no JSON {'object' if kind is dict else 'list'}: {remedy}")
    return value


def expanded(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced by home folders; of a user that does not exist, it stays as it is written.

    Raises ConfigError for "": as a path it would be the working folder, which nobody means by it.
    """
    if path == "":
        raise ConfigError("a path is empty (a variable that is not set?): give it a value; the working folder is '.'")
    return Path(os.path.expanduser(path))


def flaw(path: Path) -> str:
    """Return what is wrong with a file of this name (missing, empty, a Git LFS pointer), or ""."""
    if not path.is_file():
        return "is missing"
    if not path.stat().st_size:
        return "is empty"
    try:
        with path.open("rb") as file:
            return "is a Git LFS pointer" if file.read(len(_LFS)) == _LFS else ""
    except OSError as error:
        return str(error.strerror)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically, in a folder that is made if it is missing. Raises StoreError."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
