"""Weight files of a model folder: validation before loading, and writing.

A safetensors file begins with a table of its tensors, so a download that was cut off, a Git LFS pointer or a missing shard is found in
a few reads, before any memory is taken.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from embedrl.errors import ModelError
from embedrl.files import flaw, read_json_file
from embedrl.log import warn
from embedrl.media.content import folder_fingerprint
from embedrl.models.names import GATE_FILES

MODEL_FILES = (".safetensors", ".json", ".jinja")
"""Suffixes of the files that decide what a model does."""
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
HEAD = "lm_head.weight"
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the format."""
_NUM_SHOWN = 5
_NUMBERS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types of weights that are what they say, as safetensors name them."""
_SAYS_HOW = frozenset({"quantization_config", "compression_config"})
"""Keys of a config.json that say how weights of other types are read."""
_PACKS = frozenset({"bitsandbytes", "fp8"})
"""Methods of quantization whose `weight` tensors are of other types."""
_UNUSABLE = {
    ("*.bin", "*.pt", "*.pth", "*.ckpt"): "pickles, which run code when they are read: convert them to safetensors, or take another copy",
    ("*.gguf",): "of llama.cpp: serve them there, and give the URL of the server as the Reasoner",
}
"""Weights in other formats, and what to do with them."""


def model_fingerprint(folder: Path) -> str:
    """Return a fingerprint (12 hex digits) of the files that decide what a model does; gates that were fitted to it are none of them."""
    return folder_fingerprint(folder, MODEL_FILES, without=GATE_FILES.values())


def list_some(problems: Sequence[str]) -> str:
    """Return the first few of many problems, and the number of the others."""
    others = len(problems) - _NUM_SHOWN
    return "; ".join(problems[:_NUM_SHOWN]) + (f"; and {others} more" if others > 0 else "")


def read_model_json(path: Path, *, kind: type = dict) -> Any:
    """Read a JSON file of a model folder: an object, or a list. Raises ModelError."""
    return read_json_file(path, ModelError, "download it again", kind=kind)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a safetensors file, which must be whole. Raises ModelError, without the folder."""
    return {name: shape for name, (shape, _) in _tensors(path).items()}


def _tensors(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return the name, shape and type of numbers of every tensor, as `tensor_shapes` does."""
    if wrong := flaw(path):
        raise ModelError(f"{path.name} {wrong}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, _MAX_HEADER_BYTES):
            raise ModelError(f"{path.name} is no safetensors file, or cut off")
        header = file.read(length)
    try:
        table = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        tensors = {name: (tuple(map(int, entry["shape"])), str(entry["dtype"])) for name, entry in table.items()}
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in table.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path.name} is no safetensors file, or cut off") from error
    if size != end:
        raise ModelError(f"{path.name} holds {size:,} of {end:,} bytes")
    return tensors


def check_files(folder: Path) -> None:
    """Check that all of a model's weight files are there and whole. Raises one ModelError that lists what is wrong."""
    if (folder / WEIGHTS).exists() or (folder / WEIGHTS).is_symlink():
        names: Mapping[str, list[str]] = {WEIGHTS: []}
        if (folder / SHARDS).exists():
            warn(f"{str(folder)!r} has {WEIGHTS} beside {SHARDS}: the first is read, and its shards are not; remove what is out of date")
    elif (folder / SHARDS).exists():
        names = _shards(folder)
    else:
        raise ModelError(f"{str(folder)!r} has no {WEIGHTS}{_other_weights(folder)}")
    problems: list[str] = []
    packed: list[str] = []
    for name, tensors in sorted(names.items()):
        try:
            held = _tensors(folder / name)
        except ModelError as error:
            problems.append(str(error))
            continue
        if absent := sorted(set(tensors) - held.keys()):
            problems.append(f"{name} lacks {list_some(absent)}")
        packed += [f"{tensor} ({kind})" for tensor, (_, kind) in held.items() if tensor.endswith("weight") and kind not in _NUMBERS]
    refuse_unfinished(folder, problems)
    config = read_model_json(folder / "config.json")
    says = config.get("quantization_config")
    if not packed and isinstance(says, dict) and (method := says.get("quant_method", "bitsandbytes")) in _PACKS:
        raise ModelError(
            f"{str(folder)!r}: config.json says that its weights are quantised ({method}), and none is: "
            "remove quantization_config from it, or download the weights that it is of"
        )
    if packed and not any(_SAYS_HOW & part.keys() for part in (config, *config.values()) if isinstance(part, dict)):
        raise ModelError(
            f"{str(folder)!r}: {len(packed)} weights are quantised, and config.json has no quantization_config that says how: "
            f"{list_some(packed)}; download both again"
        )


def refuse_unfinished(folder: Path, problems: Sequence[str]) -> None:
    """Raise a ModelError that lists what is wrong with a folder's weight files, if anything is."""
    if problems:
        remedy = "download them again (with Git: `git lfs pull`)"
        raise ModelError(f"{str(folder)!r}: {len(problems)} weight files are not whole: {list_some(problems)}; {remedy}")


def _shards(folder: Path) -> dict[str, list[str]]:
    """Return the names of the tensors that each shard holds by the folder's index."""
    table = read_model_json(folder / SHARDS).get("weight_map")
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise ModelError(f"{str(folder / SHARDS)!r} has no weight_map: download it again")
    shards: dict[str, list[str]] = {}
    for tensor, name in table.items():
        if Path(name).name != name:
            raise ModelError(f"{str(folder / SHARDS)!r} names {name!r}: shards lie beside their index")
        shards.setdefault(name, []).append(tensor)
    return shards


def _other_weights(folder: Path) -> str:
    for patterns, remedy in _UNUSABLE.items():
        if others := sorted(path.name for pattern in patterns for path in folder.glob(pattern)):
            return f"; its weights ({list_some(others)}) are {remedy}"
    return f", nor {SHARDS}: download its weights"


def refuse_unfit(folder: Path, model: PreTrainedModel, info: Mapping[str, Any], *, headless: bool) -> None:
    """Raise one ModelError that lists every weight that is missing, left over or of another shape, by transformers' loading info."""
    names: dict[str, list[str]] = {}
    names["missing"] = sorted(info["missing_keys"])
    names["unexpected"] = sorted(name for name in info["unexpected_keys"] if not (headless and name == HEAD))
    names["misshapen"] = sorted(f"{name} ({_shape(held)}, not {_shape(wanted)})" for name, held, wanted in info["mismatched_keys"])
    if names["missing"] == [HEAD] and not names["unexpected"]:
        raise ModelError(f"{str(folder)!r} has no language model head ({HEAD}): it gives vectors and cannot write; it is no Reasoner")
    problems = [f"{len(weights)} {kind}: {list_some(weights)}" for kind, weights in names.items() if weights]
    problems += map(str, info.get("error_msgs") or ())
    if problems:
        raise ModelError(f"{str(folder)!r}: the weights do not fit a {type(model).__name__} of its config.json: {'. '.join(problems)}")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@torch.no_grad()
def refuse_nonfinite(folder: Path, model: nn.Module) -> None:
    """Raise a ModelError that lists the weights with NaN or infinite numbers, if there are any."""
    wrong = []
    for name, weight in model.named_parameters():
        # a sum is quick and takes no memory; one that is not finite may still be of finite numbers
        if weight.is_floating_point() and not math.isfinite(float(weight.sum())) and not bool(weight.isfinite().all()):
            wrong.append(name)
    if wrong:
        raise ModelError(f"{str(folder)!r}: {len(wrong)} weights hold NaN or infinite numbers: {list_some(wrong)}; the model is broken")


def num_rows(model: Any) -> int:
    """Return the number of rows of a model's token embedding."""
    return model.get_input_embeddings().num_embeddings


def keep_head_source(model: PreTrainedModel, folder: Path, info: Mapping[str, Any]) -> None:
    """Remember where the head of a model lies that was loaded without it, so that it can be written again."""
    if HEAD in info["unexpected_keys"]:
        vars(model)["head_source"] = folder


def _read_head(folder: Path, rows: int) -> Tensor:
    """Read a head; rows for tokens that were added since are zero. Raises ModelError."""
    try:
        shard = read_model_json(folder / SHARDS)["weight_map"][HEAD] if (folder / SHARDS).exists() else WEIGHTS
        with safe_open(folder / shard, "pt") as file:
            head = file.get_tensor(HEAD)
    except (KeyError, OSError) as error:
        raise ModelError(f"{str(folder)!r}: its language model head cannot be read any more, to be written again ({error})") from error
    return torch.cat([head, head.new_zeros(max(0, rows - len(head)), head.shape[1])])


def save_bf16(model: PreTrainedModel, folder: Path, **config: Any) -> None:
    """Write weights as bf16 safetensors. The model in memory keeps its precision.

    A model without a head is written in the layout of one with it, which is what other engines look for; so its weights' names are those
    of the published models. A head that is not tied to the embedding is written as it was in the folder that the model was loaded from.
    `config` is added to config.json.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError("a quantized model cannot be saved: load it without --quantize")
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    if model.base_model is model:
        state = {f"model.{name}": tensor for name, tensor in state.items()}
        if source := vars(model).get("head_source"):
            state[HEAD] = _read_head(source, num_rows(model)).to(torch.bfloat16)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(model.config)
    model.save_pretrained(folder, state_dict=state)
    if config:
        saved = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        saved.update({**config, "architectures": [type(model).__name__]})
        saved.save_pretrained(folder)


def gather_shards(model: nn.Module) -> None:
    """Gather FSDP-sharded weights in place in every process, for saving only."""
    whole: dict[int, nn.Parameter] = {}  # weights that several modules share stay one
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                if id(weight) not in whole:
                    whole[id(weight)] = nn.Parameter(weight.full_tensor(), weight.requires_grad)
                setattr(module, name, whole[id(weight)])
