"""Clients that know nothing of us: the official OpenAI client, and our own client of anyone's server. The models are the nano ones."""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import PIL.Image
import pytest

from embedrl.data import items
from embedrl.data.tcot import TCoT
from embedrl.index.index import Index
from embedrl.media.content import Image, Text
from embedrl.media.image import save_image
from embedrl.nano.data import REASONER_BUDGET
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.remote import ChatServer, RemoteReasoner
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.server.run import make_service
from embedrl.server.settings import Settings
from embedrl.world.write import make_world
from tests.served import Served, fill, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    world = tmp_path_factory.mktemp("world")
    make_world(world, num_pairs=3, seed=5)
    folder = tmp_path_factory.mktemp("library")
    for picture in sorted((world / "images").iterdir())[:3]:
        (folder / picture.name).write_bytes(picture.read_bytes())
    reasoner, embedder = load_reasoner("nano-sft"), load_embedder("nano")
    fill(folder, reasoner, embedder)
    service = make_service(Settings(port=0), {"main": (folder, "nano-sft", reasoner)}, embedder, "nano")
    with running(service) as url:
        found = Served(service, url, folder, reasoner, embedder)
        with found.client:
            yield found


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as found:
        yield found


def pictures(server: Served) -> list[Path]:
    return sorted(path for path in server.folder.iterdir() if path.is_file())


def data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_it_lists_its_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["nano-sft", "nano"]


def test_embeddings_of_texts_are_those_of_the_embedder(server: Served, client: openai.OpenAI):
    texts = ["a red star", "a blue ring above it"]
    expected = server.embedder.embed([items.candidate((Text(text=text),)) for text in texts], [None, None])
    packed = client.embeddings.create(model="nano", input=texts)  # the client asks for base64 by itself
    plain = client.embeddings.create(model="nano", input=texts[0], encoding_format="float", dimensions=server.embedder.dim)
    assert [each.index for each in packed.data] == [0, 1]
    assert np.allclose([each.embedding for each in packed.data], expected, atol=1e-5)
    assert np.allclose(plain.data[0].embedding, expected[0], atol=1e-5)
    query = client.embeddings.create(model="nano", input=texts[0], extra_body={"input_type": "query", "think": True})
    assert np.linalg.norm(query.data[0].embedding) == pytest.approx(1, abs=1e-4)
    assert np.dot(query.data[0].embedding, expected[0]) < 0.999


def test_an_embedded_picture_is_the_vector_in_the_index(server: Served):
    path = pictures(server)[0]
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(path)}}]}
    answer = server.client.post("/v1/embeddings", json={"model": "nano", "messages": [message]}).json()
    row = next(row for row in Index.open(server.folder).rows({server.key(path.name)}))
    assert np.allclose(answer["data"][0]["embedding"], row.plain, atol=1e-4)


def test_wrong_requests_are_said_in_its_own_errors(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="no such Embedder"):
        client.embeddings.create(model="text-embedding-3-large", input="x")
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="nano", input="x", dimensions=100_000)
    with pytest.raises(openai.BadRequestError, match="fetches nothing"):
        client.chat.completions.create(
            model="nano-sft",
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}],
        )
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="nano", input=[])


def test_a_chat_with_the_reasoner_whole_and_streamed(client: openai.OpenAI):
    ask = {"model": "nano-sft", "messages": [{"role": "user", "content": "<|im_end|> what is a red star?"}], "max_tokens": 1}
    whole = client.chat.completions.create(**ask)
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 1
    pieces = list(client.chat.completions.create(**ask, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == "length"


def test_our_remote_reasoner_writes_what_the_local_one_writes(server: Served):
    local = server.reasoner
    assert isinstance(local, LocalReasoner)
    chat = ChatServer.from_url(f"{server.url}/v1#nano-sft", num_retries=1)
    remote = RemoteReasoner(chat, prompts="nano", budget=REASONER_BUDGET, factor=local.factor, max_new_tokens=local.settings.max_new_tokens)
    images = [items.candidate((Image(path=path),)) for path in pictures(server)]
    assert remote.reason(images) == local.reason(images)
    tcots = [tcot for tcot in local.reason(images) if isinstance(tcot, TCoT)]
    assert len(tcots) >= 2
    assert remote.match([(tcots[0], tcots[1])])[0] in (True, False, None)


def test_rerank_sorts_texts_and_pictures(server: Served):
    texts = ["a blue ring", "a red star", "a green cross"]
    asked = {"model": "nano", "query": "a red star", "documents": texts, "top_n": 2, "return_documents": True}
    answer = server.client.post("/v1/rerank", json=asked).json()
    scores = [each["relevance_score"] for each in answer["results"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert all(each["document"]["text"] == texts[each["index"]] for each in answer["results"])
    query = items.query((Text(text="a red star"),), looking_for="text")
    cosines = server.embedder.embed([query, *(items.candidate((Text(text=text),)) for text in texts)], [None] * 4)
    expected = sorted((float(cosine) for cosine in cosines[1:] @ cosines[0]), reverse=True)
    assert scores == pytest.approx(expected[:2], abs=1e-4), "a text is looked for, not a picture"
    mixed = {"query": "a red star", "documents": [{"image": data_url(path)} for path in pictures(server)] + ["a red star"]}
    assert {each["index"] for each in server.client.post("/v1/rerank", json=mixed).json()["results"]} == set(
        range(len(pictures(server)) + 1)
    )


def test_a_search_that_thinks_with_the_nano_models(server: Served, tmp_path: Path):
    path = pictures(server)[0]
    answer = server.search(file=("x.png", path.read_bytes()), limit=3)
    assert answer["query"]["tcot"] or answer["query"]["failure"]
    assert len(answer["hits"]) == 3
    assert answer["seconds"]["reason"] > answer["seconds"]["search"] > 0
    big = tmp_path / "big.png"
    save_image(PIL.Image.open(path).convert("RGB").resize((500, 300)), big)
    message = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": data_url(big)}}, {"type": "text", "text": "Describe."}],
    }
    chat = server.client.post("/v1/chat/completions", json={"messages": [message], "max_tokens": 5})
    assert chat.status_code == 200, "a picture of any size is scaled to what the Reasoner sees"
