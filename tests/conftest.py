"""Shared pieces: a tiny random model of the real architecture, and the world's items."""

import random
from functools import lru_cache

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLModel, Qwen3VLProcessor

from embedrl.app.models import shipped
from embedrl.embedder.embedder import Embedder
from embedrl.nano.data import EMBEDDER_BUDGET, REASONER_BUDGET
from embedrl.nano.models import nano_config
from embedrl.nano.tokenizer import SPECIAL
from embedrl.reasoner.local import LocalReasoner, ReasonerSettings
from embedrl.world.tasks import TASKS, Side, draw_family


@lru_cache
def nano_processor() -> Qwen3VLProcessor:
    """The shipped tokenizer and image processors."""
    return Qwen3VLProcessor.from_pretrained(shipped("embedder")["nano"], local_files_only=True)


def _config():
    tokenizer = nano_processor().tokenizer
    return nano_config(len(tokenizer), {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL})


@pytest.fixture
def random_embedder() -> Embedder:
    """An Embedder with random weights."""
    torch.manual_seed(0)
    return Embedder(Qwen3VLModel(_config()), nano_processor(), EMBEDDER_BUDGET, "random")


@pytest.fixture
def random_reasoner() -> LocalReasoner:
    """A Reasoner with random weights, which writes nonsense."""
    torch.manual_seed(0)
    settings = ReasonerSettings(prompts="nano", budget=REASONER_BUDGET, max_new_tokens=12)
    return LocalReasoner(Qwen3VLForConditionalGeneration(_config()), nano_processor(), settings, "random")


@pytest.fixture
def mixed_sides() -> list[Side]:
    """Both sides of one pair of every task: text, pictures, clips and pages."""
    rng = random.Random(7)
    return [side for task in TASKS for side in draw_family(task, "test", rng, num_variants=0)[0]]
