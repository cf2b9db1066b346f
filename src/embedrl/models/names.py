"""Resolution of model names, for command line, recipes and Python."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import parse_qsl

from embedrl.errors import ConfigError
from embedrl.files import expanded

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
GATE_FILES = {"query": "gate.json", "candidate": "gate-candidates.json"}
"""Gates in an Embedder's folder, by what they were fitted to. They are no part of the model, whose fingerprint they name."""
_SHIPPED: dict[str, dict[str, str]] = {
    "reasoner": {"nano": "reasoner", "nano-sft": "reasoner-sft", "nano-judge": "judge", "nano-crowded-sft": "crowded-reasoner-sft"},
    "embedder": {"nano": "embedder", "nano-sharp": "sharp-embedder", "nano-crowded": "crowded-embedder"},
}


def shipped(kind: str) -> dict[str, Path]:
    """Return the shipped models: name -> folder. `kind` is "reasoner" or "embedder"."""
    weights = Path(__file__).parents[1] / "nano" / "weights"
    return {name: weights / folder for name, folder in _SHIPPED[kind].items()}


Form = Literal["tcot", "answer"]
"""What a Reasoner is asked for: a whole T-CoT, or its answer alone."""


def read_form(text: str) -> Form:
    """Read the option `form` of a Reasoner's name. Raises ConfigError."""
    forms: dict[str, Form] = {form: form for form in get_args(Form)}
    if text not in forms:
        raise ConfigError(f"form={text!r}: choose one of {', '.join(forms)}")
    return forms[text]


def split_form(name: str) -> tuple[str, Form]:
    """Split the name of a Reasoner with weights, which may end in an option (`nano?form=answer`), from its form. Raises ConfigError."""
    place, _, options = name.partition("?")
    asked = dict(parse_qsl(options, keep_blank_values=True))
    if unknown := sorted(asked.keys() - {"form"}):
        raise ConfigError(f"reasoner={name!r}: {unknown[0]!r} is no option; there is form, as in {place}?form=answer")
    return place, read_form(asked.get("form", "tcot"))


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
    return _resolve(name, (kind,), setting=kind, others=", fake", server=", or the URL of a server")


def resolve_start(name: str | Path, *kinds: str) -> Path:
    """Return the folder of the model that a training starts from, as `resolve` does; a shipped name of two kinds means the first."""
    return _resolve(name, kinds, setting="start_from", server=" (a server has no weights to start from)")


def _resolve(name: str | Path, kinds: Sequence[str], *, setting: str, others: str = "", server: str) -> Path:
    known = {shipped_name: folder for kind in reversed(kinds) for shipped_name, folder in shipped(kind).items()}
    if str(name) in known:
        return known[str(name)]
    if not is_hub_id(str(name)) and not expanded(name).is_dir():
        choices = f"{', '.join(known)}{others}, a hub id (owner/name, owner/name@revision){server}"
        raise ConfigError(f"{setting}={str(name)!r}: not a folder, nor one of {choices}")
    from embedrl.models.hub import locate  # its library takes longer to import than a wrong name should cost

    return locate(name)
