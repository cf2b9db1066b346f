"""Models by their hub id, through huggingface_hub: its cache, token, endpoint, offline mode, progress bars and resumed downloads.

Settings and tokenizer come first and weights last, and only safetensors, so that a model whose weights are whole is whole. What a
download leaves unfinished lies where huggingface_hub keeps it, is gone on with, and is never loaded.
"""

import errno
from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from embedrl import log
from embedrl.errors import ModelError, unwritable
from embedrl.files import expanded
from embedrl.models.names import is_hub_id

_SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model")
"""All that is no weights: configuration, tokenizer, chat template, pooling, and the settings of embedrl."""
_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "adapter_model.safetensors")
_CACHED = "models--"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""Errors of the cache's disk, not of the network."""


def locate(place: str | Path) -> Path:
    """Return the folder of a path or hub id (`owner/name`, `owner/name@revision`), downloading a missing model.

    A folder of huggingface_hub's cache (`models--owner--name`) stands for its snapshot. Raises ModelError.
    """
    if (folder := expanded(place)).is_dir():
        return _snapshot(folder) if folder.name.startswith(_CACHED) else folder
    if is_hub_id(str(place)):
        return fetch(str(place))
    raise ModelError(f"{str(place)!r}: there is no such folder, and it is no hub id (owner/name or owner/name@revision)")


def is_offline() -> bool:
    """Whether nothing is fetched (HF_HUB_OFFLINE)."""
    return bool(constants.HF_HUB_OFFLINE)


def label(folder: Path) -> str:
    """Return a display name of a model's folder; a cache snapshot is named by its repository, not its commit."""
    repository = folder.parent.parent.name
    is_snapshot = folder.parent.name == "snapshots" and repository.startswith(_CACHED)
    return repository.rpartition("--")[2] if is_snapshot else folder.name


def _snapshot(folder: Path) -> Path:
    """Return the main branch's snapshot of a cached repository, or its only one."""
    snapshots = sorted(path for path in (folder / "snapshots").glob("*") if path.is_dir())
    main = folder / "refs" / constants.DEFAULT_REVISION
    if main.is_file() and (head := folder / "snapshots" / main.read_text("utf-8").strip()) in snapshots:
        return head
    if len(snapshots) == 1:
        return snapshots[0]
    raise ModelError(f"{str(folder)!r} holds {len(snapshots)} snapshots and no main branch: give the folder of one of them")


@cache
def fetch(name: str) -> Path:
    """Return the folder of a model on the hub, in huggingface_hub's cache: `name` is `owner/name` or `owner/name@revision`.

    What is missing is downloaded. The hub is asked for news once a process; without a network, what the cache holds is taken, and it
    is said. Raises ModelError.
    """
    repository, _, revision = name.partition("@")
    try:
        offline = constants.HF_HUB_OFFLINE or not _can_be_reached(name, repository, revision or None)
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_SETTINGS), local_files_only=offline))
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ModelError(f"{name!r} on {constants.ENDPOINT} is no model of transformers: it has no config.json")
        snapshot_download(repository, revision=folder.name, allow_patterns=list(_WEIGHTS), local_files_only=offline)
    except ModelError:
        raise
    except Exception as error:  # the network and the hub fail in the ways of several libraries
        raise ModelError(_explain(name, error)) from error
    return folder


def _can_be_reached(name: str, repository: str, revision: str | None) -> bool:
    """Ask the hub for a revision. False, with a warning, if it gives no answer and the cache holds the repository."""
    try:
        HfApi().model_info(repository, revision=revision)
    except Exception as error:
        answered = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        cached = Path(constants.HF_HUB_CACHE, _CACHED + repository.replace("/", "--"), "snapshots").is_dir()
        if answered or isinstance(error, HFValidationError) or not cached:
            raise
        log.warn(f"{name!r}: {constants.ENDPOINT} cannot be reached ({_line(error)}); the copy in the cache is used")
        return False
    return True


def _explain(name: str, error: Exception) -> str:
    """Return a message about a failed download, with the fix."""
    repository, _, revision = name.partition("@")
    hub = constants.ENDPOINT
    kept = "run again to go on with it: what was downloaded is kept"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    cause = next((link for link in _causes(error) if isinstance(link, OSError) and link.errno in _OF_THE_DISK), None)
    if cause is not None:
        reason = f"{unwritable(Path(constants.HF_HUB_CACHE), cause)}; HF_HOME names another folder, and what was downloaded is kept"
    elif isinstance(error, GatedRepoError):
        reason = f"it is gated: accept its terms at {hub}/{repository}, then {_LOG_IN} (huggingface_hub's token is used)"
    elif isinstance(error, RevisionNotFoundError):
        reason = f"it has no revision {revision or constants.DEFAULT_REVISION!r}"
    elif isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        reason = f"there is no such model on {hub}, nor a folder of that name here; if it is a private one, {_LOG_IN}"
    elif isinstance(error, HFValidationError):
        reason = f"that is no hub id: {_line(error)}"
    elif isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        reason = (
            "it is no folder here, its download is not finished, and downloads are off (HF_HUB_OFFLINE=1): allow them, or "
            f"{_elsewhere(repository, revision)}"
        )
    elif status is not None and status >= 500:
        reason = f"{hub} answers with status {status}; try again later"
    elif isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        reason = f"a file that {hub} lists is not there: {_line(error)}"
    elif _is_cut(error):
        reason = f"the download was cut off ({_line(error)}); {kept}"
    else:
        reason = (
            f"{hub} cannot be reached ({_line(error)}), and it is no folder here; connect, name a mirror of the hub in HF_ENDPOINT, or "
            f"{_elsewhere(repository, revision)}"
        )
    return f"{name!r}: {reason}"


def _elsewhere(repository: str, revision: str) -> str:
    """Return what to do without the hub."""
    chosen = f" --revision {revision}" if revision else ""
    folder = repository.rpartition("/")[2]
    return f"download it elsewhere (`hf download {repository}{chosen} --local-dir {folder}`) and give its folder in place of the name"


def _is_cut(error: Exception) -> bool:
    """Return whether a download was interrupted: wrong file size, or connection lost."""
    names = {type(cause).__name__ for cause in _causes(error)}
    return bool(names & {"RemoteProtocolError", "ReadError", "ReadTimeout"}) or "onsistency check" in str(error)


def _causes(error: BaseException | None) -> list[BaseException]:
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
