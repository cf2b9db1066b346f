"""Resolution of model names, for command line, recipes and Python."""

import re
from pathlib import Path

from embedrl.errors import ConfigError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_SHIPPED: dict[str, dict[str, str]] = {
    "reasoner": {"nano": "reasoner", "nano-sft": "reasoner-sft", "nano-judge": "judge"},
    "embedder": {"nano": "embedder"},
}


def shipped(kind: str) -> dict[str, Path]:
    """Return the shipped models: name -> folder. `kind` is "reasoner" or "embedder"."""
    weights = Path(__file__).parents[1] / "nano" / "weights"
    return {name: weights / folder for name, folder in _SHIPPED[kind].items()}


def is_server(name: str) -> bool:
    """Return whether a model's name is a server's URL."""
    return name.startswith(("http://", "https://"))


def is_hub_id(name: str) -> bool:
    """Say whether a name could be that of a model on the hub: owner/name, and perhaps @revision."""
    return _ID.fullmatch(name) is not None


def resolve(name: str | Path, kind: str) -> Path:
    """Return the folder of a model with weights, by any of its names.

    That is a shipped name ("nano"), a folder, a folder of huggingface_hub's cache, or a hub id (`owner/name`, `owner/name@revision`), which
    is downloaded if it is not there. Raises ConfigError for what is none of these, and ModelError for a model that cannot be had.
    """
    known = shipped(kind)
    if str(name) in known:
        return known[str(name)]
    if not is_hub_id(str(name)) and not Path(name).expanduser().is_dir():
        choices = f"{', '.join([*known, 'fake'])}, a hub id (owner/name, owner/name@revision), or the URL of a server"
        raise ConfigError(f"{kind}={str(name)!r}: not a folder, nor one of {choices}")
    from embedrl.models.hub import locate  # its library takes longer to import than a wrong name should cost

    return locate(name)
