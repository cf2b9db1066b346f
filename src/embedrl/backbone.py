"""Loading Qwen3-VL weights for the Reasoner and the Embedder, and its vision attention made fast for many small pictures.

transformers runs one attention call per picture and layer; a batch of clips has hundreds of pictures. Pictures with equally
many patches are here one call: the same numbers, fewer kernels (`tests/test_backbone.py` holds them equal).
"""

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionAttention, apply_rotary_pos_emb_vision
from transformers.utils import logging as transformers_logging

from embedrl.errors import ModelError
from embedrl.media.content import folder_fingerprint

SETTINGS = "embedrl.json"
"""File beside the weights that holds what embedrl itself must know of a model, such as its pixel budget."""
M = TypeVar("M", bound=nn.Module)
_MODEL_FILES = (".safetensors", ".json", ".jinja")
"""Suffixes of the files that decide what a model does."""


def load(
    auto: Any, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, ProcessorMixin, str]:
    """Load a local model folder (safetensors only) with a transformers auto class.

    Returns the model, its processor and a name that changes with its files. Raises ModelError if the folder is no model.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{str(folder)!r} is not a model folder: config.json is missing")
    transformers_logging.disable_progress_bar()
    try:
        model = auto.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder)!r} cannot be loaded: {error}") from error
    return batch_vision_attention(model.to(device)), processor, f"{folder.name}-{folder_fingerprint(folder, _MODEL_FILES)}"


def save_bf16(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write weights as bf16 safetensors, and the processor. The model in memory keeps its precision."""
    model.save_pretrained(folder, state_dict={name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()})
    processor.save_pretrained(folder)


def token_side(model: PreTrainedModel) -> int:
    """Return the pixels a side of one visual token: patch size times merge size."""
    vision = model.config.vision_config
    return vision.patch_size * vision.spatial_merge_size


def batch_vision_attention(model: M) -> M:
    """Let pictures of equal size share attention calls, in every vision layer of a model that does not use flash attention."""
    for module in model.modules():
        if isinstance(module, Qwen3VLVisionAttention) and "flash" not in (module.config._attn_implementation or ""):
            vars(module)["forward"] = _GroupedAttention(module)
    return model


class _GroupedAttention:
    """The forward pass of one vision attention layer, one call per distinct picture size."""

    def __init__(self, layer: Qwen3VLVisionAttention) -> None:
        self.layer = layer

    def __call__(self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any) -> Tensor:
        layer, num_patches = self.layer, hidden_states.shape[0]
        query, key, value = layer.qkv(hidden_states).reshape(num_patches, 3, layer.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        lengths = cu_seqlens.diff()
        if (lengths == lengths[0]).all():
            seen = _attend(query, key, value, int(lengths[0]), layer.scaling)
        else:
            seen = torch.empty_like(query)
            for length in lengths.unique().tolist():
                rows = (cu_seqlens[:-1][lengths == length, None] + torch.arange(length, device=cu_seqlens.device)).flatten().long()
                seen = seen.index_copy(0, rows, _attend(query[rows], key[rows], value[rows], length, layer.scaling))
        return layer.proj(seen.reshape(num_patches, -1))


def _attend(query: Tensor, key: Tensor, value: Tensor, length: int, scale: float) -> Tensor:
    """Attend inside each run of `length` patches. All (patches, heads, head dim)."""
    split = (states.unflatten(0, (-1, length)).transpose(1, 2) for states in (query, key, value))
    return nn.functional.scaled_dot_product_attention(*split, scale=scale).transpose(1, 2).flatten(0, 1)
