"""`--quantize int8|int4`: the same model in fewer bits, another name, and a ModelError where it cannot be done.

Asked for: https://github.com/QwenLM/Qwen3-VL-Embedding/issues/6 and the many threads about models that do not fit.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from embedrl.cli.main import main
from embedrl.embedder.embedder import Embedder
from embedrl.errors import ConfigError, ModelError
from embedrl.models import quantize
from embedrl.models.names import shipped
from embedrl.models.placement import Placement, default_placement
from embedrl.models.quantize import quantized
from embedrl.runtime.names import load_both, load_embedder, load_reasoner
from tests.cases.test_remote_embedder import picture, text
from tests.checkpoints import write_embed_rl
from tests.test_checkpoints import write_adapter

ITEMS = [text("a small red star"), picture(), picture((20, 200, 30))]


@pytest.mark.parametrize(("kind", "least", "share"), [("int8", 0.999, 0.5), ("int4", 0.95, 0.35)])
def test_vectors_stay_near_and_the_name_says_it(kind: str, least: float, share: float, tmp_path: Path):
    whole, packed = load_embedder("nano"), load_embedder("nano", quantize=kind)
    assert isinstance(whole, Embedder)
    assert isinstance(packed, Embedder)
    cosines = (whole.embed(ITEMS, [None] * 3) * packed.embed(ITEMS, [None] * 3)).sum(axis=1)
    assert cosines.min() > least
    assert cosines.min() < 1 - 1e-6, "nothing was quantized"
    assert packed.model.get_memory_footprint() < share * whole.model.get_memory_footprint()
    assert quantized(packed.model) == kind
    assert packed.fingerprint != whole.fingerprint
    assert kind in packed.fingerprint
    plain = load_embedder("nano", quantize=kind, fast=False)
    assert np.abs(plain.embed(ITEMS, [None] * 3) - packed.embed(ITEMS, [None] * 3)).max() < 5e-3, "fast = plain, but for fp16 inputs"
    with pytest.raises(ModelError, match="cannot be saved"):
        packed.save(tmp_path / "saved")


@pytest.mark.parametrize(("saved", "dtype"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_folder_that_was_saved_quantized_is_used_in_another_type(saved: str, dtype: str, tmp_path: Path):
    """Its biases had the type that was asked for and its weights the one they were saved in: the first vector failed."""
    packed = load_embedder("nano", quantize="int8", dtype=saved)
    shutil.copytree(shipped("embedder")["nano"], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    packed.model.save_pretrained(tmp_path)
    loaded = load_embedder(str(tmp_path), dtype=dtype)
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.int8, getattr(torch, dtype)}
    cosines = (loaded.embed(ITEMS, [None] * 3) * packed.embed(ITEMS, [None] * 3)).sum(axis=1)
    assert cosines.min() > 0.995


def test_a_quantized_reasoner_writes(tmp_path: Path):
    reasoner = load_reasoner("nano", quantize="int8")
    assert "int8" in reasoner.fingerprint
    assert reasoner.reason(ITEMS[:1])


def test_adapters_work_on_a_quantized_base(tmp_path: Path):
    base = write_embed_rl(tmp_path / "base")
    for name, seed in (("one", 1), ("two", 2)):
        write_adapter(base, tmp_path / name, seed=seed)
    with default_placement(Placement(quantize="int8")):
        _, shared = load_both(str(tmp_path / "one"), str(tmp_path / "two"))
        merged = load_embedder(str(tmp_path / "two"))
    whole = load_embedder(str(tmp_path / "two"))
    for found in (shared, merged):
        assert "int8" in found.fingerprint
        assert (found.embed(ITEMS, [None] * 3) * whole.embed(ITEMS, [None] * 3)).sum(axis=1).min() > 0.99


def test_what_cannot_be_done_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ConfigError, match="quantize='int2': choose from int8, int4"):
        load_embedder("nano", quantize="int2")
    with pytest.raises(SystemExit):
        main(["search", "x", "--engine", "ray", "--quantize", "int8"])
    monkeypatch.setattr(quantize.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"bitsandbytes, which is not installed: pip install 'embedrl\[quantize\]'"):
        load_embedder("nano", quantize="int4")
