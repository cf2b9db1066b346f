"""Vision attention with shared calls gives what transformers gives."""

import random

import torch

from embedrl.backbone import batch_vision_attention
from embedrl.embedder.inputs import build, collate
from embedrl.nano.data import EMBEDDER_BUDGET
from embedrl.nano.models import FACTOR
from embedrl.world.tasks import draw_family
from tests.conftest import nano_processor, tiny_config


def test_pictures_of_all_sizes_are_seen_alike() -> None:
    from transformers import Qwen3VLModel

    torch.manual_seed(0)
    model = Qwen3VLModel(tiny_config()).eval()
    rng = random.Random(0)
    sides = [draw_family(task, "test", rng, num_variants=0)[0][1] for task in ("image_t2i", "visdoc_table", "video_t2v", "image_grounding")]
    batch = collate(nano_processor(), [build(side.item, side.truth, EMBEDDER_BUDGET, FACTOR) for side in sides])
    inputs = {name: value for name, value in batch.items() if not name.startswith("num_")}
    assert len({tuple(grid) for grid in batch["image_grid_thw"].tolist()}) > 2, "the batch must mix sizes"
    with torch.no_grad():
        plain = model(**inputs).last_hidden_state
        shared = batch_vision_attention(model)(**inputs).last_hidden_state
    assert (plain - shared).abs().max() < 1e-5
