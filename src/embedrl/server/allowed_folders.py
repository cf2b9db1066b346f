"""Path containment: only files under the indexed folders are served.

A file is opened once, component by component without following links, and served from that descriptor, so a path that is
swapped in between has no effect.
"""

import os
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedrl.errors import StoreError, unwritable
from embedrl.index.row import shown

UPLOADS = "embedrl-uploads"
"""Folder under the first root that uploads are kept in."""


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class OpenFile:
    """A regular file under a root, opened for reading; its path may have been replaced since."""

    fd: int
    name: str
    status: os.stat_result
    real: Path

    def read(self, size: int, offset: int = 0) -> bytes:
        """Return bytes of the file. Raises OSError."""
        return os.pread(self.fd, size, offset)

    @property
    def path(self) -> Path:
        """A path by which another process of this user opens the same file; its name where the system has none."""
        own = Path(f"/proc/{os.getpid()}/fd/{self.fd}")
        return own if own.exists() else self.real

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


class AllowedFolders:
    """The folders that are served."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(os.path.realpath(folder)) for folder in folders)

    @property
    def uploads(self) -> Path:
        """Folder of uploads."""
        return self.folders[0] / UPLOADS

    def real(self, path: Path) -> Path | None:
        """Resolve a path; None if it leads outside the roots."""
        try:
            real = Path(os.path.realpath(path))
        except OSError:  # a link that went away while it was followed
            return None
        return real if any(real.is_relative_to(folder) for folder in self.folders) else None

    def inside(self, paths: Iterable[Path]) -> set[Path]:
        """Return the paths that resolve to a location under a root."""
        folders: dict[Path, bool] = {}

        def lies_inside(path: Path) -> bool:
            if path.is_symlink():
                return self.real(path) is not None
            if path.parent not in folders:
                folders[path.parent] = self.real(path.parent) is not None
            return folders[path.parent]

        return {path for path in paths if lies_inside(path)}

    def open(self, path: Path) -> OpenFile | None:
        """Open a path if it is a regular file under a root, else return None. The caller closes it."""
        real = self.real(path)
        root = next((folder for folder in self.folders if real is not None and real.is_relative_to(folder)), None)
        if real is None or root is None or real == root:
            return None
        *between, name = real.relative_to(root).parts
        try:
            fd = _descend(root, between)
            try:
                file = os.open(name, _FILE, dir_fd=fd)
            finally:
                os.close(fd)
        except OSError:
            return None
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            os.close(file)
            return None
        return OpenFile(file, path.name, status, real)

    @contextmanager
    def open_uploads(self, *, create: bool = False) -> Generator[int]:
        """Yield a descriptor of the folder of uploads. Raises StoreError if it is a link or cannot be created."""
        try:
            root = os.open(self.folders[0], _FOLDER)
            try:
                if create and not self.uploads.is_dir():
                    os.mkdir(UPLOADS, dir_fd=root)
                    os.fsync(root)
                fd = os.open(UPLOADS, _FOLDER, dir_fd=root)
            finally:
                os.close(root)
        except OSError as error:
            if self.uploads.is_symlink():
                raise StoreError(f"{UPLOADS!r}: is a link; make it a folder, so that uploads stay with the library") from error
            raise unwritable(self.uploads, error) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def shown(self, path: Path) -> str:
        """Return the display path: relative to its root, prefixed by the root's name unless it is the first."""
        for number, folder in enumerate(self.folders):
            if path.is_relative_to(folder):
                return shown(path.relative_to(folder if number == 0 else folder.parent))
        return shown(Path(path.name))

    def is_upload(self, path: Path) -> bool:
        """Return whether a path is in the folder of uploads."""
        return path.parent == self.uploads

    def without_paths(self, text: str) -> str:
        """Remove this machine's folders from a message."""
        for folder in self.folders:
            text = text.replace(f"{shown(folder)}{os.sep}", "").replace(shown(folder), "the library")
        return text


def _descend(root: Path, names: Sequence[str]) -> int:
    """Open a folder under a root without following links and return its descriptor. Raises OSError."""
    fd = os.open(root, _FOLDER)
    for name in names:
        try:
            below = os.open(name, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd
