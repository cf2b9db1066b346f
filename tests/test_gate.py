"""A gate decides which queries are reasoned about, and says so."""

from pathlib import Path

import numpy as np
import pytest

from embedrl.data import items
from embedrl.errors import ConfigError
from embedrl.index import Index, Query, ingest, search
from embedrl.index.gate import LinearGate, read_gate
from embedrl.media.content import Text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.served import served

EMBEDDER = FakeEmbedder()
MARGIN = LinearGate(embedder=EMBEDDER.fingerprint, weights=(*(0.0,) * 64, 0.0, -1.0), scores=(-0.4, -0.3, -0.2, -0.1), share=0.5)
"""Reasons where the first two hits are less than .25 apart."""
ITEM = items.query((Text(text="a star"),))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    for name, text in (("a.txt", "a letter about an elephant"), ("b.txt", "a letter about a grocer"), ("c.txt", "nothing")):
        (folder / name).write_text(text)
    return folder


def test_the_margin_and_the_share_decide_by_hand() -> None:
    plain = np.zeros(64, np.float32)
    assert MARGIN.wants(ITEM, plain, [0.9, 0.8])
    assert not MARGIN.wants(ITEM, plain, [0.9, 0.5])
    assert not MARGIN.model_copy(update={"share": 0.25}).wants(ITEM, plain, [0.9, 0.7])
    assert not MARGIN.wants(ITEM, plain, [0.9]), "an only hit is far from the next"
    assert MARGIN.model_copy(update={"share": 1.0}).wants(ITEM, plain, [])
    assert not MARGIN.model_copy(update={"share": 0.0}).wants(ITEM, plain, [0.9, 0.9])
    with pytest.raises(ConfigError, match="64 numbers, not 3"):
        MARGIN.wants(ITEM, plain[:3], [0.9, 0.8])


def test_a_search_reasons_only_where_the_gate_wants_it_and_each_hit_says_so(library: Path) -> None:
    reasoner = FakeReasoner()
    index = Index.open(library, embedder=EMBEDDER)
    ingest(library, index, reasoner, EMBEDDER)
    asked = reasoner.reasoned.total()
    sure = search(index, Query("elephant"), EMBEDDER, reasoner, gate=MARGIN)
    assert (sure.gate, sure.used_tcot, sure.query_tcot) == ("plain", False, None)
    assert all(hit.without_reasoning for hit in sure.hits)
    assert reasoner.reasoned.total() == asked
    unsure = search(index, Query("letter"), EMBEDDER, reasoner, gate=MARGIN)
    assert (unsure.gate, unsure.used_tcot) == ("reasoned", True)
    assert not any(hit.without_reasoning for hit in unsure.hits)
    assert search(index, Query("elephant"), EMBEDDER, reasoner).gate is None
    assert search(index, Query("letter", use_tcot=False), EMBEDDER, reasoner, gate=MARGIN).gate is None


def test_the_server_shows_what_the_gate_decided(library: Path) -> None:
    with served(library, gate=MARGIN) as server:
        sure, unsure = (server.search(text=text, think=True) for text in ("elephant", "letter"))
        assert (sure["gate"], sure["think"], sure["hits"][0]["without_reasoning"]) == ("plain", False, True)
        assert (unsure["gate"], unsure["think"], unsure["hits"][0]["without_reasoning"]) == ("reasoned", True, False)


def test_a_gate_is_read_with_a_share_and_belongs_to_its_embedder(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    path.write_text(MARGIN.model_dump_json())
    assert read_gate(path, 0.25, EMBEDDER.fingerprint).share == 0.25
    with pytest.raises(ConfigError, match="fitted to the Embedder 'fake-embedder', not to 'other'"):
        read_gate(path, 0.25, "other")
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is no gate"):
        read_gate(path, 0.25, "other")
