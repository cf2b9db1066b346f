"""What may be shown: files that really lie under the indexed folders. A link that leads out of them leads nowhere."""

import os
from collections.abc import Sequence
from pathlib import Path

from embedrl.index.row import Place, Stamp, shown

UPLOADS = "embedrl-uploads"
"""Folder under the first root that uploads are kept in."""


class AllowedFolders:
    """The folders that are served."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(Path(os.path.realpath(folder)) for folder in folders)

    @property
    def uploads(self) -> Path:
        """Where uploads are kept."""
        return self.folders[0] / UPLOADS

    def real(self, path: Path) -> Path | None:
        """Return the file behind a path if it lies under a root, links resolved; else None."""
        real = Path(os.path.realpath(path))
        return real if any(real.is_relative_to(folder) for folder in self.folders) else None

    def unchanged(self, path: Path, place: Place) -> Path | None:
        """Return the file of a place if it is the one that was indexed; else None."""
        real = self.real(path)
        try:
            status = real.stat() if real else None
        except OSError:
            return None
        if status is None or Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns) != place.stamp:
            return None
        return real

    def shown(self, path: Path) -> str:
        """Return a path as it is shown: relative to its root, with the root's name if that is not the first."""
        for number, folder in enumerate(self.folders):
            if path.is_relative_to(folder):
                return shown(path.relative_to(folder if number == 0 else folder.parent))
        return shown(Path(path.name))

    def is_upload(self, path: Path) -> bool:
        """Say whether a path is that of an upload."""
        return path.parent == self.uploads

    def without_paths(self, text: str) -> str:
        """Return a message with the folders of this machine taken out."""
        for folder in self.folders:
            text = text.replace(f"{shown(folder)}{os.sep}", "").replace(shown(folder), "the library")
        return text
