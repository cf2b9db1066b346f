"""The exceptions of embedrl.

    EmbedRLError
    ├── ConfigError  (ValueError)    a recipe, option or argument is wrong; the message names the fix
    ├── MediaError   (ValueError)    an image, video, page or text file cannot be used
    ├── ModelError   (RuntimeError)  a model is missing, does not fit, or answered nonsense
    └── StoreError   (OSError)       an index, run folder or record file cannot be read or written

A caller who catches the stdlib cousin catches ours too. Errors are caught only at a boundary (a decoder, a network, a
model's output) and only to say which item broke; a broken item is recorded with its reason and never turned into a value.
"""

import errno
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "choose a file system that takes so large a file",
    errno.EROFS: "choose another place",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions, or choose another place"),
    errno.ENOENT: "make the missing folder, or correct the path",
    errno.ENOTDIR: "what should be a folder is a file: move it, or correct the path",
    errno.EISDIR: "it is a folder: give a file",
    errno.EEXIST: "move what stands there, or choose another place",
    errno.ENOTEMPTY: "empty the folder, or choose another place",
    errno.ENAMETOOLONG: "give a shorter one: most file systems take 255 bytes a name, and 4,096 a path",
    errno.ELOOP: "its links lead in a circle: correct them",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "close other programs, or raise the limit of open files (ulimit -n)"),
    errno.EIO: "check the disk and its connection",
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), "close the program that uses it"),
}
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk."""


class EmbedRLError(Exception):
    """Base of all errors below."""


class ConfigError(EmbedRLError, ValueError):
    """The user's settings are wrong. The message names the value, the limit and the fix."""


class MediaError(EmbedRLError, ValueError):
    """A medium cannot be decoded or breaks a limit. The message names the file."""


class ModelError(EmbedRLError, RuntimeError):
    """A model cannot be loaded, or its output cannot be used."""


class StoreError(EmbedRLError, OSError):
    """Files that embedrl itself keeps cannot be read or written."""


def cause(error: OSError) -> str:
    """Return why the operating system refused, and the remedy: "(Permission denied); change its permissions, …"."""
    return f"({error.strerror or error}); {_REMEDIES.get(error.errno or 0, 'check the path and the disk')}"


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the StoreError of a file or folder that cannot be written, with the cause and the remedy."""
    return _refused(path, "cannot be written", error)


def unreadable(path: Path, error: OSError) -> StoreError:
    """Return the StoreError of a file or folder that cannot be read, with the cause and the remedy."""
    return _refused(path, "cannot be read", error)


def _refused(path: Path, what: str, error: OSError) -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = StoreError(f"{str(path)!r}: {what} {cause(error)} and run again")
    failure.errno = error.errno
    return failure
