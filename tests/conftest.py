"""Shared pieces: tiny random models of the real architecture, and the world's items. Heavy imports wait for their fixture."""

import random
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import Qwen3VLProcessor

    from embedrl.embedder.embedder import Embedder
    from embedrl.reasoner.local import LocalReasoner
    from embedrl.world.tasks import Side


@lru_cache
def nano_processor() -> "Qwen3VLProcessor":
    """The shipped tokenizer and image processors."""
    from transformers import Qwen3VLProcessor

    from embedrl.models.names import shipped

    return Qwen3VLProcessor.from_pretrained(shipped("embedder")["nano"], local_files_only=True)


def make_random_embedder() -> "Embedder":
    """An Embedder with random weights, the same at each call."""
    import torch
    from transformers import Qwen3VLModel

    from embedrl.embedder.embedder import Embedder
    from embedrl.models.qwen3_vl_fast import patch_forward
    from embedrl.nano.data import EMBEDDER_BUDGET

    torch.manual_seed(0)
    return Embedder(patch_forward(Qwen3VLModel(tiny_config())), nano_processor(), EMBEDDER_BUDGET, "random")


def make_random_reasoner() -> "LocalReasoner":
    """A Reasoner with random weights, which writes nonsense; the same at each call."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    from embedrl.nano.data import REASONER_BUDGET
    from embedrl.reasoner.local import LocalReasoner, ReasonerSettings

    torch.manual_seed(0)
    settings = ReasonerSettings(prompts="nano", budget=REASONER_BUDGET, max_new_tokens=12)
    return LocalReasoner(Qwen3VLForConditionalGeneration(tiny_config()), nano_processor(), settings, "random")


def tiny_config():
    """The nano configuration with the shipped vocabulary."""
    from embedrl.nano.models import nano_config
    from embedrl.nano.tokenizer import SPECIAL

    tokenizer = nano_processor().tokenizer
    return nano_config(len(tokenizer), {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL})


@pytest.fixture
def random_embedder() -> "Embedder":
    """An Embedder with random weights."""
    return make_random_embedder()


@pytest.fixture
def random_reasoner() -> "LocalReasoner":
    """A Reasoner with random weights."""
    return make_random_reasoner()


@pytest.fixture
def mixed_sides() -> "list[Side]":
    """Both sides of one pair of every task: text, pictures, clips and pages."""
    from embedrl.world.tasks import TASKS, draw_family

    rng = random.Random(7)
    return [side for task in TASKS for side in draw_family(task, "test", rng, num_variants=0)[0]]


@pytest.fixture(autouse=True)
def process_as_alone() -> Iterator[None]:
    """Start each test with the global state of a fresh process, and undo what it changed: any order gives the same result.

    Decoding limits are set for a whole process by the command line; seeds, threads and dtype of torch are set by models and trainings.
    """
    random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
        before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    yield
    if torch is not None:
        num_threads, dtype, with_grad = before
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(with_grad)
    if store := sys.modules.get("embedrl.media.store"):
        store.put_in_force(store.DEFAULT)
