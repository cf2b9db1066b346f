"""Loading and saving Qwen3-VL weights for the Reasoner and the Embedder, and LoRA adapters."""

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file, load_model
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
)
from transformers.utils import logging as transformers_logging

from embedrl.config import Lora
from embedrl.errors import ModelError
from embedrl.media.content import folder_fingerprint
from embedrl.models.qwen3_vl_fast import patch_forward

SETTINGS = "embedrl.json"
"""File beside the weights that holds what embedrl itself must know of a model, such as its pixel budget."""
EMB = "<emb>"
"""The token that ends an Embedder's prompt, and whose state is the vector."""
_MODEL_FILES = (".safetensors", ".json", ".jinja")
"""Suffixes of the files that decide what a model does."""
_ADAPTER = "adapter_config.json"
_PEFT_PREFIX = "base_model.model."


def load(
    auto: Any, folder: Path, *, device: str | None = None, dtype: str | torch.dtype | None = None, attention: str = "sdpa"
) -> tuple[PreTrainedModel, ProcessorMixin, str]:
    """Load a local model folder (safetensors only) with a transformers auto class; the folder of a LoRA adapter is merged with its base.

    Without `device` and `dtype`: on an accelerator if there is one, in the type that its files name, else in float32 on the CPU.
    Returns the model, its processor and a name that changes with its files. Raises ModelError if the folder is no model.
    """
    base = base_folder(folder)
    transformers_logging.disable_progress_bar()
    device = device or (f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("float32" if device == "cpu" else "auto")
    name = f"{folder.name}-{folder_fingerprint(folder, _MODEL_FILES)}"
    try:
        model = auto.from_pretrained(base, dtype=dtype, local_files_only=True, use_safetensors=True, attn_implementation=attention)
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder)!r} cannot be loaded: {error}") from error
    _, processor = load_parts(folder)
    if base != folder:
        load_adapter(model, folder).merge_and_unload()
        name += f"-{folder_fingerprint(base, _MODEL_FILES)[:6]}"
    num_tokens, num_rows = len(processor.tokenizer), model.get_input_embeddings().num_embeddings
    if num_tokens > num_rows:
        raise ModelError(f"{str(folder)!r}: the tokenizer has {num_tokens} tokens and the model {num_rows} rows for them")
    return patch_forward(model.to(device)), processor, name


def load_parts(folder: Path) -> tuple[Any, ProcessorMixin]:
    """Load a model folder's configuration and processor without its weights. Raises ModelError."""
    base = base_folder(folder)
    try:
        processor = AutoProcessor.from_pretrained(folder if (folder / "tokenizer_config.json").is_file() else base, local_files_only=True)
        return AutoConfig.from_pretrained(base, local_files_only=True), processor
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder)!r} cannot be loaded: {error}") from error


def empty_model(config: Any) -> Qwen3VLModel:
    """Make a model's layers without memory for their weights: to count them."""
    with torch.device("meta"):
        return Qwen3VLModel(config)


def base_folder(folder: Path) -> Path:
    """Return the folder of the full weights: this one, or the base of a LoRA adapter. Raises ModelError if there is none."""
    if (folder / "config.json").is_file():
        return folder
    if not (folder / _ADAPTER).is_file():
        raise ModelError(f"{str(folder)!r} is not a model folder: config.json is missing")
    named = json.loads((folder / _ADAPTER).read_text("utf-8")).get("base_model_name_or_path") or ""
    places = [Path(named), folder / named, folder.parent / Path(named).name]
    for place in places if named else ():
        if (place / "config.json").is_file():
            return place
    raise ModelError(
        f"{str(folder)!r} is an adapter of {named!r}, which is no folder here: put that model beside it as {str(places[-1])!r}, "
        f"or write its folder into base_model_name_or_path of {_ADAPTER}"
    )


def load_adapter(model: PreTrainedModel, folder: Path, name: str = "default", *, onto: PeftModel | None = None) -> PeftModel:
    """Put the LoRA adapter of a folder on a model's weights, unmerged; `onto` one that has adapters already, as one more.

    The adapter may have been trained with a language model head around the model or without. Raises ModelError if not all of it fits.
    """
    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{str(folder)!r} cannot be loaded as a LoRA adapter: {error}") from error
    plain = {key.removeprefix(_PEFT_PREFIX).removeprefix("model."): weight for key, weight in weights.items()}
    if not isinstance(config, LoraConfig) or not any(".lora_A." in key for key in plain):
        raise ModelError(f"{str(folder)!r} is an adapter of type {config.peft_type}: only LoRA is known")
    config.target_modules = {key.split(".lora_")[0] for key in plain if ".lora_" in key}
    config.exclude_modules = config.layers_to_transform = None
    try:
        if onto is None:
            adapted = PeftModel(cast(PreTrainedModel, model.base_model), config, adapter_name=name)
        else:
            (adapted := onto).add_adapter(name, config)
        found = set_peft_model_state_dict(adapted, {_PEFT_PREFIX + key: weight for key, weight in plain.items()}, adapter_name=name)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{str(folder)!r}: the adapter does not fit the model: {error}") from error
    if found.unexpected_keys:
        raise ModelError(f"{str(folder)!r}: the adapter has weights that the model has not, such as {found.unexpected_keys[0]!r}")
    return adapted


class AdapterView:
    """A model as it is with one of its adapters, or with none. Several views share the weights, and one call runs at a time."""

    def __init__(self, model: Any, adapted: PeftModel | None, adapter: str | None, lock: RLock) -> None:
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


def load_shared(
    folders: Sequence[Path], *, device: str | None = None, dtype: str | torch.dtype | None = None
) -> list[tuple[Any, ProcessorMixin, str]]:
    """Load several LoRA adapters (or their base itself) on one copy of the base: what `load` returns of each, with the model as a view.

    Raises ModelError if they do not have the same base.
    """
    bases = [base_folder(folder) for folder in folders]
    if len({base.resolve() for base in bases}) > 1:
        raise ModelError(f"{' and '.join(repr(str(base)) for base in bases)} are different bases: only adapters of one base can share it")
    model, _, base_name = load(AutoModelForImageTextToText, bases[0], device=device, dtype=dtype)
    adapted: PeftModel | None = None
    lock = RLock()
    for number, (folder, base) in enumerate(zip(folders, bases, strict=True)):
        if folder != base:
            adapted = load_adapter(model, folder, f"adapter{number}", onto=adapted)
    model.to(device=model.device)  # new adapters lie where they were read
    shared = []
    for number, (folder, base) in enumerate(zip(folders, bases, strict=True)):
        is_base = folder == base
        name = base_name if is_base else f"{folder.name}-{folder_fingerprint(folder, _MODEL_FILES)}-{base_name.rsplit('-', 1)[-1][:6]}"
        shared.append((AdapterView(model, adapted, None if is_base else f"adapter{number}", lock), load_parts(folder)[1], name))
    return shared


def add_lora(model: PreTrainedModel, lora: Lora) -> Any:
    """Freeze a model's weights and put a new LoRA adapter on them, which changes nothing until it is trained."""
    return get_peft_model(model, lora_config(model, lora))


def lora_config(model: PreTrainedModel, lora: Lora) -> LoraConfig:
    """Return peft's settings: all linear layers of the language model and, if wanted, of the vision tower; never the head."""
    parts = ("language_model", "visual") if lora.vision else ("language_model",)
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name and any(part in name.split(".") for part in parts)
    ]
    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", target_modules=targets)


def is_adapted(model: nn.Module) -> bool:
    """Say whether a model carries adapters."""
    return isinstance(model, PeftModel)


def restore(model: Any, folder: Path) -> None:
    """Read back, in place, what a checkpoint holds of a model: its weights, or its adapter."""
    if is_adapted(model):
        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    else:
        load_model(model, folder / "model.safetensors")


def gather_shards(model: nn.Module) -> None:
    """Make weights that FSDP has sharded over the processes whole again, in place and in each process: to be saved, not trained on."""
    whole: dict[int, nn.Parameter] = {}  # weights that several modules share stay one
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                if id(weight) not in whole:
                    whole[id(weight)] = nn.Parameter(weight.full_tensor(), weight.requires_grad)
                setattr(module, name, whole[id(weight)])


def merge(model: Any) -> Any:
    """Return the plain model with its adapter added to its weights; a plain model is returned as it is."""
    return model.merge_and_unload() if is_adapted(model) else model


def save_bf16(model: PreTrainedModel, folder: Path, **config: Any) -> None:
    """Write weights as bf16 safetensors. The model in memory keeps its precision.

    A model without a head is written in the layout of one with it, which is what other engines look for; so its weights' names are those
    of the published models. `config` is added to config.json.
    """
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    if isinstance(model, Qwen3VLModel):
        state = {f"model.{name}": tensor for name, tensor in state.items()}
        with torch.device("meta"):
            model = Qwen3VLForConditionalGeneration(model.config)
    model.save_pretrained(folder, state_dict=state)
    if config:
        saved = AutoConfig.from_pretrained(folder, local_files_only=True)
        saved.update({**config, "architectures": [type(model).__name__]})
        saved.save_pretrained(folder)


def token_side(config: PreTrainedConfig) -> int:
    """Return the pixels a side of one visual token: patch size times merge size."""
    vision = config.vision_config
    return vision.patch_size * vision.spatial_merge_size
