"""Temporary folders of uploads; those of killed servers are removed at the next start."""

import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_NAME = re.compile(r"embedrl-upload-(\d+)-\w+")


@contextmanager
def scratch_folder() -> Generator[Path]:
    """Context manager of a temporary folder, named by its process."""
    with tempfile.TemporaryDirectory(prefix=f"embedrl-upload-{os.getpid()}-") as folder:
        yield Path(folder)


def sweep() -> None:
    """Delete the folders of dead processes."""
    for path in Path(tempfile.gettempdir()).glob("embedrl-upload-*"):
        owner = _NAME.fullmatch(path.name)
        try:
            if owner and not path.is_symlink() and path.stat().st_uid == os.getuid() and not _is_running(int(owner.group(1))):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
