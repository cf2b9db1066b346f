"""The folder of a local table: on the disk after each commit, known again when it was made anew, and back at its last whole version.

LanceDB renames its files into place and leaves the rest to the file system, so a power cut may leave the newest of them empty or
zeroed. What a write has returned from is synced here; a newest version that is damaged all the same is set aside, and said.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from embedrl import log
from embedrl.data.records import sync_folder
from embedrl.media.store import status_of

_MAGIC = b"LANC"
"""Footer magic of Lance files."""
_SET_ASIDE = ".damaged"


class TableFolder:
    """A folder NAME.lance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._synced: set[tuple[str, int]] | None = None

    @property
    def identity(self) -> tuple[int, ...] | None:
        """What differs once the folder was deleted and made anew; None while there is none."""
        try:
            status = self.path.stat()
            return (status.st_dev, status.st_ino, status.st_ctime_ns) if (self.path / "_versions").is_dir() else None
        except OSError:
            return None

    def begin(self) -> None:
        """Note what is there before a commit: it was synced by whoever wrote it."""
        if self._synced is None:
            self._synced = set(self._files())

    def sync(self) -> None:
        """Fsync the files of a commit and their folders. Raises OSError."""
        now = set(self._files())
        fresh = now - (self._synced or set())
        for name, _ in fresh:
            try:
                fd = os.open(name, os.O_RDONLY)
            except FileNotFoundError:
                continue  # replaced already
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        for folder in sorted({os.path.dirname(name) for name, _ in fresh} | ({str(self.path), str(self.path.parent)} if fresh else set())):
            sync_folder(Path(folder))
        self._synced = now

    def fall_back(self) -> bool:
        """Set the newest version aside if its manifest is damaged and an older one is not; say whether that was done."""
        manifests = self._manifests()
        if not manifests or is_whole(manifests[0]) or not any(map(is_whole, manifests[1:])):
            return False
        return self._set_aside(manifests[:1])

    def damaged_files(self) -> list[Path]:
        """Return the truncated files."""
        return [path for name, _ in self._files() if (path := Path(name)).suffix in (".lance", ".manifest") and not is_whole(path)]

    def set_aside_after(self, version: int) -> bool:
        """Set aside all versions after one that is whole; say whether that was done."""
        return self._set_aside([path for path in self._manifests() if _version(path) > version])

    def _set_aside(self, manifests: list[Path]) -> bool:
        try:
            for path in manifests:
                path.rename(path.with_name(path.name + _SET_ASIDE))
        except OSError:
            return False  # nothing can be written here: the damage is reported as it is
        log.warn(
            f"{str(self.path)!r}: the newest {len(manifests)} versions are damaged (as a power cut leaves them) and were set aside; "
            "run `embedrl index` again to bring the index up to date"
        )
        return bool(manifests)

    def _manifests(self) -> list[Path]:
        """Return the versions, newest first."""
        return sorted((self.path / "_versions").glob("[0-9]*.manifest"), key=_version, reverse=True)

    def _files(self) -> Iterator[tuple[str, int]]:
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = os.path.join(folder, name)
                if status := status_of(path):
                    yield path, status.st_ino


def is_whole(path: Path) -> bool:
    """Return whether a Lance file is complete."""
    try:
        with path.open("rb") as file:
            file.seek(-min(len(_MAGIC), path.stat().st_size), os.SEEK_END)
            return file.read() == _MAGIC
    except OSError:
        return False


def _version(manifest: Path) -> int:
    number = int(manifest.stem)
    return number if number < 2**63 else 2**64 - 1 - number  # newer tables count down, so that names sort newest first
