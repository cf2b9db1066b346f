"""Loading of model folders for Reasoner and Embedder; anything wrong with a folder is one ModelError."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, TypedDict, TypeVar, Unpack

import torch
from pydantic import BaseModel, ValidationError
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin, Qwen3VLModel
from transformers.utils import logging as transformers_logging

from embedrl.errors import EmbedRLError, ModelError
from embedrl.models.adapters import ADAPTER, AdapterView, load_adapter, merge
from embedrl.models.architectures import read_config, speed_up, takes_grids
from embedrl.models.hub import label, locate
from embedrl.models.placement import choose, choose_quantization
from embedrl.models.quantize import cast_unquantized, quantization, quantized
from embedrl.models.template import check_template
from embedrl.models.weights import (
    check_files,
    keep_head_source,
    model_fingerprint,
    num_rows,
    read_model_json,
    refuse_nonfinite,
    refuse_unfit,
)

SETTINGS = "embedrl.json"
"""File beside the weights with embedrl's own settings of a model, such as its pixel budget."""
EMB = "<emb>"
"""Pooling token: the last token of an Embedder's prompt, whose hidden state is the vector."""
S = TypeVar("S", bound=BaseModel)


@contextmanager
def loading(folder: Path) -> Generator[None]:
    """Context manager that turns errors of reading a model folder into a ModelError naming it."""
    try:
        with quietly():
            yield
    except EmbedRLError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ModelError(f"{str(folder)!r} does not fit into memory: load it in bfloat16 or on another device") from error
    except ImportError as error:
        raise ModelError(f"{str(folder)!r} needs a package that is not installed: {_line(error)}") from error
    except Exception as error:  # a foreign folder makes foreign libraries fail in every way there is
        raise ModelError(f"{str(folder)!r} cannot be loaded: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


@contextmanager
def quietly() -> Generator[None]:
    """Leave transformers' bars and warnings out: what matters of them ends as an error of ours; afterwards all is as it was."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


class PlacementOptions(TypedDict, total=False):
    """Where weights are loaded, and how: by default on an accelerator if there is one, in the type that its files name, else in float32 on
    the CPU.
    """

    device: str | None
    dtype: str | torch.dtype | None
    attention: str | None
    quantize: str | None


class LoadOptions(PlacementOptions, total=False):
    """Options of loading a model with weights."""

    fast: bool
    """False leaves the forward passes as transformers has them."""


def load(auto: Any, folder: Path, *, fast: bool = True, **options: Unpack[PlacementOptions]) -> tuple[PreTrainedModel, ProcessorMixin, str]:
    """Load a local model folder (safetensors only) with a transformers auto class; the folder of a LoRA adapter is merged with its base.

    The options are those of `LoadOptions`. No code of the folder is run.
    Returns the model, its processor and a name that changes with its files and its type. Raises ModelError unless all of it is there.
    """
    with loading(folder):
        base = base_folder(folder)
        _, processor = load_parts(folder)
        model = load_base(auto, base, **options)
        if base != folder:
            model = merge(load_adapter(model, folder))
        check_vocabulary(folder, model, processor)
        return speed_up(model) if fast else model, processor, model_name(folder, base, model)


def load_base(
    auto: Any,
    base: Path,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    attention: str | None = None,
    quantize: str | None = None,
) -> PreTrainedModel:
    """Load the full weights of a folder, without any adapter. Raises ModelError unless they are all there, and fit."""
    device, dtype, attention = choose(device, dtype, attention)
    quantize = choose_quantization(quantize)
    settings = quantization(quantize, device, dtype) if quantize else {}
    config = read_config(base)
    check_files(base)
    model, info = auto.from_pretrained(
        base,
        config=config,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation=attention,
        ignore_mismatched_sizes=True,  # they are listed with all the rest
        output_loading_info=True,
        **settings,
    )
    headless = model.base_model is model
    refuse_unfit(base, model, info, headless=headless)
    if headless:
        keep_head_source(model, base, info)
    model = cast_unquantized(model if quantize else model.to(device))
    refuse_nonfinite(base, model)
    return model


def check_vocabulary(folder: Path, model: PreTrainedModel, processor: Any) -> None:
    """Raise ModelError if a tokenizer has more tokens than the model's embedding, or other image and video token ids."""
    for name in ("image_token", "video_token"):
        token, wanted = getattr(processor, name, None), getattr(model.config, f"{name}_id", None)
        if token is not None and wanted is not None and (token_id := processor.tokenizer.convert_tokens_to_ids(token)) != wanted:
            raise ModelError(
                f"{str(folder)!r}: {token} is token {token_id} of the tokenizer, and {name}_id={wanted} in config.json: "
                "the files of its processor are those of another model"
            )
    num_tokens, rows = len(processor.tokenizer), num_rows(model)
    if num_tokens > rows:
        raise ModelError(f"{str(folder)!r}: the tokenizer has {num_tokens} tokens and the model {rows} rows for them")


def model_name(folder: Path, base: Path, model: Any) -> str:
    """Return a name that identifies a model's files, dtype (float32 is unmarked) and quantization."""
    name = f"{label(folder)}-{model_fingerprint(folder)}"
    name += f"-{model_fingerprint(base)[:6]}" if base != folder else ""
    name += "" if model.dtype == torch.float32 else f"-{str(model.dtype).removeprefix('torch.')}"
    return name + (f"-{kind}" if (kind := quantized(model)) else "")


def load_config(folder: Path) -> PreTrainedConfig:
    """Load a model folder's configuration alone. Raises ModelError."""
    with loading(folder):
        return read_config(base_folder(folder))


def load_parts(folder: Path) -> tuple[PreTrainedConfig, Any]:
    """Load a model folder's configuration and processor without its weights. Raises ModelError."""
    with loading(folder):
        base = base_folder(folder)
        config = read_config(base)
        source = folder if (folder / "tokenizer_config.json").is_file() else base
        processor = AutoProcessor.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        for part in ("tokenizer", "image_processor", "video_processor")[: 3 if takes_grids(config) else 2]:
            if getattr(processor, part, None) is None:
                raise ModelError(f"{str(source)!r} has no {part.replace('_', ' ')}: its files beside the weights are not all there")
        if takes_grids(config):
            _refuse_other_patches(source, config, processor)
        if processor.chat_template is None:  # in tokenizer_config.json alone, where text models keep it
            processor.chat_template = processor.tokenizer.chat_template
        try:
            check_template(processor.chat_template)
        except ModelError as error:
            raise ModelError(f"{str(source)!r}: {error}") from error
        return config, processor


def _refuse_other_patches(folder: Path, config: PreTrainedConfig, processor: Any) -> None:
    """Raise ModelError if the processor's patch size differs from the model's."""
    for name, key in (("patch_size", "patch_size"), ("merge_size", "spatial_merge_size")):
        cut, wanted = getattr(processor.image_processor, name, None), getattr(config.vision_config, key, None)
        if cut is not None and wanted is not None and cut != wanted:
            raise ModelError(
                f"{str(folder)!r}: {name}={cut} of its image processor, and {key}={wanted} in config.json: "
                "the files of its processor are those of another model"
            )


def read_settings(folder: Path, kind: type[S], foreign: Mapping[str, str]) -> S | None:
    """Read a folder's embedrl.json; None without one. Raises ModelError if it is invalid, or of another role.

    `foreign` says by which key another role's settings are known, and what to tell whoever gave that folder.
    """
    if not (path := folder / SETTINGS).is_file():
        return None
    table = read_model_json(path)
    for key, remedy in foreign.items():
        if key in table and key not in kind.model_fields:
            raise ModelError(f"{str(folder)!r} {remedy}")
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, row['loc']))}: {row['msg']}" for row in error.errors()[:3])
        raise ModelError(f"{str(path)!r}: {wrong}") from error


def empty_model(config: Any) -> Qwen3VLModel:
    """Create a model on the meta device, to count its parameters. Raises ModelError for an unknown architecture."""
    if config.model_type != "qwen3_vl":
        raise ModelError(
            f"what a run needs is counted for the architecture qwen3_vl only, not for {config.model_type!r}: train without --plan"
        )
    with torch.device("meta"):
        return Qwen3VLModel(config)


def base_folder(folder: Path) -> Path:
    """Return the folder of the full weights: this one, or the base of a LoRA adapter, from the hub if it is not here. Raises ModelError."""
    if (folder / "config.json").is_file():
        return folder
    if not (folder / ADAPTER).is_file():
        inner = [name for name in ("model", "adapter") if any((folder / name / file).is_file() for file in ("config.json", ADAPTER))]
        meant = f"; it may be a run's folder, whose model is {str(folder / inner[0])!r}" if inner else ""
        raise ModelError(f"{str(folder)!r} is not a model folder: config.json is missing{meant}")
    named = str(read_model_json(folder / ADAPTER).get("base_model_name_or_path") or "")
    places = [Path(named), folder / named, folder.parent / Path(named).name]
    for place in places if named else ():
        if (place / "config.json").is_file():
            return place
    try:
        return locate(named)
    except ModelError as error:
        raise ModelError(
            f"{str(folder)!r} is an adapter of {named!r}, which is no folder here: put that model beside it as {str(places[-1])!r}, "
            f"or write its folder into base_model_name_or_path of {ADAPTER} ({error})"
        ) from error


def load_shared(folders: Sequence[Path]) -> list[tuple[Any, ProcessorMixin, str]]:
    """Load several LoRA adapters (or their base itself) on one copy of the base: what `load` returns of each, with the model as a view.

    Raises ModelError if they do not have the same base.
    """
    bases = [base_folder(folder) for folder in folders]
    if len({base.resolve() for base in bases}) > 1:
        raise ModelError(f"{' and '.join(repr(str(base)) for base in bases)} are different bases: only adapters of one base can share it")
    with loading(bases[0]):
        model = speed_up(load_base(AutoModelForImageTextToText, bases[0]))
    adapted: Any = None
    lock = RLock()
    for number, (folder, base) in enumerate(zip(folders, bases, strict=True)):
        if folder != base:
            with loading(folder):
                adapted = load_adapter(model, folder, f"adapter{number}", onto=adapted)
    model.to(device=model.device)  # new adapters lie where they were read
    shared = []
    for number, (folder, base) in enumerate(zip(folders, bases, strict=True)):
        processor = load_parts(folder)[1]
        check_vocabulary(folder, model, processor)
        view = AdapterView(model, adapted, None if folder == base else f"adapter{number}", lock)
        shared.append((view, processor, model_name(folder, base, model)))
    return shared


def token_side(config: PreTrainedConfig) -> int:
    """Return the side of one visual token in pixels: patch size times merge size; 1 if the processor resizes images itself."""
    if not takes_grids(config):
        return 1
    vision = config.vision_config
    return vision.patch_size * vision.spatial_merge_size
