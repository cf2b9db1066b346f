"""EG-RL trains at the positions at which it sampled, whatever side the tokenizer pads on.

Reported: pictures of different sizes on the published Instruct layout (right padding) crash or train at misplaced positions
(models.md F1; https://github.com/huggingface/trl/issues/5785).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from embedrl.data.sample import Item, Pair, Role
from embedrl.media.content import Image, Text
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.reasoner.local import LocalReasoner
from embedrl.rl.config import Config, RewardConfig
from embedrl.rl.train import train
from tests.checkpoints import write_embed_rl, write_instruct
from tests.conftest import make_random_reasoner
from tests.test_rl_train import Scorer
from tests.test_rl_train import make_pairs as world_pairs

SMALL = PixelRange(min_pixels=1024, max_pixels=64 * 64)
BUDGET = VisualBudget(image=PixelRange(min_pixels=1024, max_pixels=160 * 160), frame=SMALL, crop=SMALL)
SIZES = [(64, 48), (160, 96), (96, 160), (32, 32), (128, 128), (50, 37), (160, 32)]


def image(seed: int, size: tuple[int, int]) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image(pixels=PIL.Image.fromarray(pixels))


def caption_pairs() -> list[Pair]:
    """Images of different sizes with texts of different lengths; a side with two images, and one with none."""
    pairs = []
    for number, size in enumerate(SIZES):
        shown = (image(number, size), *([image(90, (32, 64))] if number == 2 else []))
        query = Item(content=shown, role=Role.QUERY_IMAGE, instruction="Find a caption.")
        target = Item(content=(Text(text="a caption " * (number + 1)),), role=Role.TARGET_TEXT)
        pairs.append(Pair(task="caption", query=query, target=target))
    return [*pairs, world_pairs()[-1].model_copy(update={"task": "caption"})]


def instruct(folder: Path, write: Callable[..., Path]) -> LocalReasoner:
    reasoner = LocalReasoner.load(write(folder / "model"), dtype="float32")
    assert reasoner.processor.tokenizer.padding_side == "right"
    reasoner.settings = reasoner.settings.model_copy(update={"prompts": "nano", "budget": BUDGET})
    return reasoner


def nano(folder: Path) -> LocalReasoner:
    return make_random_reasoner()


class Passes:
    """What a model was given and what it answered: one step of sampling after the other, then what was trained."""

    def __init__(self, model: Any) -> None:
        self.sampled: list[torch.Tensor] = []
        self.trained: list[dict[str, torch.Tensor]] = []
        model.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, model: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        if kwargs.get("fused_lm_head"):
            seen = {name: kwargs[name] for name in ("input_ids", "attention_mask", "labels", "mm_token_type_ids")}
            self.trained.append({**seen, "log_probs": outputs.log_probs.detach()})
        else:
            self.sampled.append(outputs.logits[:, -1].detach().log_softmax(-1))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda folder: instruct(folder, write_instruct), id="instruct"),
        pytest.param(lambda folder: instruct(folder, write_embed_rl), id="embed-rl", marks=pytest.mark.slow),
        pytest.param(nano, id="nano", marks=pytest.mark.slow),
    ],
)
def test_log_probabilities_as_trained_are_those_as_sampled(make: Callable[[Path], LocalReasoner], tmp_path: Path) -> None:
    reasoner = make(tmp_path)
    side, passes = reasoner.processor.tokenizer.padding_side, Passes(reasoner.model)
    trainer = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4, "num_generations": 4, "max_completion_length": 6}
    trainer |= {
        "max_steps": 1,
        "learning_rate": 0.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "use_cpu": True,
    }
    scorer = Scorer()
    train(reasoner, caption_pairs(), scorer, Config(out=tmp_path / "run", rewards=RewardConfig(process_weight=0), trainer=trainer))
    assert reasoner.processor.tokenizer.padding_side == side
    assert len(scorer.texts) == 64
    sampled = torch.stack(passes.sampled, 1)  # (64, steps, vocabulary)
    image_token = reasoner.model.config.image_token_id
    num_seen, trained_rows = 0, {}
    for batch in passes.trained:
        assert torch.equal(batch["mm_token_type_ids"], (batch["input_ids"] == image_token).long())
        for ids, mask, labels, log_probs in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], batch["log_probs"], strict=True
        ):
            answer = ids[labels != -100]
            prompt = ids[(labels == -100) & (mask == 1)]
            shown = log_probs[int((labels != -100).nonzero()[0]) - len(ids) :][: len(answer)]  # log_probs end where ids end
            trained_rows.setdefault((tuple(prompt.tolist()), tuple(answer.tolist())), shown)
            num_seen += 1
    assert num_seen >= 64
    assert len({prompt for prompt, _ in trained_rows}) == 16
    for (_, answer), log_probs in trained_rows.items():
        gaps = []
        for scores in sampled:
            steps = torch.arange(min(len(answer), len(scores)))
            gaps.append((scores[steps, torch.tensor(answer)[steps]] - log_probs[: len(steps)]).abs().max().item())
        assert min(gaps) < 1e-4
