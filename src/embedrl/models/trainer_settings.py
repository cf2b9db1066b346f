"""Validation of a recipe's `[trainer]` table, before any model is loaded."""

import dataclasses
import difflib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from pydantic import Field, ValidationError, create_model
from transformers import TrainingArguments

from embedrl.errors import ConfigError
from embedrl.models.training import old_names

A = TypeVar("A", bound=TrainingArguments)

_NAMES_BY_BOUND: dict[tuple[str, float], str] = {
    ("ge", 0): "learning_rate weight_decay warmup_steps max_grad_norm beta dataloader_num_workers adam_beta1 adam_beta2 seed",
    ("ge", 1): "per_device_train_batch_size gradient_accumulation_steps max_completion_length save_total_limit num_iterations "
    "steps_per_generation generation_batch_size vllm_max_model_length",
    ("ge", 2): "num_generations",
    ("ge", -1): "max_steps",
    ("gt", 0): "logging_steps save_steps num_train_epochs temperature epsilon epsilon_high adam_epsilon top_p vllm_gpu_memory_utilization",
    ("le", 1): "top_p vllm_gpu_memory_utilization",
    ("lt", 1): "adam_beta1 adam_beta2",
    ("lt", 2**32): "seed",
}
"""Numbers that the libraries do not validate, or only after loading the model."""
_CHOICES = {
    "loss_type": ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "vllm_mode": ("server", "colocate"),
}
"""Choices that TRL validates only while training."""
_REFUSED = {
    "output_dir": "set out=...",
    "resume_from_checkpoint": "a run goes on from its last checkpoint by itself",
    "save_only_model": "to go on, a killed run needs the optimiser's state too",
    "ignore_data_skip": "a resumed run sees exactly what it missed",
    "auto_find_batch_size": "batches are laid out beforehand",
    "load_best_model_at_end": "there is no evaluation while it trains; run `embedrl evaluate` on the finished model",
    "eval_strategy": "there is no evaluation while it trains; run `embedrl evaluate` on the finished model",
}
_OFF = (False, None, "no", "")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def read_settings(
    kind: type[TrainingArguments], settings: Mapping[str, Any], *, refused: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return settings with the types of a library's arguments; `refused` says of names which are not to be set what to do instead.

    Raises ConfigError naming every setting that is unknown, of another type, out of bounds or refused.
    """
    hints, wrong, typed = get_type_hints(kind), [], {}
    known = {field.name for field in dataclasses.fields(kind)}
    remedies = {**_REFUSED, **(refused or {})}
    for name, value in settings.items():
        shown = f"trainer.{name}={value!r}"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean trainer.{near[0]}?)" if near else ""
            wrong.append(f"{shown}: unknown setting{hint}; the settings are those of {kind.__name__}")
            continue
        try:
            typed[name] = _typed(name, value, hints[name])
        except ValidationError as error:
            wrong.append(f"{shown}: {_reason(error, hints[name])}")
        except ConfigError as error:
            wrong.append(f"{shown}: {error}")
        else:
            if name in remedies and typed[name] not in _OFF:
                wrong.append(f"{shown}: not to be set here; {remedies[name]}")
    if typed.get("max_steps") == 0:
        wrong.append("trainer.max_steps=0: give at least 1, or leave it out")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return typed


def make_arguments(kind: type[A], out: Path, settings: Mapping[str, Any], **defaults: Any) -> A:
    """Return a library's training arguments for a run folder: checkpoints below it, nothing sent anywhere, a NaN shown as it is.

    `settings` are those of `read_settings`. Raises ConfigError for those that contradict each other.
    """
    common: dict[str, Any] = {
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
    }
    try:
        with old_names():
            options: dict[str, Any] = {**common, **defaults, **settings, "output_dir": str(out / "checkpoints")}
            return kind(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"trainer: {error}") from error


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return a value with the type of its field, for numbers and switches; the library itself reads the other types."""
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ConfigError(f"choose from {', '.join(str(choice) for choice in _CHOICES[name])}")
    scalars = set(_members(hint))
    if not scalars <= {bool, int, float, types.NoneType}:
        return value
    if isinstance(value, bool) and bool not in scalars:
        raise ConfigError(f"give {_wanted(hint)}")
    bounds: dict[str, Any] = {kind: limit for (kind, limit), names in _NAMES_BY_BOUND.items() if name in names.split()}
    field: Any = (hint, Field(**bounds, **({"allow_inf_nan": False} if float in scalars else {})))
    return create_model("Setting", value=field).model_validate({"value": value}).model_dump()["value"]


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _wanted(hint: Any) -> str:
    return " or ".join(_KINDS[member] for member in _members(hint) if member in _KINDS)


def _reason(error: ValidationError, hint: Any) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] in ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"):
        return first["msg"].replace("Input should be", "it must be")
    return f"give {_wanted(hint)}"
