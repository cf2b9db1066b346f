"""Files of rows: opened as they are, or unpacked from gzip, which is told by the first bytes; and what they are named after."""

import gzip
import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from embedrl.errors import ConfigError, cause

PACKED_SUFFIX = ".gz"
_MAGIC = b"\x1f\x8b"
"""How gzip begins (RFC 1952, §2.3.1); no JSON in UTF-8 does."""


def required_file(path: Path) -> Path:
    """Return the path of a data file. Raises ConfigError if it does not exist."""
    if not path.is_file():
        raise ConfigError(f"{str(path)!r}: there is no such file; give the path of the data file")
    return path


@contextmanager
def open_rows(path: Path) -> Generator[BinaryIO | gzip.GzipFile]:
    """Open a file of rows for reading its bytes in pieces, a packed one as what it packs (a `gzip.GzipFile`).

    Raises ConfigError if it is missing, cannot be read, or is damaged where it is read.
    """
    try:
        with required_file(path).open("rb") as file:
            is_packed = file.read(len(_MAGIC)) == _MAGIC
            file.seek(0)
            if not is_packed:
                yield file
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigError(f"{str(path)!r}: the gzip file is damaged or cut short ({error}); copy or download it again") from error
    except OSError as error:
        raise ConfigError(f"{str(path)!r}: cannot be read {cause(error)}") from error


def stem_of(path: Path) -> str:
    """Return the name of a data file without its suffixes ("pairs" of "pairs.jsonl.gz")."""
    return path.with_name(path.name.removesuffix(PACKED_SUFFIX)).stem


def task_name(path: Path) -> str:
    """Return what a data file is about: its name, or its folder's if it is a shard ("original-00000-of-00001.parquet")."""
    stem = stem_of(path)
    return path.resolve().parent.name if re.search(r"-\d+-of-\d+$", stem) else stem
