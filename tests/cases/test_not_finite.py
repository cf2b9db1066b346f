"""A loss, gradient or weight that is not finite ends a run, names the step, and leaves no finished model.

Reported: a NaN training was reported as loss 0.0 and saved as finished (models.md F9; https://github.com/huggingface/trl/issues/6702).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from embedrl.config import Lora, Metrics
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError, ModelError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.integrations.documents import embed_query, embed_texts
from embedrl.models.names import shipped
from embedrl.models.training import require_finite
from embedrl.nano.build import build_judge
from embedrl.nano.data import SFTExamples
from embedrl.nano.recipes import JudgeRecipe, VisionConfig
from embedrl.nano.vision import directions, train_vision
from embedrl.pipelines.train_embedder import train_embedder
from embedrl.reasoner import train as sft
from embedrl.rl.config import Config, RewardConfig
from embedrl.rl.train import train
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.conftest import make_random_embedder, make_random_reasoner, tiny_config
from tests.test_rl_train import Scorer, make_pairs

HUGE = {"learning_rate": 1e38, "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "use_cpu": True, "save_steps": 1}


def test_the_embedder_stops_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    make_random_embedder().save(tmp_path / "start")
    recipe = EmbedderRecipe(
        out=tmp_path / "run", start_from=tmp_path / "start", num_batches=4, batch_size=4, mini_batch_size=4, trainer=HUGE
    )
    with pytest.raises(ModelError, match=r"step [12]: (a gradient|a weight|the loss) is not finite"):
        train_embedder(recipe)
    assert not (tmp_path / "run/model").exists()


def test_the_supervised_stage_stops(tmp_path: Path) -> None:
    reasoner = make_random_reasoner()
    examples: Dataset = SFTExamples(0, 4, 2, num_answers=4)
    config = sft.Config(out=tmp_path, trainer={**HUGE, "per_device_train_batch_size": 2, "max_steps": 4})
    with pytest.raises(ModelError, match=r"step \d: .* is not finite"):
        sft.train(reasoner.model, reasoner.processor, examples, config)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4)], ids=["all weights", "adapter"])
def test_eg_rl_stops_and_keeps_the_checkpoint_before(lora: Lora | None, tmp_path: Path) -> None:
    """A first step of no size is saved; from there on each is far too large, so that a later one cannot even be sampled."""
    trainer = {"max_steps": 4, "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 4, "save_steps": 1}
    trainer |= {"learning_rate": 1e30, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1, "bf16": False}
    trainer |= {"gradient_checkpointing": False, "use_cpu": True}
    config = Config(out=tmp_path, family_size=2, rewards=RewardConfig(process_weight=0), trainer=trainer, lora=lora)
    with pytest.raises(ModelError, match=r"step \d: .* is not finite.*checkpoint-\d"):
        train(make_random_reasoner(), make_pairs(), Scorer(), config)
    assert not (tmp_path / "adapter").exists()


def test_the_judge_stops_without_a_model(tmp_path: Path) -> None:
    start = shipped("reasoner")["nano-sft"]
    recipe = JudgeRecipe(out=tmp_path, start_from=start, batch_size=2, num_batches=4, learning_rate=1e30, warmup=1)
    with pytest.raises(ModelError, match=r"step \d: .* is not finite"):
        build_judge(recipe)
    assert not (tmp_path / "model").exists()


def test_the_vision_stage_stops_without_a_tower(tmp_path: Path) -> None:
    model, config = make_random_reasoner(), tiny_config()
    heads = directions(model.model.lm_head.weight, model.processor.tokenizer)
    settings = VisionConfig(steps=4, batch_size=2, learning_rate=1e38, warmup=2)
    with pytest.raises(ModelError, match=r"step \d: .* is not finite"):
        train_vision(config, heads, settings, tmp_path / "vision.safetensors", Metrics(tmp_path / "vision.jsonl"))
    assert not (tmp_path / "vision.safetensors").exists()


def test_what_is_missing_is_not_infinite() -> None:
    require_finite(1, "a gradient", [None, torch.zeros(2)])
    with pytest.raises(ModelError, match=r"step 3: the loss is not finite.*no checkpoint"):
        require_finite(3, "the loss", [torch.tensor(float("nan"))])


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 0.0])
def test_a_query_without_a_vector_has_no_hits(odd: float, tmp_path: Path) -> None:
    """Its hits were all items, with scores of NaN."""

    class Odd(FakeEmbedder):
        def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
            return np.full_like(super().embed(items, tcots), odd)

    (tmp_path / "a.txt").write_text("a red star", "utf-8")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    ingest(tmp_path, index, FakeReasoner(), FakeEmbedder())
    with pytest.raises(ModelError, match="is not of unit length"):
        embed_texts(Odd(), ["red"])
    with pytest.raises(ModelError, match="is not of unit length"):
        embed_query(Odd(), "red")
    for think in (True, False):
        with pytest.raises(ModelError, match=r"that of item .* \('red'\) is not of unit length"):
            search(index, Query(content="red", use_tcot=think), Odd(), FakeReasoner())


def test_numbers_of_a_page_are_whole() -> None:
    for name in ("limit", "offset"):
        assert getattr(Query(content="red", **{name: np.int64(2)}), name) == 2
        with pytest.raises(ConfigError, match=rf"{name}=2\.5: give a whole number"):
            Query(content="red", **{name: 2.5})
