"""Table of supported model architectures, and validation of config.json."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, GenerationConfig, PreTrainedConfig, Qwen3VLForConditionalGeneration
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from embedrl.errors import ModelError
from embedrl.models.qwen3_vl_fast import patch_forward
from embedrl.models.weights import read_model_json


@dataclass(frozen=True)
class Architecture:
    """Properties of one architecture."""

    model_type: str
    """`model_type` in config.json."""
    family: str
    """Names of its published models."""
    fast: Callable[[Any], Any] | None = None
    """Function that patches a loaded model with faster, equivalent forward passes; None: there are none."""
    shares_prefix: bool = True
    """Whether T-CoTs of one item can share a prefix KV cache; recurrent states cannot be shared."""
    embeds: bool = True
    """Whether it can be an Embedder."""
    keeps_rows: bool = False
    """Whether keys and values of its rows can stand at places of their own, so that greedy decoding verifies drafts of any length."""
    takes_grids: bool = True
    """Whether its processor accepts images pre-scaled to whole visual tokens; otherwise it resizes them itself."""


_ROWS = (
    Architecture("qwen3_vl", "Qwen3-VL, Qwen3-VL-Embedding, Embed-RL", fast=patch_forward, keeps_rows=True),
    Architecture("qwen3_vl_moe", "Qwen3-VL with experts"),
    Architecture("qwen3_5", "Qwen3.5", shares_prefix=False),
    Architecture("qwen2_5_vl", "Qwen2.5-VL"),
    Architecture("qwen2_vl", "Qwen2-VL"),
)
ARCHITECTURES = {row.model_type: row for row in _ROWS}
"""`model_type` -> tested architecture."""


def architecture(model_type: str) -> Architecture | None:
    """Return an architecture, or None. Other image-text-to-text models of transformers can be Reasoners."""
    if model_type in ARCHITECTURES:
        return ARCHITECTURES[model_type]
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return None
    return Architecture(model_type, model_type, shares_prefix=False, embeds=False, takes_grids=False)


_LIMITS = {
    "num_hidden_layers": 1_000,
    "depth": 1_000,
    "hidden_size": 100_000,
    "intermediate_size": 1_000_000,
    "vocab_size": 10_000_000,
    "num_attention_heads": 10_000,
    "patch_size": 1_000,
    "num_position_embeddings": 10_000_000,
    **dict.fromkeys(("num_key_value_heads", "num_heads", "head_dim", "out_hidden_size"), 100_000),
    **dict.fromkeys(("spatial_merge_size", "temporal_patch_size", "in_channels"), 100),
}
"""Upper bounds of configuration values: an untrusted config.json must not exhaust memory or time."""
_POSITIVE = frozenset({"rope_theta", "rms_norm_eps", "layer_norm_eps", "factor", "partial_rotary_factor"})
"""Configuration values that must be above 0, in tables such as rope_parameters too: from others come vectors of NaN, or of no position."""
_UNREAD = ("_attn_implementation", "_attn_implementation_internal", "attn_implementation", "_experts_implementation", "auto_map")
"""Keys of config.json with which a folder would choose code to run: how attention is calculated is the caller's setting."""


def read_config(folder: Path) -> PreTrainedConfig:
    """Read the config.json of a folder of full weights, without running or fetching any code that it names. Raises ModelError."""
    table = read_model_json(folder / "config.json")
    name = table.get("model_type")
    if not isinstance(name, str) or architecture(name) is None:
        raise ModelError(f"{str(folder)!r} {_stranger(table)}; known are {known()}")
    if name not in CONFIG_MAPPING:
        raise ModelError(f"{str(folder)!r} is a model of the architecture {name!r}, which needs a later version of transformers")
    if not isinstance(table.get("vision_config"), dict) or not isinstance(table.get("text_config"), dict):
        raise ModelError(f"{str(folder / 'config.json')!r} has no vision_config and text_config: download it again")
    for part in (table, table["vision_config"], table["text_config"]):
        for key in _UNREAD:
            part.pop(key, None)
        if odd := sorted(key for key, value in part.items() if isinstance(value, float) and not math.isfinite(value)):
            raise ModelError(f"{str(folder / 'config.json')!r}: {odd[0]}={part[odd[0]]} is no number: download it again")
        for key, limit in _LIMITS.items():
            if part.get(key) is not None and not (type(part[key]) is int and 0 < part[key] <= limit):
                raise ModelError(f"{str(folder / 'config.json')!r}: {key}={str(part[key])[:40]} is no number from 1 to {limit:,}")
        for key, value in _flat(part):
            if key in _POSITIVE and value is not None and not (type(value) in (int, float) and value > 0):
                raise ModelError(f"{str(folder / 'config.json')!r}: {key}={str(value)[:40]} is no number above 0: download it again")
    return CONFIG_MAPPING[name].from_dict(table)


def _flat(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a table, and those of tables in it."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, value


def known() -> str:
    """Return the list of known architectures, for messages."""
    rows = ", ".join(f"{row.model_type} ({row.family})" for row in ARCHITECTURES.values())
    return f"{rows}, and as Reasoners the image-text-to-text models of transformers"


def _stranger(table: dict[str, Any]) -> str:
    name = str(table.get("model_type"))[:80]
    if "model_type" not in table:
        return "has a config.json without a model_type: it is no model of transformers"
    code = ", and brings code of its own, which is never run" if "auto_map" in table else ""
    blind = "" if "vision_config" in table or "vision_config_dict" in table else ", which reads text only"
    return f"is a model of the architecture {name!r}{blind}{code}"


def takes_grids(config: Any) -> bool:
    """Return whether a model's processor accepts images pre-scaled to whole visual tokens."""
    row = architecture(config.model_type)
    return row is not None and row.takes_grids


def shares_prefix(model: Any) -> bool:
    """Return whether T-CoTs of one item can share the prefix cache of its media and text."""
    row = architecture(model.config.model_type)
    return row is not None and row.shares_prefix


_HARMLESS = frozenset(
    {
        *("bos_token_id", "eos_token_id", "pad_token_id", "max_new_tokens"),
        *("do_sample", "temperature", "top_k", "top_p", "use_cache", "transformers_version", "_from_model_config"),
    }
)
"""Settings of generation that the caller decides, or that change no greedy choice."""


_ONE_ANSWER = (
    *("num_beams", "num_return_sequences", "return_dict_in_generate", "stop_strings"),
    *("min_length", "min_new_tokens", "prompt_lookup_num_tokens", "max_time"),
    *("guidance_scale", "penalty_alpha", "dola_layers"),
)
"""Settings of generation by which a folder would decide how many answers there are, in what form, where they end, and by what algorithm
(a second forward pass, or code from a hub)."""


def give_one_answer(folder: Path, model: Any, tokenizer: Any) -> None:
    """Make `generate` write one answer that ends where the model ends it, whatever a folder's generation_config.json says.

    A tokenizer that names no end of a turn takes the one of that file. Raises ModelError if there is none either: no answer would end.
    """
    settings, defaults = model.generation_config, GenerationConfig()
    for name in _ONE_ANSWER:
        setattr(settings, name, getattr(defaults, name))
    if tokenizer.eos_token_id is not None:
        return
    named = settings.eos_token_id
    end = named[0] if isinstance(named, list) and named else named
    token = tokenizer.convert_ids_to_tokens(end) if isinstance(end, int) else None
    if token is None:
        raise ModelError(
            f"{str(folder)!r}: neither tokenizer_config.json nor generation_config.json names the token that ends an answer (eos_token), "
            "so that none would end: take those files from the model it was trained from"
        )
    tokenizer.eos_token = token


def decodes_greedily(model: Any) -> bool:
    """Say whether `reasoner.greedy` writes what `generate` would: a family that is tried, on one device, without further settings."""
    row, settings = architecture(model.config.model_type), model.generation_config
    return (
        row is not None
        and row.keeps_rows
        and isinstance(model, Qwen3VLForConditionalGeneration)
        and model.config._attn_implementation == "sdpa"
        and len(set(getattr(model, "hf_device_map", {}).values())) <= 1
        and settings.use_cache is not False
        and not any(value for name, value in settings.to_diff_dict().items() if name not in _HARMLESS)
    )


def speed_up(model: Any) -> Any:
    """Patch a model with its architecture's faster forward passes, if there are any, and return it."""
    row = ARCHITECTURES.get(model.config.model_type)
    return model if row is None or row.fast is None else row.fast(model)
