"""The shortcuts give what transformers gives."""

import random
from typing import Any

import pytest
import torch
from transformers import Qwen3VLModel

from embedrl.embedder.inputs import build, collate
from embedrl.models.qwen3_vl_fast import CACHE, hidden_states_at, patch_forward, prefill
from embedrl.nano.data import EMBEDDER_BUDGET
from embedrl.nano.models import FACTOR
from embedrl.world.tasks import draw_family
from tests.conftest import nano_processor, tiny_config

TASKS = ("image_t2i", "visdoc_table", "video_t2v", "image_grounding")


def models(**text_config: int) -> tuple[Qwen3VLModel, Qwen3VLModel]:
    """The same random weights, as they are and with the shortcuts."""
    config = tiny_config()
    for name, value in text_config.items():
        setattr(config.text_config, name, value)
    torch.manual_seed(0)
    plain = Qwen3VLModel(config).eval()
    quick = Qwen3VLModel(config).eval()
    quick.load_state_dict(plain.state_dict())
    return plain, patch_forward(quick)


def batch(*, repeats: int = 1) -> dict[str, torch.Tensor]:
    """Pictures, pages and clips with their crops and key frames, in one padded batch; each row `repeats` times."""
    rng = random.Random(0)
    sides = [draw_family(task, "test", rng, num_variants=0)[0][1] for task in TASKS] * repeats
    found = collate(nano_processor(), [build(side.item, side.truth, EMBEDDER_BUDGET, FACTOR) for side in sides])
    return {name: value for name, value in found.items() if not name.startswith("num_")}


def count_patches(model: Qwen3VLModel) -> list[int]:
    """Note how many patches the tower's first layer gets in each call."""
    seen: list[int] = []
    model.visual.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


@torch.no_grad()
def test_pictures_of_all_sizes_are_seen_alike() -> None:
    plain, quick = models()
    inputs = batch()
    assert len({tuple(grid) for grid in inputs["image_grid_thw"].tolist()}) > 2, "the batch must mix sizes"
    assert (plain(**inputs).last_hidden_state - quick(**inputs).last_hidden_state).abs().max() < 1e-5


@torch.no_grad()
def test_equal_pictures_are_looked_at_once() -> None:
    plain, quick = models()
    inputs = batch(repeats=3)
    whole, part = count_patches(plain), count_patches(quick)
    assert (plain(**inputs).last_hidden_state - quick(**inputs).last_hidden_state).abs().max() < 1e-5
    assert [len(calls) for calls in (whole, part)] == [2, 2], "pictures, clips"
    assert all(3 * few <= many for few, many in zip(part, whole, strict=True))


@torch.no_grad()
def test_pictures_that_differ_in_one_number_are_two() -> None:
    plain, quick = models()
    inputs = batch(repeats=2)
    inputs["pixel_values"][0, 0] += 1e-3
    part = count_patches(quick)
    found = quick(**inputs).last_hidden_state
    assert (plain(**inputs).last_hidden_state - found).abs().max() < 1e-5
    once = count_patches(quick)
    quick(**batch(repeats=2))
    assert part[0] - once[0] == int(inputs["image_grid_thw"][0].prod()), "one picture more"


@torch.no_grad()
@pytest.mark.parametrize("shared_heads", [6, 2], ids=["as many keys as queries", "shared keys"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_states_at_one_place_of_each_row(shared_heads: int, attention: str) -> None:
    both = models(num_key_value_heads=shared_heads)
    for model in both:
        model.set_attn_implementation(attention)
    inputs = batch()
    place = inputs["attention_mask"].sum(1) - torch.tensor([1, 2, 1, 5])
    expected = both[0](**inputs).last_hidden_state[torch.arange(len(place)), place]
    work = mlp_rows(both[1])
    assert (hidden_states_at(both[1], place, **inputs, use_cache=False) - expected).abs().max() < 1e-5
    assert work == [inputs["input_ids"].numel(), len(place)], "the first layer works on all tokens, the last on those that are wanted"


@torch.no_grad()
def test_a_cache_made_for_itself_goes_on_like_any_other() -> None:
    plain, quick = models()
    ids = batch()["input_ids"][:, :24]
    text = ids.masked_fill(ids >= tiny_config().image_token_id - 8, 5)
    expected = plain(input_ids=text).last_hidden_state[:, -1]
    work = mlp_rows(quick)
    cache = prefill(quick, input_ids=text[:, :16])
    assert work == [text[:, :16].numel()], "the last layer leaves keys and values, and does nothing else"
    last = torch.full((len(text),), 7)
    assert (hidden_states_at(quick, last, input_ids=text[:, 16:], **{CACHE: cache}) - expected).abs().max() < 1e-5


def test_training_mode_takes_no_shortcut() -> None:
    plain, quick = models()
    inputs = batch(repeats=2)
    work, patches = mlp_rows(quick.train()), count_patches(quick)
    with torch.no_grad():  # the first pass of gradient caching
        hidden_states_at(quick, inputs["attention_mask"].sum(1) - 1, **inputs, use_cache=False)
    assert work == [inputs["input_ids"].numel()] * 2
    expected = count_patches(plain)
    plain(**inputs)
    assert patches == expected


def mlp_rows(model: Qwen3VLModel) -> list[int]:
    """Note on how many tokens the first and the last layer's MLP work."""
    seen: list[int] = []

    def note(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(args[0].numel() // args[0].shape[-1])

    for layer in (model.language_model.layers[0], model.language_model.layers[-1]):
        layer.mlp.register_forward_pre_hook(note)
    return seen


@torch.no_grad()
def test_a_tower_that_is_asked_for_more_answers_as_ever() -> None:
    """States of every layer were those of distinct pictures alone, and a tuple was an AttributeError."""
    plain, quick = models()
    inputs = batch(repeats=2)
    given = {"hidden_states": inputs["pixel_values"], "grid_thw": inputs["image_grid_thw"]}
    states = [model.visual(**given, output_hidden_states=True).hidden_states for model in (plain, quick)]
    assert [tensor.shape for tensor in states[0]] == [tensor.shape for tensor in states[1]]
    tuples = [model.visual(**given, return_dict=False) for model in (plain, quick)]
    assert (tuples[0][0] - tuples[1][0]).abs().max() < 1e-5
