"""Table of known models and presets: what they are, what they take, and whether they fit this machine."""

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from embedrl.errors import ConfigError
from embedrl.models.names import shipped

SPARE = 1.25
"""Memory beside the weights that a model is given room for: activations, caches, the rest of the program."""
_BYTES_BF16 = 2


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KnownModel(_Row):
    """A model by its hub id, or a shipped one."""

    name: str
    role: Literal["reasoner", "embedder"]
    parameters: int
    """Of the weights in memory; computed from its configuration."""
    linear: int
    """Of these, weights of linear layers, which are quantized."""
    license: str
    source: str
    tested: str
    """What of it was run here."""

    @property
    def disk_bytes(self) -> int:
        """Of its files, in bf16."""
        return _BYTES_BF16 * self.parameters

    @property
    def bf16_bytes(self) -> int:
        """Memory of the weights in bf16."""
        return _BYTES_BF16 * self.parameters

    @property
    def int8_bytes(self) -> int:
        """Memory of the weights with `--quantize int8`: embeddings and head stay in bf16."""
        return self.linear + _BYTES_BF16 * (self.parameters - self.linear)

    def fit(self, memory_bytes: int) -> Literal["bf16", "int8", "no"]:
        """Say how it fits into a memory, weights with `SPARE`."""
        if self.bf16_bytes * SPARE <= memory_bytes:
            return "bf16"
        return "int8" if self.int8_bytes * SPARE <= memory_bytes else "no"


class Preset(_Row):
    """A Reasoner and an Embedder that go together."""

    reasoner: str
    embedder: str


class _Table(_Row):
    presets: dict[str, Preset]
    models: list[KnownModel]


@cache
def _table() -> _Table:
    text = files("embedrl.models").joinpath("known.toml").read_text("utf-8")
    return TypeAdapter(_Table).validate_python(tomllib.loads(text))


def known_models() -> list[KnownModel]:
    """Return the shipped models, and those of the table."""
    return [_shipped(role, name, folder) for role in ("reasoner", "embedder") for name, folder in shipped(role).items()] + _table().models


def _shipped(role: Literal["reasoner", "embedder"], name: str, folder: Path) -> KnownModel:
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) // _BYTES_BF16
    source = "trained here"
    return KnownModel(
        name=name, role=role, parameters=size, linear=0, license="Apache-2.0", source=source, tested="everything, on the generated world"
    )


def presets() -> dict[str, Preset]:
    """Return the pairs of models that have one name."""
    return dict(_table().presets)


def preset(name: str) -> Preset:
    """Return a preset. Raises ConfigError for an unknown one."""
    known = presets()
    if name not in known:
        raise ConfigError(f"--models {name!r}: choose one of {', '.join(known)}, or name models with --reasoner and --embedder")
    return known[name]
