"""Clients of Cohere, Jina and text-embeddings-inference: their shapes are answered in their shapes, errors too (media.md 14).

The official packages of Cohere and Hugging Face speak to the server; Jina has none, so its requests are sent as its reference shows them.
"""

import base64
import io
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import huggingface_hub
import numpy as np
import PIL.Image
import pytest
from huggingface_hub.errors import HfHubHTTPError

from embedrl.server.problem import SHAPES
from tests.coloured_folder import make_folder, picture
from tests.served import Served, served

TEXTS = ["a blue ring", "a red star", "green"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("dialects") / "media")) as found:
        yield found


@pytest.fixture
def client(server: Served) -> Iterator[cohere.ClientV2]:
    with httpx.Client(trust_env=False, timeout=60) as http:
        yield cohere.ClientV2(api_key="none", base_url=server.url, httpx_client=http)


@pytest.fixture
def old_client(server: Served) -> Iterator[cohere.Client]:
    with httpx.Client(trust_env=False, timeout=60) as http:
        yield cohere.Client(api_key="none", base_url=server.url, httpx_client=http)


@pytest.fixture
def hub_client(server: Served, monkeypatch: pytest.MonkeyPatch) -> huggingface_hub.InferenceClient:
    """The client of Hugging Face, allowed to speak to this machine also where HF_HUB_OFFLINE is set."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return huggingface_hub.InferenceClient(model=f"{server.url}/embed", token="none")


def packed(colour: str = "red") -> str:
    buffer = io.BytesIO()
    picture(colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def vectors(server: Served, **fields: Any) -> np.ndarray:
    answer = server.client.post("/v1/embeddings", json=fields)
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]])


def scores(server: Served) -> dict[int, float]:
    results = server.client.post("/v1/rerank", json={"query": "red", "documents": TEXTS}).json()["results"]
    return {row["index"]: row["relevance_score"] for row in results}


def test_cohere_reranks(server: Served, client: cohere.ClientV2):
    answer = client.rerank(model="the-embedder", query="red", documents=TEXTS, top_n=2)
    assert [row.index for row in answer.results] == list(scores(server))[:2]
    assert answer.results[0].index == 1
    assert answer.results[0].relevance_score == pytest.approx(scores(server)[1])
    assert answer.meta.tokens.input_tokens == 8


def test_cohere_embeds_texts_images_and_both(server: Served, client: cohere.ClientV2):
    texts = client.embed(model="the-embedder", texts=TEXTS, input_type="search_query", embedding_types=["float", "base64"])
    assert np.allclose(texts.embeddings.float_, vectors(server, input=TEXTS, input_type="query"), atol=1e-6)
    decoded = [np.frombuffer(base64.b64decode(text), "<f4") for text in texts.embeddings.base64]
    assert np.allclose(decoded, texts.embeddings.float_, atol=1e-6)
    assert texts.texts == TEXTS
    url = f"data:image/png;base64,{packed()}"
    images = client.embed(model="the-embedder", images=[url], input_type="image", embedding_types=["float"])
    content = [{"type": "image_url", "image_url": {"url": url}}]
    same = client.embed(model="the-embedder", inputs=[{"content": content}], input_type="search_document", embedding_types=["float"])
    assert images.embeddings.float_ == same.embeddings.float_
    short = client.embed(model="the-embedder", texts=["x"], input_type="search_document", output_dimension=3, embedding_types=["float"])
    assert len(short.embeddings.float_[0]) == 3


def test_cohere_errors_are_cohere_errors(client: cohere.ClientV2):
    ask: dict[str, Any] = {"model": "the-embedder", "query": "red", "documents": TEXTS}
    with pytest.raises(cohere.NotFoundError) as unknown:
        client.rerank(**{**ask, "model": "rerank-v3.5"})
    assert unknown.value.body == {"message": "model: there is no such Embedder here; /v1/models lists what there is"}
    with pytest.raises(cohere.UnprocessableEntityError, match="top_n"):
        client.rerank(**ask, top_n=0)
    with pytest.raises(cohere.UnprocessableEntityError, match=r"max_tokens_per_doc=2: documents\.0 has 3"):
        client.rerank(**ask, max_tokens_per_doc=2)
    with pytest.raises(cohere.UnprocessableEntityError, match="embedding_types"):
        client.embed(model="the-embedder", texts=["x"], input_type="search_document", embedding_types=["int8"])
    with pytest.raises(cohere.BadRequestError, match=r"images\.0\.image: .*fetches nothing"):
        client.embed(model="the-embedder", images=["https://example.com/a.png"], input_type="image", embedding_types=["float"])
    with pytest.raises(cohere.BadRequestError, match="output_dimension=0"):
        client.embed(model="the-embedder", texts=["x"], input_type="search_document", output_dimension=0, embedding_types=["float"])
    with pytest.raises(cohere.UnprocessableEntityError, match="one of texts, images and inputs"):
        client.embed(model="the-embedder", input_type="search_document", embedding_types=["float"])


def test_cohere_fields_of_documents_are_read_in_their_order(server: Served, old_client: cohere.Client):
    documents = [{"title": "a blue ring", "year": 2020}, {"title": "a red star", "text": "ignored"}]
    ask: dict[str, Any] = {"query": "red", "documents": documents, "return_documents": True}
    answer = old_client.rerank(**ask, rank_fields=["title"])
    assert [row.index for row in answer.results] == [1, 0]
    plain = server.client.post("/v1/rerank", json={"query": "red", "documents": ["a blue ring", "a red star"]}).json()
    assert [row.relevance_score for row in answer.results] == [row["relevance_score"] for row in plain["results"]]
    sent = server.client.post("/v1/rerank", json={**ask, "rank_fields": ["title"]}).json()["results"]
    assert {row["index"]: row["document"] for row in sent} == dict(enumerate(documents))
    with pytest.raises(cohere.UnprocessableEntityError, match=r"documents\.0: has no 'text', which rank_fields names"):
        old_client.rerank(**ask, rank_fields=["text"])
    with pytest.raises(cohere.UnprocessableEntityError, match=r"documents\.0: give text, .*rank_fields"):
        old_client.rerank(**ask)


def test_jina_sends_images_as_base64(server: Served):
    bare, url = packed(), f"data:image/png;base64,{packed()}"
    mixed = vectors(server, input=[{"image": bare}, {"text": "red"}, "red", {"image": url}], task="retrieval.passage", normalized=True)
    assert np.array_equal(mixed[0], mixed[3])
    assert np.array_equal(mixed[1], mixed[2])
    assert np.array_equal(vectors(server, input="red", task="retrieval.query"), vectors(server, input="red", input_type="query"))
    typed = server.client.post("/v1/embeddings", json={"input": "red", "embedding_type": "base64"}).json()["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(typed), "<f4"), mixed[1], atol=1e-6)
    both = [
        server.client.post("/v1/rerank", json={"query": "red", "documents": [{"image": image}, "blue"]}).json() for image in (bare, url)
    ]
    assert both[0]["results"] == both[1]["results"]
    query = server.client.post("/v1/rerank", json={"query": {"image": bare}, "documents": TEXTS})
    assert query.status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": [{"image": "not base64!"}]}, "input.0.image: its data is not base64"),
        ({"input": [{"image": "http://example.com/a.png"}]}, "input.0.image: give data:image"),
        ({"input": [{"image": "file:///etc/passwd"}]}, "input.0.image: give data:image"),
        ({"input": [{"image": base64.b64encode(b"no image").decode()}]}, ""),
        ({"input": [{}]}, "input.0: give text, an image, or both"),
        ({"input": "x", "task": "classification"}, "task: "),
        ({"input": "x", "normalized": False}, "normalized: "),
        ({"input": "x", "late_chunking": True}, "late_chunking: "),
        ({"input": "x", "embedding_type": "ubinary"}, "embedding_type: "),
    ],
)
def test_what_jina_sends_wrongly_is_named(server: Served, body: dict[str, Any], words: str):
    answer = server.client.post("/v1/embeddings", json=body)
    assert answer.status_code in (400, 415, 422), answer.text
    assert answer.json()["error"]["message"].startswith(words)


def test_a_large_image_may_be_sent_as_base64(server: Served):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    PIL.Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 1024**2
    assert vectors(server, input=[{"image": base64.b64encode(buffer.getvalue()).decode()}]).shape[0] == 1
    long = server.client.post("/v1/embeddings", json={"input": "x " * 600_000})
    assert long.status_code == 413


def test_tei_embeds_and_reranks(server: Served, hub_client: huggingface_hub.InferenceClient):
    assert np.allclose(hub_client.feature_extraction(TEXTS), vectors(server, input=TEXTS), atol=1e-6)
    query = hub_client.feature_extraction("red", prompt_name="query", normalize=True, truncate=True)
    assert np.allclose(query, vectors(server, input="red", input_type="query"), atol=1e-6)
    ask = {"query": "red", "texts": TEXTS, "raw_scores": False, "return_text": True, "truncate": True}
    ranked = server.client.post("/rerank", json=ask).json()
    assert [(row["index"], row["text"]) for row in ranked] == [(index, TEXTS[index]) for index in scores(server)]
    assert [row["score"] for row in ranked] == list(scores(server).values())
    assert set(server.client.post("/rerank", json={"query": "red", "texts": TEXTS}).json()[0]) == {"index", "score"}


def test_tei_errors_are_tei_errors(server: Served, hub_client: huggingface_hub.InferenceClient):
    with pytest.raises(HfHubHTTPError, match="normalize"):
        hub_client.feature_extraction("x", normalize=False)
    with pytest.raises(HfHubHTTPError, match=r"inputs\.1: the text is empty"):
        hub_client.feature_extraction(["x", ""])
    for body in ({"query": "red"}, {"query": "red", "texts": ["x", ""]}, {"query": "red", "texts": ["x"], "truncation_direction": "Left"}):
        answer = server.client.post("/rerank", json=body)
        assert answer.status_code in (400, 422)
        assert answer.json()["error_type"] == "Validation"
        assert answer.json()["error"].startswith(("texts", "truncation_direction"))


def test_only_the_field_of_a_message_is_renamed(server: Served):
    """The first two words before a dot, a colon or an equals sign were, whoever wrote them."""
    answer = server.client.post("/v2/embed", json={"model": "x", "texts": ["y"], "output_dimension": 10**6})
    assert answer.json()["message"].startswith("model: there is no such Embedder")
    wrong = server.client.post("/embed", json={"inputs": "x", "dimensions": 10**6}).json()["error"]
    assert wrong.startswith("dimensions=1000000: ")


def test_a_text_part_that_carries_an_image_is_a_text(server: Served):
    parts = [{"type": "text", "text": "red", "image_url": {"url": "data:image/png;base64,@@"}}]
    answer = server.client.post("/v2/embed", json={"inputs": [{"content": parts}]})
    assert answer.status_code == 200, answer.text
    assert np.allclose(answer.json()["embeddings"]["float"], vectors(server, input="red"))


def test_other_paths_have_the_shape_of_errors_of_their_own(server: Served):
    assert "message" in server.client.post("/embeddings", json={}).json()["error"], "it only begins as /embed does"


def test_refusals_before_a_route_have_its_shape_too(tmp_path_factory: pytest.TempPathFactory):
    folder = make_folder(tmp_path_factory.mktemp("token") / "media")
    with (
        served(folder, token="a-secret-of-some-length", think=False) as server,
        httpx.Client(base_url=server.url, trust_env=False) as stranger,
    ):
        bodies = {beginning: stranger.post(beginning).json() for beginning, _ in SHAPES}
    assert {beginning: set(body) for beginning, body in bodies.items()} == {
        "/v2": {"message"},
        "/rerank": {"error", "error_type"},
        "/embed": {"error", "error_type"},
    }
