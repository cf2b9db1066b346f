"""Vectors in fewer numbers and fewer bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embedrl.data.vectors import ShortenedEmbedder, shortened
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.train import Config, EmbedderModule, info_nce
from embedrl.errors import ConfigError, StoreError
from embedrl.index.index import Index, embedder_of
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.pipelines.index import index_by_name
from embedrl.rl.config import RewardConfig
from embedrl.rl.rewards import REWARDS, RewardBatch, RolloutIds
from embedrl.testing import FakeEmbedder
from tests.served import served


def test_the_first_numbers_are_a_unit_vector() -> None:
    assert shortened(np.array([[3.0, 4.0, 12.0]]), 2) == pytest.approx(np.array([[0.6, 0.8]]))
    assert shortened(np.array([[3.0, 4.0]]), None).tolist() == [[3.0, 4.0]]
    with pytest.raises(ConfigError, match="dimensions=3"):
        shortened(np.ones((1, 2)), 3)


def test_an_index_keeps_to_its_dimensions(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.txt").write_text("an elephant")
    (folder / "b.txt").write_text("a letter")
    index_by_name(folder, None, "fake", dimensions=16)
    (folder / "c.txt").write_text("a grocer")
    assert index_by_name(folder, None, "fake").added == 1, "a later run needs not say it again"
    embedder = embedder_of(folder, FakeEmbedder())
    index = Index.open(folder, embedder=embedder)
    assert (index.dim, index.embedder_name) == (16, "fake-embedder-d16")
    assert str(search(index, Query("elephant", use_tcot=False), embedder).hits[0].path) == "a.txt"
    with pytest.raises(StoreError):
        index_by_name(folder, None, "fake", dimensions=8)
    with pytest.raises(ConfigError, match="64 numbers"):
        ShortenedEmbedder(FakeEmbedder(), 65)


def test_dimensions_of_v1_embeddings(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.txt").write_text("an elephant")
    with served(folder, think=False) as server:
        whole, short = (
            np.array(server.client.post("/v1/embeddings", json={"input": "a star", **asked}).json()["data"][0]["embedding"])
            for asked in ({}, {"dimensions": 8})
        )
        assert len(short) == 8
        assert short == pytest.approx(whole[:8] / np.linalg.norm(whole[:8]), abs=1e-6)
        refused = server.client.post("/v1/embeddings", json={"input": "a star", "dimensions": 65})
        assert refused.status_code == 400
        assert "64" in refused.text


def test_matryoshka_sums_the_loss_over_dimensions(random_embedder: Embedder) -> None:
    from sentence_transformers import SentenceTransformer

    def never(key: str):
        raise AssertionError(key)

    model = SentenceTransformer(modules=[EmbedderModule(random_embedder, never)], device="cpu")
    dim = random_embedder.dim
    torch.manual_seed(0)
    columns = [[torch.nn.functional.normalize(torch.randn(4, dim), dim=-1)] for _ in range(2)]
    plain = info_nce(model, Config(out=Path("out")))
    nested = info_nce(model, Config(out=Path("out"), matryoshka_dims=(dim // 2,)))
    with torch.no_grad():
        halves = [[torch.nn.functional.normalize(part[:, : dim // 2], dim=-1) for part in column] for column in columns]
        wanted = plain.calculate_loss(columns) + plain.calculate_loss(halves)
        assert nested.loss.calculate_loss(columns).item() == pytest.approx(wanted.item(), abs=1e-5)
    with pytest.raises(ConfigError, match="matryoshka_dims"):
        info_nce(model, Config(out=Path("out"), matryoshka_dims=(dim + 1,)))


def test_length_costs_and_an_invalid_rollout_costs_as_much_as_the_longest() -> None:
    rows = RolloutIds(torch.tensor([0, 0, 0, 0]), torch.tensor([True, True, False, False]), torch.zeros(4).long(), torch.zeros(4).long())
    batch = RewardBatch(
        config=RewardConfig(weights={"brevity": 0.5}),
        rows=rows,
        tcots=(None,) * 4,
        similarity=torch.eye(4),
        format=torch.tensor([1.0, 0.0, 1.0, 1.0]),
        informativeness=torch.zeros(4, dtype=torch.long),
        judge_correct=torch.zeros(4),
        num_tokens=torch.tensor([120, 3, 50, 80]),
    )
    assert REWARDS["brevity"](batch).tolist() == pytest.approx([-1.2, -1.2, -0.5, -0.8])
    assert RewardConfig().all_weights.get("brevity", 0) == 0, "off by default"
