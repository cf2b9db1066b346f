"""Checks of arguments that callers of the Python API mix up: a path for an index, a name for a model, one thing for a list."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedrl.errors import ConfigError


def require(value: object, kind: type | tuple[type, ...], name: str, instead: str) -> None:
    """Raise ConfigError unless `value`, called `name`, is of a kind; `instead` says what to give."""
    if not isinstance(value, kind):
        raise ConfigError(f"{name} of type {type(value).__name__}: give {instead}")


def require_models(**models: Any) -> None:
    """Raise ConfigError for a model that is given by its name: embedder="nano" instead of embedder=load_embedder("nano")."""
    for name, model in models.items():
        if isinstance(model, (str, Path)):
            raise ConfigError(f"{name}={str(model)!r} is a name: give the model, embedrl.load_{name}({str(model)!r})")


def require_weights(weights: Mapping[str, float], name: str) -> None:
    """Raise ConfigError unless `weights` map keys of items to numbers."""
    require(weights, Mapping, name, f"the weight of each item by its key, as in {name}={{key: 1.0}}")
    for key, weight in weights.items():
        require(key, str, f"a key in {name}", "that of an item, as hits have it (hit.key)")
        require(weight, (int, float), f"the weight of item {key[:12]!r}", "a number above 0, at most 100")
