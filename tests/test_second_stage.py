"""The second stage: rare words fused with vectors by reciprocal ranks, and rerankers of the first hits."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
from typer.testing import CliRunner

from embedrl.cli.main import app
from embedrl.data import items
from embedrl.data.protocols import Side
from embedrl.data.tcot import TCoT
from embedrl.embedder.cross_encoder import TextReranker
from embedrl.errors import ConfigError, ModelError
from embedrl.index.filter import Filter
from embedrl.index.fusion import WORDS_WEIGHT, fuse, rank_by_rare_words, rank_by_words
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Image, Text
from embedrl.reasoner.rerank_client import RemoteReranker
from embedrl.reasoner.reranker import JudgeReranker
from embedrl.runtime.names import load_reranker
from embedrl.testing import FakeEmbedder, FakeReasoner, FakeReranker
from tests.conftest import make_random_reasoner
from tests.served import served

EMBEDDER, REASONER = FakeEmbedder(), FakeReasoner()
NOTES = {
    "grocer.txt": "apples and pears and plums for the market on monday",
    "market.txt": "apples and pears for the market on monday and tuesday",
    "quorum.txt": "order 77163 of apples",
    "tuesday.txt": "nothing happens on tuesday",
    "wednesday.txt": "nothing happens on wednesday",
}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes") / "library"
    folder.mkdir()
    for name, text in NOTES.items():
        (folder / name).write_text(text)
    ingest(folder, Index.open(folder, embedder=EMBEDDER), REASONER, EMBEDDER)
    return folder


@pytest.fixture
def index(notes: Path) -> Index:
    return Index.open(notes, embedder=EMBEDDER)


def _paths(index: Index, text: str, **options: object) -> list[str]:
    found = search(index, Query(text, use_tcot=False, **options), EMBEDDER, reranker=FakeReranker())
    return [str(hit.path) for hit in found.hits]


def test_reciprocal_ranks_by_hand() -> None:
    assert fuse([["a", "b", "c"], ["c"]]) == ["c", "a", "b"], "1/63 + 1/61 is more than 1/61"
    assert fuse([["a", "b"], ["b", "a"]]) == ["a", "b"], "of equals the first ranking decides"
    assert fuse([["a", "b"], []]) == ["a", "b"]


def test_a_weight_puts_a_ranking_first_and_ties_are_broken_by_the_other() -> None:
    assert fuse([["a", "b", "c", "d"], ["d", "c"]], (1, WORDS_WEIGHT)) == ["d", "c", "a", "b"]


def test_a_number_that_vectors_pass_over_is_found_by_its_word(index: Index) -> None:
    text = "apples monday monday monday 77163"
    assert _paths(index, text)[0] in ("grocer.txt", "market.txt")
    fused = search(index, Query(text, use_tcot=False, match="fuse"), EMBEDDER)
    assert fused.fused_words == ("77163",), "it stands in one of five files"
    assert str(fused.hits[0].path) == "quorum.txt", "with 77163, twice, and apples it holds more of the words than the first by vectors"
    cosines = {hit.key: hit.score for hit in search(index, Query(text, use_tcot=False), EMBEDDER).hits}
    assert {hit.key: hit.score for hit in fused.hits} == cosines, "a hit keeps its cosine"


def test_a_rare_word_by_the_way_moves_nothing(index: Index) -> None:
    """A caption in which a rare word stood by the way was answered by whatever held that word: hit@1 .88 became 0 (bench/fusion.py)."""
    text = "apples and pears and plums for the market on monday 77163"
    fused = search(index, Query(text, use_tcot=False, match="fuse"), EMBEDDER)
    assert [str(hit.path) for hit in fused.hits] == _paths(index, text)
    assert fused.fused_words == ("plums", "77163"), "the first hit holds plums"


def test_items_with_rare_words_are_ranked_by_the_share_of_the_words_that_they_hold(index: Index) -> None:
    keys = {str(place.path): place.key for place in index.places()}
    near = [keys[name] for name in ("market.txt", "grocer.txt", "tuesday.txt")]
    ranked = rank_by_rare_words(index, "order plums happens unheard", near)
    assert ranked.words == ("order", "plums"), "what stands nowhere does not count"
    assert ranked.keys == (keys["grocer.txt"], keys["quorum.txt"]), "2/5 each of the words, and the nearer of equals"
    only = rank_by_rare_words(index, "order plums happens", near, allowed={keys["quorum.txt"]})
    assert only.keys == (keys["quorum.txt"],)
    assert rank_by_rare_words(index, "order plums", []).keys == tuple(sorted([keys["grocer.txt"], keys["quorum.txt"]]))


def test_without_a_rare_word_the_vectors_decide(index: Index) -> None:
    text = "nothing on apples"
    fused = search(index, Query(text, use_tcot=False, match="fuse"), EMBEDDER)
    assert fused.fused_words == ()
    assert _paths(index, text) == [str(hit.path) for hit in fused.hits]
    assert rank_by_words(index, ["unheard"]).keys == ()


def test_words_of_a_fused_search_filter_nothing_and_other_filters_hold(index: Index) -> None:
    fuse_words = Filter(words=("wednesday",))
    assert _paths(index, "apples", filter=fuse_words) == ["wednesday.txt"]
    assert len(_paths(index, "apples", filter=fuse_words, match="fuse")) == len(NOTES)
    narrowed = Filter(words=("wednesday",), path="*o*.txt")
    assert "wednesday.txt" not in _paths(index, "apples", filter=narrowed, match="fuse")
    assert _paths(index, "apples", match="fuse", min_score=0.99) == []


def test_what_cannot_be_fused_or_reranked_is_refused(index: Index) -> None:
    with pytest.raises(ConfigError, match="match='fuse'"):
        Query(match="fuse", filter=Filter(words=("apples",)))
    with pytest.raises(ConfigError, match="rerank=101"):
        Query("apples", rerank=101)
    with pytest.raises(ConfigError, match="sort='newest'"):
        Query("apples", rerank=3, sort="newest")
    with pytest.raises(ConfigError, match="needs a reranker"):
        search(index, Query("apples", rerank=3, use_tcot=False), EMBEDDER)


def test_the_first_hits_are_put_in_the_order_of_the_reranker(index: Index) -> None:
    class Backwards:
        fingerprint = "backwards"

        def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
            return [None if place == 1 else float(place) for place in range(len(candidates))]

    plain = search(index, Query("apples on monday", use_tcot=False, limit=5), EMBEDDER)
    moved = search(index, Query("apples on monday", use_tcot=False, limit=5, rerank=3), EMBEDDER, reranker=Backwards())
    first, second, third, *others = [hit.key for hit in plain.hits]
    assert [hit.key for hit in moved.hits] == [third, second, first, *others], "what has no score keeps its rank"
    assert [hit.rerank_score for hit in moved.hits] == [2.0, None, 0.0, None, None]
    assert (plain.reranker, moved.reranker) == ("", "backwards")
    page = search(index, Query("apples on monday", use_tcot=False, offset=2, limit=1, rerank=3), EMBEDDER, reranker=Backwards())
    assert [hit.key for hit in page.hits] == [first], "pages are cut from the reranked order"


def test_a_reranker_that_miscounts_is_an_error(index: Index) -> None:
    class Short(FakeReranker):
        def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
            return [1.0]

    with pytest.raises(ModelError, match="1 scores for 3"):
        search(index, Query("apples", use_tcot=False, rerank=3), EMBEDDER, reranker=Short())


def test_the_judge_scores_what_it_was_trained_to_read() -> None:
    reasoner = make_random_reasoner()
    judge = load_reranker("judge", reasoner)
    assert isinstance(judge, JudgeReranker)
    tcots = [TCoT(thinking="", rethink="", answer=f"a {colour} star") for colour in ("red", "blue")]
    query, *candidates = [(items.candidate((Text(text=tcot.answer),)), tcot) for tcot in (tcots[0], *tcots)]
    scores = judge.rerank(query, [*candidates, (candidates[0][0], None)])
    assert scores[2] is None
    assert [score > 0 for score in scores[:2]] == reasoner.match([(tcots[0], tcot) for tcot in tcots])
    with pytest.raises(ConfigError, match="loaded weights"):
        load_reranker("judge", REASONER)


def test_a_judge_with_full_prompts_sees_media_evidence_and_text(mixed_sides: list) -> None:
    reasoner = make_random_reasoner()
    reasoner.settings = reasoner.settings.model_copy(update={"prompts": "full"})
    judge = JudgeReranker(reasoner)
    query, *others = [(side.item, side.truth) for side in mixed_sides[4:8]]
    prompt = judge._prompt(query, others[0])
    assert prompt is not None
    shown = sum(part["type"] == "image" for part in prompt.messages[0]["content"])
    assert shown == len(prompt.images) >= 1
    scores = judge.rerank(query, others)
    assert scores == pytest.approx([judge.rerank(query, [other])[0] for other in others], abs=1e-4)


def test_v1_rerank_uses_the_reranker_and_says_which_it_was(notes: Path) -> None:
    body = {"query": "order 77163", "documents": ["apples and pears", "order 77163 of apples"]}
    with served(notes, index=False, reranker=("words", FakeReranker())) as server:
        answer = server.client.post("/v1/rerank", json=body).json()
        assert answer["model"] == "words"
        assert [(row["index"], row["relevance_score"]) for row in answer["results"]] == [(1, 1.0), (0, 0.0)]
        found = server.search(text="apples 77163", rerank=2, think=False)
        assert (found["reranker"], found["hits"][0]["rerank_score"]) == ("words", 1.0)
        remote = RemoteReranker(f"{server.url}/v1")
        query, *candidates = [(items.candidate((Text(text=text),)), None) for text in (body["query"], *body["documents"])]
        assert remote.rerank(query, candidates) == [0.0, 1.0]
    with served(notes, index=False) as server:
        assert server.client.post("/v1/rerank", json=body).json()["model"] == "the-embedder"
        refused = server.client.post("/api/search", data={"text": "apples", "rerank": 2})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_reranker")


def test_a_reranker_that_cannot_be_reached_is_named() -> None:
    query = (items.candidate((Text(text="a star"),)), None)
    with pytest.raises(ModelError, match="did not answer"):
        RemoteReranker("http://127.0.0.1:9/v1", num_retries=0).rerank(query, [query])


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with random weights, as sentence-transformers saves it."""
    folder = tmp_path_factory.mktemp("models") / "cross"
    torch.manual_seed(0)
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}
    words = sorted({word for text in NOTES.values() for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words))}
    BertForSequenceClassification(BertConfig(vocab_size=len(vocabulary), num_labels=1, **tiny)).save_pretrained(folder)
    BertTokenizer(vocabulary).save_pretrained(folder)
    CrossEncoder(str(folder), local_files_only=True).save_pretrained(str(folder))
    return folder


def test_a_cross_encoder_of_sentence_transformers_scores_texts_and_answers(cross_encoder: Path) -> None:
    reranker = load_reranker(str(cross_encoder), None)
    assert isinstance(reranker, TextReranker)
    assert reranker.fingerprint == "cross-encoder-cross"
    query = (items.query((Text(text="apples on monday"),)), None)
    spoken = TCoT(thinking="", rethink="", answer="a market")
    texts = [(items.candidate((Text(text=text),)), None) for text in NOTES.values()]
    image = items.candidate((Image(pixels=PIL.Image.new("RGB", (8, 8))),))
    scores = reranker.rerank(query, [*texts, (image, None), (image, spoken)])
    assert scores[-2] is None, "it reads, and there is nothing to read"
    pairs = [("apples on monday", text) for text in (*NOTES.values(), "a market")]
    assert [score for score in scores if score is not None] == pytest.approx(reranker.model.predict(pairs).tolist(), abs=1e-5)
    assert reranker.rerank((image, None), texts) == [None] * len(texts)


def test_search_on_the_command_line_reranks_by_a_cross_encoder(notes: Path, cross_encoder: Path) -> None:
    query = ["search", "apples on monday", "--index", str(notes), "--embedder", "fake", "--no-think", "--json"]
    plain = CliRunner().invoke(app, query, catch_exceptions=False)
    moved = CliRunner().invoke(app, [*query, "--rerank", "4", "--reranker", str(cross_encoder)], catch_exceptions=False)
    before, after = (json.loads(result.stdout) for result in (plain, moved))
    assert after["reranker"] == "cross-encoder-cross"
    scores = [hit["rerank_score"] for hit in after["hits"]]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert scores[4:] == [None]
    assert [hit["key"] for hit in after["hits"][4:]] == [hit["key"] for hit in before["hits"][4:]]


def test_what_is_no_reranker_is_refused(cross_encoder: Path, tmp_path: Path) -> None:
    for folder, settings, message in (
        (tmp_path / "two", {"num_labels": 2, "id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}, "2 scores for a pair"),
        (tmp_path / "other", {"model_type": "unheard"}, "is no cross-encoder"),
    ):
        shutil.copytree(cross_encoder, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
        if "num_labels" in settings:
            weights = load_file(folder / "model.safetensors")
            doubled = {name: torch.cat([weight, weight]) if name.startswith("classifier") else weight for name, weight in weights.items()}
            save_file(doubled, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=message):
            load_reranker(str(folder), None)
    pickled = shutil.copytree(cross_encoder, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (pickled / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="pickled weights are not read"):
        load_reranker(str(pickled), None)
