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
    errno.EROFS: "choose another place",
    errno.EACCES: "change its permissions, or choose another place",
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


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the StoreError of a file or folder that cannot be written, with the cause and the remedy."""
    remedy = _REMEDIES.get(error.errno or 0)
    failure = StoreError(f"{str(path)!r}: cannot be written ({error.strerror})" + (f"; {remedy} and run again" if remedy else ""))
    failure.errno = error.errno
    return failure
