"""Faster forward passes for transformers' Qwen3-VL, same outputs: grouped vision attention, image deduplication, last-layer pruning.

- A vision layer runs one attention call per image; here images with equally many patches share one.
- Equal images of a batch (the rollouts of one item, its plain and its reasoned vector, the same crop twice) are looked at once.
- Whoever wants the states of a few tokens only (`hidden_states_at`) does not pay for the last layer's work on the others.

None is taken in training mode: gradient caching and gradient checkpointing run a pass twice and need it to draw the same dropout masks
(https://github.com/luyug/GC-DPR/issues/12).

`tests/test_shortcuts.py` holds each equal to what transformers computes.
"""
# N rows, L tokens a row, D dim; P patches, I images

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextDecoderLayer,
    Qwen3VLTextModel,
    Qwen3VLVisionAttention,
    Qwen3VLVisionModel,
    apply_rotary_pos_emb,
    apply_rotary_pos_emb_vision,
)

M = TypeVar("M", bound=PreTrainedModel)
_OTHER_OUTPUTS = {"output_hidden_states": True, "output_attentions": True, "return_dict": False}
"""Settings with which a tower returns other things than the states of its last layer."""
CACHE = "cache" if "cache" in inspect.signature(Qwen3VLTextModel.forward).parameters else "past_key_values"
"""Argument and output of a forward pass that hold the KV cache: renamed in transformers 5.24."""
_WANTED: ContextVar[Tensor | None] = ContextVar("wanted", default=None)
"""The place in each row whose last state is wanted (N,); empty if none is, but the cache; None if all are."""


def patch_forward(model: M) -> M:
    """Patch a model's vision attention, vision tower and last text layer with faster forward passes; fewer with flash attention."""
    for module in model.modules():
        flash = "flash" in (getattr(getattr(module, "config", None), "_attn_implementation", None) or "")
        if isinstance(module, Qwen3VLVisionModel):
            vars(module)["forward"] = _DistinctImages(module)
        elif isinstance(module, Qwen3VLVisionAttention) and not flash:
            vars(module)["forward"] = _GroupedAttention(module)
        elif isinstance(module, Qwen3VLTextModel) and not flash and len(module.layers) > _num_seeing(model):
            last: Any = module.layers[-1]
            vars(last)["forward"] = _WantedOnly(last)
    return model


def _num_seeing(model: PreTrainedModel) -> int:
    """Return the number of text layers that image features are added after (deepstack)."""
    return len(model.config.vision_config.deepstack_visual_indexes)


def hidden_states_at(model: Any, place_N: Tensor, **inputs: Any) -> Tensor:
    """Run a model and return the last hidden state at one position of each row: (N, D)."""
    with _wanting(place_N):
        states_NLD = model(**inputs).last_hidden_state
    rows = torch.arange(len(place_N), device=states_NLD.device)
    return states_NLD[rows, place_N if states_NLD.shape[1] > 1 else 0]


def prefill(model: Any, **inputs: Any) -> Cache:
    """Run a model only to fill its KV cache."""
    with _wanting(torch.empty(0)):
        return getattr(model(**inputs, use_cache=True), CACHE)


@contextmanager
def _wanting(place_N: Tensor | None) -> Generator[None]:
    token = _WANTED.set(place_N)
    try:
        yield
    finally:
        _WANTED.reset(token)


class _WantedOnly:
    """Forward pass of the last decoder layer: keys and values of all tokens, everything else only at the wanted positions."""

    def __init__(self, layer: Qwen3VLTextDecoderLayer) -> None:
        self.layer, self.whole = layer, layer.forward

    def __call__(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        **rest: Any,
    ) -> Tensor:
        place_N = _WANTED.get()
        if place_N is None or self.layer.training:
            return self.whole(hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask, **rest)
        layer, attention = self.layer, self.layer.self_attn
        normed_NLD = layer.input_layernorm(hidden_states)
        heads = (*normed_NLD.shape[:2], -1, attention.head_dim)
        cos, sin = position_embeddings
        key = attention.k_norm(attention.k_proj(normed_NLD).view(heads)).transpose(1, 2)
        key, _ = apply_rotary_pos_emb(key, key[:, :0], cos, sin)
        value = attention.v_proj(normed_NLD).view(heads).transpose(1, 2)
        cache: Cache | None = rest.get(CACHE)
        if cache is not None:
            key, value = cache.update(key, value, attention.layer_idx)
        if not len(place_N):
            return hidden_states[:, :0]
        rows = torch.arange(len(place_N), device=place_N.device)
        query = attention.q_norm(attention.q_proj(normed_NLD[rows, place_N]).view(len(rows), 1, -1, attention.head_dim)).transpose(1, 2)
        query, _ = apply_rotary_pos_emb(query, query[:, :0], cos[rows, place_N, None], sin[rows, place_N, None])
        seen = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=_seen_from(place_N, attention_mask, key.shape[2], hidden_states.shape[1]),
            scale=attention.scaling,
            enable_gqa=attention.num_key_value_groups > 1,
        )
        states_N1D = hidden_states[rows, place_N, None] + attention.o_proj(seen.transpose(1, 2).flatten(2))
        return states_N1D + layer.mlp(layer.post_attention_layernorm(states_N1D))


def _seen_from(place_N: Tensor, attention_mask: Tensor | None, num_keys: int, num_new: int) -> Tensor:
    """Return which keys the wanted token of each row sees: its row of the mask, or all before it where there is none (N, 1, 1, keys)."""
    if attention_mask is not None:
        rows = torch.arange(len(place_N), device=place_N.device)
        return attention_mask.expand(len(rows), -1, -1, -1)[rows, :, place_N, None, :num_keys]
    return (torch.arange(num_keys, device=place_N.device) <= (place_N + num_keys - num_new)[:, None])[:, None, None]


class _DistinctImages:
    """Forward pass of a vision tower on distinct images only."""

    def __init__(self, tower: Qwen3VLVisionModel) -> None:
        self.tower, self.whole = tower, tower.forward

    def __call__(self, hidden_states: Tensor, grid_thw: Tensor, **rest: Any) -> Any:
        # whoever asks for every layer's states, or for a tuple, gets what transformers gives
        asked = {name: rest.get(name, getattr(self.tower.config, name, None)) for name in _OTHER_OUTPUTS}
        if self.tower.training or any(value == _OTHER_OUTPUTS[name] for name, value in asked.items()):
            return self.whole(hidden_states, grid_thw=grid_thw, **rest)
        size_I = grid_thw.prod(1)
        first_I = _first_equals(hidden_states, grid_thw, size_I)
        kept = torch.nonzero(first_I == torch.arange(len(first_I), device=first_I.device)).flatten()
        if len(kept) == len(first_I):
            return self.whole(hidden_states, grid_thw=grid_thw, **rest)
        seen = self.whole(hidden_states[_runs(size_I, kept)], grid_thw=grid_thw[kept], **rest)
        source_I = torch.searchsorted(kept, first_I)
        patches = _runs(size_I[kept], source_I)
        tokens = _runs(size_I[kept] // self.tower.spatial_merge_size**2, source_I)
        seen.last_hidden_state = seen.last_hidden_state[patches]
        seen.pooler_output = seen.pooler_output[tokens]
        seen.deepstack_features = [feature[tokens] for feature in seen.deepstack_features]
        return seen


def _first_equals(pixels_P: Tensor, grid_I: Tensor, size_I: Tensor) -> Tensor:
    """Return for each image the index of the first equal one, (I,)."""
    first_I = torch.arange(len(size_I), device=size_I.device)
    ends_I = size_I.cumsum(0)
    for grid in grid_I.unique(dim=0):
        places = torch.nonzero((grid_I == grid).all(1)).flatten()
        if len(places) < 2:
            continue
        size = int(grid.prod())
        rows = pixels_P[((ends_I - size_I)[places, None] + torch.arange(size, device=places.device)).flatten()].view(len(places), -1)
        bits = rows.view(torch.int16).long()  # whole numbers: equal rows have equal sums, in whatever order they are added up
        _, number = (bits * torch.arange(1, 2 * bits.shape[1], 2, device=bits.device)).sum(1).unique(return_inverse=True)
        leader = torch.full_like(places, len(places)).scatter_reduce(0, number, torch.arange(len(places), device=places.device), "amin")
        equal = (rows == rows[leader[number]]).all(1)
        first_I[places] = torch.where(equal, places[leader[number]], places)
    return first_I


def _runs(size_I: Tensor, chosen: Tensor) -> Tensor:
    """Return the places of all entries of the chosen runs, in their order, of runs of the given sizes that stand one after another."""
    sizes = size_I[chosen]
    starts = (size_I.cumsum(0) - size_I)[chosen]
    within = torch.arange(int(sizes.sum()), device=sizes.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return starts.repeat_interleave(sizes) + within


class _GroupedAttention:
    """Forward pass of one vision attention layer, with one call per distinct image size."""

    def __init__(self, layer: Qwen3VLVisionAttention) -> None:
        self.layer, self.whole = layer, layer.forward

    def __call__(self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **rest: Any) -> Tensor:
        if self.layer.training:
            return self.whole(hidden_states, cu_seqlens=cu_seqlens, position_embeddings=position_embeddings, **rest)
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
