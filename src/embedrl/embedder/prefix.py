"""Prefix caching for groups of T-CoTs of one item: media and text are encoded once, suffixes as a batch.

The inputs of a group agree up to their T-CoTs. That prefix (vision tower and attention states) is computed once per item,
its states are handed to every member, and the rest of all members runs as one batch. The vectors are those of
`Embedder.embed` up to rounding: tests/test_prefix.py holds them at cosine >= 0.99999.
"""
# G groups in a batch, N members in all, I images, P longest prefix, S longest rest, L longest sequence

from collections.abc import Sequence
from itertools import accumulate, takewhile

import numpy as np
import torch
from torch import Tensor

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder, batches, encode_concurrently
from embedrl.embedder.inputs import FRAME_SECONDS, DecodedItem, EmbedderInput
from embedrl.models.architectures import shares_prefix
from embedrl.models.qwen3_vl_fast import CACHE, hidden_states_at, prefill


def embed_groups(
    embedder: Embedder, items: Sequence[Item], tcots: Sequence[Sequence[TCoT | None]], *, show_evidence: bool = True
) -> list[np.ndarray]:
    """Return for each item float32 (its number of T-CoTs, dim), unit length, in order. Equal T-CoTs are encoded once."""
    distinct = [list(dict.fromkeys(group)) for group in tcots]
    built: list[list[EmbedderInput]] = []
    for item, group in zip(items, distinct, strict=True):
        seen = DecodedItem(item, embedder.budget, embedder.factor) if group else None
        built.append([embedder.build(item, tcot, show_evidence=show_evidence, seen=seen) for tcot in group])
    vectors: list[np.ndarray] = [np.zeros((0, embedder.dim), np.float32)] * len(items)
    filled = [number for number, group in enumerate(built) if group]
    lengths, sizes = [max(embedder.lengths(built[number])) for number in filled], [len(built[number]) for number in filled]
    grouped = [[filled[place] for place in places] for places in batches(lengths, sizes, embedder.batch_tokens)[::-1]]
    encode = encode_groups if shares_prefix(embedder.model) else _encode_members
    states_of_batches = encode_concurrently(
        lambda batch: encode(embedder, [built[number] for number in batch]), grouped, embedder.model.device
    )
    for batch, states in zip(grouped, states_of_batches, strict=True):
        batch_vectors = states.float().cpu().numpy()
        starts = accumulate((len(built[number]) for number in batch), initial=0)
        for number, start in zip(batch, starts, strict=False):
            place = {tcot: start + row for row, tcot in enumerate(distinct[number])}
            vectors[number] = batch_vectors[[place[tcot] for tcot in tcots[number]]]
    return vectors


@torch.inference_mode()
def encode_groups(embedder: Embedder, groups: Sequence[Sequence[EmbedderInput]]) -> Tensor:
    """Return the vectors of all members, group after group: (N, dim), unit length. A group's inputs are of one item."""
    model, device = embedder.model, embedder.model.device
    batch = embedder.collate([member for group in groups for member in group])
    ids_NL, mask_NL = batch["input_ids"], batch["attention_mask"]
    sizes_G = torch.tensor([len(group) for group in groups], device=device)
    owner_N = torch.arange(len(groups), device=device).repeat_interleave(sizes_G)
    first_G = sizes_G.cumsum(0) - sizes_G
    own_N = torch.tensor([_own_images(group[0]) for group in groups], device=device)[owner_N]

    row_I, rank_I = _places(batch["num_images_per_sample"])
    in_prefix_I = rank_I < own_N[row_I]
    cut_G = _cut(batch, sizes_G.tolist(), _visual_tokens(batch, model.config.vision_config.spatial_merge_size, row_I, in_prefix_I))
    cut_N = cut_G[owner_N]
    positions_3NL, _ = model.get_rope_index(
        ids_NL,
        batch["mm_token_type_ids"],
        batch.get("image_grid_thw"),
        batch.get("video_grid_thw"),
        attention_mask=mask_NL,
        **({FRAME_SECONDS: batch[FRAME_SECONDS]} if FRAME_SECONDS in batch else {}),
    )

    is_first_N = torch.zeros(len(ids_NL), dtype=torch.bool, device=device).index_fill(0, first_G, True)
    row_V, _ = _places(batch["num_videos_per_sample"])
    span_P = torch.arange(int(cut_G.max()), device=device)
    held_GP = span_P < cut_G[:, None]
    cache = prefill(
        model,
        input_ids=ids_NL[first_G][:, span_P].masked_fill(~held_GP, embedder.processor.tokenizer.pad_token_id),
        attention_mask=held_GP.long(),
        position_ids=positions_3NL[:, first_G][..., span_P],
        **_images(batch, "image_grid_thw", "pixel_values", in_prefix_I & is_first_N[row_I]),
        **_images(batch, "video_grid_thw", "pixel_values_videos", is_first_N[row_V]),
    )
    cache.batch_select_indices(owner_N)

    rest_N = mask_NL.sum(1) - cut_N
    span_S = torch.arange(int(rest_N.max()), device=device)
    index_NS = (cut_N[:, None] + span_S).clamp(max=ids_NL.shape[1] - 1)
    state_NH = hidden_states_at(
        model,
        rest_N - 1,
        input_ids=ids_NL.gather(1, index_NS),
        attention_mask=torch.cat([held_GP[owner_N], span_S < rest_N[:, None]], dim=1).long(),
        position_ids=positions_3NL.gather(2, index_NS.expand(3, -1, -1)),
        **{CACHE: cache},
        use_cache=True,
        **_images(batch, "image_grid_thw", "pixel_values", ~in_prefix_I),
    )
    return embedder.project(torch.nn.functional.normalize(state_NH.float(), dim=-1))


def _encode_members(embedder: Embedder, groups: Sequence[Sequence[EmbedderInput]]) -> Tensor:
    """Encode every member without prefix sharing, for models that do not support it."""
    return embedder.encode([member for group in groups for member in group])


def _own_images(built: EmbedderInput) -> int:
    """Return the number of the item's own images, which come before any text; crops come after it."""
    own = takewhile(lambda part: part["type"] != "text", built.parts)
    return sum(part["type"] == "image" for part in own)


def _places(count_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of each image and its index among the row's images, both (I,)."""
    row_I = torch.arange(len(count_N), device=count_N.device).repeat_interleave(count_N)
    return row_I, torch.arange(len(row_I), device=count_N.device) - (count_N.cumsum(0) - count_N)[row_I]


def _visual_tokens(batch: dict[str, Tensor], merge_size: int, row_I: Tensor, wanted_I: Tensor) -> Tensor:
    """Return the number of visual tokens of the selected images per row, (N,)."""
    count_N = torch.zeros_like(batch["num_images_per_sample"])
    if "image_grid_thw" not in batch:
        return count_N
    tokens_I = batch["image_grid_thw"].prod(1) // merge_size**2
    return count_N.index_add(0, row_I, tokens_I * wanted_I)


def _cut(batch: dict[str, Tensor], sizes: Sequence[int], own_tokens_N: Tensor) -> Tensor:
    """Return the length of each group's shared prefix (G,): up to the first difference or crop, and never a whole row."""
    is_crop_NL = (batch["mm_token_type_ids"] == 1).cumsum(1) > own_tokens_N[:, None]
    cuts = []
    for ids, mask, is_crop in zip(
        *(part.split(list(sizes)) for part in (batch["input_ids"], batch["attention_mask"], is_crop_NL)), strict=True
    ):
        differs = (ids != ids[:1]).any(0) | is_crop.any(0)
        shortest = int(mask.sum(1).min())
        cuts.append(int(torch.cat([differs[: shortest - 1], differs.new_ones(1)]).int().argmax()))
    return torch.tensor(cuts, device=own_tokens_N.device)


def _images(batch: dict[str, Tensor], grid_name: str, pixels_name: str, wanted_I: Tensor) -> dict[str, Tensor]:
    """Return grids and patches of the selected images or videos; empty if there are none."""
    if grid_name not in batch or not wanted_I.any():
        return {}
    grid = batch[grid_name]
    return {grid_name: grid[wanted_I], pixels_name: batch[pixels_name][wanted_I.repeat_interleave(grid.prod(1))]}
