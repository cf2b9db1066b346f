"""Reasoner and Embedder as two adapters on one base: equal to two separate models, whatever the order of the calls."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from embedrl.data.sample import Item
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.prefix import embed_groups
from embedrl.errors import ModelError
from embedrl.models.adapters import AdapterView
from embedrl.models.load import load_shared
from embedrl.nano.data import REASONER_BUDGET
from embedrl.reasoner.local import LocalReasoner, ReasonerSettings
from embedrl.runtime.names import load_both
from tests.checkpoints import write_embed_rl, write_instruct
from tests.test_checkpoints import BOX, SMALL, make_items, write_adapter


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base that knows `<emb>`, a Reasoner's adapter (trained with the head) and an Embedder's (trained without)."""
    root = tmp_path_factory.mktemp("shared")
    base = write_embed_rl(root / "base")
    settings = ReasonerSettings(prompts="nano", budget=REASONER_BUDGET, max_new_tokens=8)
    write_adapter(base, root / "reasoner", seed=1)
    write_adapter(base, root / "embedder", auto=AutoModel, seed=2)
    (root / "reasoner/embedrl.json").write_text(settings.model_dump_json(), "utf-8")
    (root / "embedder/embedrl.json").write_text(SMALL.model_dump_json(), "utf-8")
    return root


def write(reasoner: LocalReasoner, items: list[Item]) -> list[str]:
    return [found.text for found in reasoner.reason(items)]


def test_two_adapters_on_one_base_equal_two_models(folders: Path) -> None:
    items = make_items()
    alone = LocalReasoner.load(folders / "reasoner", device="cpu"), Embedder.load(folders / "embedder", device="cpu")
    texts, vectors = write(alone[0], items), alone[1].embed(items, [None, BOX, None])
    reasoner, embedder = load_both(str(folders / "reasoner"), str(folders / "embedder"))
    assert isinstance(reasoner, LocalReasoner)
    assert isinstance(embedder, Embedder)
    for _ in range(2):
        assert np.abs(embedder.embed(items, [None, BOX, None]) - vectors).max() < 1e-5
        assert write(reasoner, items) == texts
    grouped = embed_groups(embedder, items[:1], [[None, BOX]])[0]
    assert np.abs(grouped - embed_groups(alone[1], items[:1], [[None, BOX]])[0]).max() < 1e-5
    assert (reasoner.fingerprint, embedder.fingerprint) == (alone[0].fingerprint, alone[1].fingerprint)


def test_the_base_is_held_once(folders: Path) -> None:
    reasoner, embedder = load_both(str(folders / "reasoner"), str(folders / "embedder"))
    assert isinstance(reasoner, LocalReasoner)
    assert isinstance(embedder, Embedder)
    held = {weight.data_ptr(): weight.nbytes for one in (reasoner, embedder) for weight in one.model.parameters()}
    apart = [
        sum(weight.nbytes for weight in one.model.parameters())
        for one in (LocalReasoner.load(folders / "base"), Embedder.load(folders / "base"))
    ]
    adapters = sum(path.stat().st_size for name in ("reasoner", "embedder") for path in (folders / name).glob("*.safetensors"))
    assert sum(held.values()) <= max(apart) + 1.1 * adapters


def test_the_base_itself_may_be_one_of_the_two(folders: Path) -> None:
    items = make_items()
    plain = Embedder.load(folders / "base", device="cpu")
    plain.budget = SMALL
    reasoner, embedder = load_both(str(folders / "reasoner"), str(folders / "base"))
    assert isinstance(reasoner, LocalReasoner)
    assert isinstance(embedder, Embedder)
    embedder.budget = SMALL
    write(reasoner, items)
    assert np.abs(embedder.embed(items, [None] * 3) - plain.embed(items, [None] * 3)).max() < 1e-5


def test_threads_do_not_mix_the_adapters(folders: Path) -> None:
    items = make_items()
    reasoner, embedder = load_both(str(folders / "reasoner"), str(folders / "embedder"))
    assert isinstance(reasoner, LocalReasoner)
    assert isinstance(embedder, Embedder)
    texts, vectors = write(reasoner, items), embedder.embed(items, [None] * 3)
    found: list[list[str]] = []
    worker = threading.Thread(target=lambda: found.extend(write(reasoner, items) for _ in range(3)))
    worker.start()
    gaps = [np.abs(embedder.embed(items, [None] * 3) - vectors).max() for _ in range(6)]
    worker.join()
    assert found == [texts] * 3
    assert max(gaps) < 1e-5


def test_models_without_a_common_base_are_loaded_apart(folders: Path, tmp_path: Path) -> None:
    other = write_instruct(tmp_path / "other", seed=5)
    reasoner, embedder = load_both(str(other), str(folders / "embedder"))
    assert isinstance(reasoner, LocalReasoner)
    assert isinstance(embedder, Embedder)
    assert not isinstance(reasoner.model, AdapterView)
    assert not isinstance(embedder.model, AdapterView)
    with pytest.raises(ModelError, match="are different bases"):
        load_shared([other, folders / "embedder"])
    assert torch.equal(embedder.model.get_input_embeddings().weight, Embedder.load(folders / "base").model.get_input_embeddings().weight)
