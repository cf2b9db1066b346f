"""LoRA adapters: loading, adding, saving, merging, and several on one copy of a base model.

peft is imported where an adapter is met: that takes seconds, which a search without one need not wait for.
"""

import sys
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, load_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from embedrl.config import Lora
from embedrl.errors import ModelError
from embedrl.models.weights import HEAD, list_some, num_rows, read_model_json, refuse_unfinished, tensor_shapes

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PEFT_PREFIX = "base_model.model."
_BODY = "model."
"""Prefix of all weights but the head, in a model with a head."""
_PICKLED = "adapter_model.bin"


def load_adapter(model: PreTrainedModel, folder: Path, name: str = "default", *, onto: "PeftModel | None" = None) -> "PeftModel":
    """Load a folder's LoRA adapter onto a model, unmerged; with `onto`, as a further adapter of that model.

    The adapter may have been trained with a language model head around the model or without, and may hold a head or an embedding of its
    own: a model without a head leaves that out. Raises ModelError if not all of the rest fits.
    """
    from peft import LoraConfig, PeftConfig, PeftModel, set_peft_model_state_dict

    kind = read_model_json(folder / ADAPTER).get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{str(folder)!r} is an adapter of type {str(kind)[:80]!r}: only LoRA is known")
    if not (folder / ADAPTER_WEIGHTS).exists() and (folder / _PICKLED).exists():
        raise ModelError(f"{str(folder)!r}: {_PICKLED} is a pickle, which runs code when it is read: convert it to safetensors")
    try:
        tensor_shapes(folder / ADAPTER_WEIGHTS)
    except ModelError as error:
        refuse_unfinished(folder, [str(error)])
    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{str(folder)!r} cannot be loaded as a LoRA adapter: {error}") from error
    plain = {_plain(key): weight for key, weight in weights.items()}
    if not isinstance(config, LoraConfig) or not any(".lora_A." in key for key in plain):
        raise ModelError(f"{str(folder)!r}: {ADAPTER_WEIGHTS} holds no weights of LoRA")
    if broken := sorted(key for key, weight in plain.items() if weight.is_floating_point() and not weight.isfinite().all()):
        raise ModelError(f"{str(folder)!r}: {len(broken)} weights of the adapter hold NaN or infinite numbers: {list_some(broken)}")
    has_head = model.base_model is not model
    head = HEAD.split(".")[0]
    plain = {(key if key.startswith(head) else f"{_BODY if has_head else ''}{key}"): weight for key, weight in plain.items()}
    if not has_head:
        plain = {key: weight for key, weight in plain.items() if not key.startswith(head)}
    _match(config, plain, keeps_head=has_head)
    _grow_embedding(model, plain)
    if any(key.startswith(head) for key in plain):
        _untie(model)
    try:
        if onto is None:
            adapted = PeftModel(model, config, adapter_name=name)
        else:
            (adapted := onto).add_adapter(name, config)
        result = set_peft_model_state_dict(adapted, {_PEFT_PREFIX + key: weight for key, weight in plain.items()}, adapter_name=name)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{str(folder)!r}: the adapter does not fit the model: {error}") from error
    if result.unexpected_keys:
        raise ModelError(f"{str(folder)!r}: the adapter has weights that the model has not: {list_some(sorted(result.unexpected_keys))}")
    if missing := sorted(key for key in result.missing_keys if ".lora_" in key and f".{name}" in key):
        raise ModelError(f"{str(folder)!r}: {len(missing)} weights of the adapter are missing: {list_some(missing)}; download it again")
    return adapted


def _plain(key: str) -> str:
    """Return a weight's name in the headless model; names of the head are unchanged."""
    return key.removeprefix(_PEFT_PREFIX).removeprefix(_BODY)


def _match(config: Any, weights: Mapping[str, Tensor], *, keeps_head: bool) -> None:
    """Restrict an adapter's target modules to those with weights in its file, under any prefix."""
    config.target_modules = {key.split(".lora_")[0] for key in weights if ".lora_" in key}
    config.exclude_modules = config.layers_to_transform = None
    ranks = {key.split(".lora_A")[0]: weight.shape[0] for key, weight in weights.items() if ".lora_A." in key}
    config.rank_pattern = {module: rank for module, rank in ranks.items() if rank != config.r}
    config.alpha_pattern = {_plain(pattern): alpha for pattern, alpha in (config.alpha_pattern or {}).items()}
    saved = [module for module in config.modules_to_save or () if keeps_head or module != HEAD.split(".")[0]]
    config.modules_to_save = saved or None
    config.inference_mode = True


def _grow_embedding(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Extend the base's embedding by the additional rows of an adapter, such as `<emb>`."""
    rows = [len(weight) for key, weight in weights.items() if key.endswith("embed_tokens.weight") and "lora_" not in key]
    if rows and rows[0] > num_rows(model):
        grow_embedding(model, rows[0])


def grow_embedding(model: Any, rows: int) -> None:
    """Add rows to a model's embedding, which its adapters are then saved with."""
    model.resize_token_embeddings(rows, mean_resizing=False)
    vars(model)["has_grown"] = True


def save_adapter(model: Any, folder: Path) -> None:
    """Save a model's adapter, with the embedding if it was extended."""
    grown = vars(model.get_base_model()).get("has_grown", False)
    model.save_pretrained(folder, save_embedding_layers=grown)


def _untie(model: Any) -> None:
    """Untie the head from the embedding, so that an adapter can change it alone."""
    if model.lm_head.weight is model.get_input_embeddings().weight:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone(), model.lm_head.weight.requires_grad)
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False


class AdapterView:
    """View of a shared model with one adapter active, or none. Calls of all views are serialised."""

    def __init__(self, model: Any, adapted: "PeftModel | None", adapter: str | None, lock: RLock) -> None:
        self._model, self._adapted, self._adapter, self._lock = model, adapted, adapter, lock

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        with self._switched():
            return self._model(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate with the model."""
        with self._switched():
            return self._model.generate(*args, **kwargs)

    def headless(self) -> "AdapterView":
        """The same view of the model without its language model head."""
        return AdapterView(self._model.base_model, self._adapted, self._adapter, self._lock)

    def eval(self) -> "AdapterView":
        """Put the shared model into evaluation mode."""
        self._model.eval()
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @contextmanager
    def _switched(self) -> Generator[None]:
        with self._lock:
            if self._adapted is None:
                yield
            elif self._adapter is None:
                with self._adapted.disable_adapter():
                    yield
            else:
                self._adapted.set_adapter(self._adapter)
                yield


def add_lora(model: PreTrainedModel, lora: Lora) -> Any:
    """Freeze a model and add a new LoRA adapter, initialised to the identity."""
    from peft import get_peft_model

    return get_peft_model(model, lora_config(model, lora))


def lora_config(model: PreTrainedModel, lora: Lora) -> "LoraConfig":
    """Return peft's settings: all linear layers of the language model and, if wanted, of the vision tower; never the head."""
    from peft import LoraConfig

    parts = ("language_model", "visual") if lora.vision else ("language_model",)
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name and any(part in name.split(".") for part in parts)
    ]
    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", target_modules=targets)


def is_adapted(model: nn.Module) -> bool:
    """Return whether a model has adapters."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def restore(model: Any, folder: Path) -> None:
    """Restore a model's weights, or its adapter, from a checkpoint, in place."""
    if is_adapted(model):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(folder / ADAPTER_WEIGHTS))
    else:
        load_model(model, folder / "model.safetensors")


def merge(model: Any) -> Any:
    """Merge the adapter into the weights and return the plain model; a plain model is returned unchanged.

    Into quantized weights it is rounded as they are.
    """
    if not is_adapted(model):
        return model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Merge lora module to")
        return model.merge_and_unload()
