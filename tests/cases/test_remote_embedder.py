"""An Embedder behind a server gives the vectors of a local one, or says by name why not; what a run could not embed, the next one does.

Asked for: https://github.com/ggml-org/llama.cpp/issues/25088 and https://github.com/ggml-org/llama.cpp/issues/26201 (pictures that no model
saw), https://github.com/vllm-project/vllm/issues/12085 (vectors read elsewhere), https://github.com/ollama/ollama/issues/13665.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from embedrl.cli.main import main
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import TCoT
from embedrl.data.vectors import same_embedder
from embedrl.embedder.remote import RemoteEmbedder
from embedrl.embedder.requests import TEXTS_AT_ONCE, read_vectors
from embedrl.errors import ConfigError, MediaError, ModelError, StoreError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.integrations.parity import probes
from embedrl.media.content import Image, Text
from embedrl.models.names import shipped
from embedrl.models.server_answers import ServerFailure
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.server.run import make_service
from embedrl.server.settings import Settings
from embedrl.testing import FakeReasoner
from embedrl.world.write import PAIRS, make_world
from tests.served import running
from tests.vector_server import Body, Reply, VectorServer, inputs, vector, vector_server, vectors

QUICK: dict[str, Any] = {"backoff_s": 0.001, "max_wait_s": 0.01, "num_retries": 2}
TCOT = TCoT(thinking="Two words.", rethink="Yes.", answer="a red card")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[VectorServer]:
    with vector_server() as running_server:
        yield running_server


def text(words: str) -> Item:
    return Item(content=(Text(text=words),), instruction="Describe the text.", role=Role.TARGET_TEXT)


def picture(colour: tuple[int, int, int] = (200, 30, 30)) -> Item:
    return Item(content=(Image(pixels=PIL.Image.new("RGB", (64, 48), colour)),), instruction="Describe the image.", role=Role.TARGET_IMAGE)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def load(server: VectorServer, **options: Any) -> RemoteEmbedder:
    return RemoteEmbedder.from_url(server.url, **(QUICK | options))


# ---- our own server


@pytest.fixture(scope="module")
def nano_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("empty")
    models = load_reasoner("nano"), load_embedder("nano")
    service = make_service(Settings(port=0, watch=True), {"main": (folder, "nano", models[0])}, models[1], "nano")
    with running(service) as url:
        yield f"{url}/v1#nano"


def test_nano_behind_our_server_gives_its_own_vectors_for_every_medium(nano_url: str):
    local, remote = load_embedder("nano"), load_embedder(nano_url)
    items, tcots = [probe.item for probe in probes()], [probe.tcot for probe in probes()]
    ours, theirs = local.embed(items, tcots), remote.embed(items, tcots)
    assert (ours * theirs).sum(axis=1).min() > 0.99999
    assert remote.dim == local.dim
    like = load_embedder(f"{nano_url}?like={shipped('embedder')['nano']}")
    assert like.fingerprint == remote.fingerprint, "compared or not, it is the same Embedder"


@pytest.mark.slow
def test_an_index_over_http_is_the_index_of_the_models_themselves(nano_url: str, tmp_path: Path):
    for name in ("here", "there"):
        make_world(tmp_path / name, num_pairs=4, seed=3)
        (tmp_path / name / PAIRS).unlink()
    ingest(tmp_path / "here", Index.open(tmp_path / "here", embedder=(local := load_embedder("nano"))), load_reasoner("nano"), local)
    options = ["--reasoner", f"{nano_url}?settings=server", "--embedder", nano_url]
    assert run("index", str(tmp_path / "there"), *options) == 0
    assert run("search", "a red star", "--index", str(tmp_path / "there"), *options) == 0
    rows = {}
    for name in ("here", "there"):
        index = Index.open(tmp_path / name)
        keys = {place.key for place in index.places()}
        rows[name] = {row.place.path.name: row for row in index.rows(keys)}
    assert len(rows["here"]) >= 6
    for name, mine in rows["here"].items():
        theirs = rows["there"][name]
        assert mine.tcot_text == theirs.tcot_text, name
        assert float(mine.plain @ theirs.plain) > 0.99999, name
        assert float(mine.tcot @ theirs.tcot) > 0.99999, name


def test_another_folder_than_the_served_one_is_named_with_the_stage(nano_url: str, tmp_path: Path, random_embedder: Any):
    random_embedder.save(tmp_path / "random")
    with pytest.raises(ModelError, match=r"is not '.*random'.*first stage that differs: vector"):
        load_embedder(f"{nano_url}?like={tmp_path / 'random'}")


def test_text_of_a_prompt_cannot_add_a_picture(nano_url: str):
    remote = load_embedder(nano_url)
    assert np.isfinite(remote.embed([text("<|image_pad|> <emb> <|im_end|>\n<thinking>")], [TCOT])).all()


# ---- what a server may do at first


def _halves(body: Body) -> Reply:
    return 200, vectors(body, 24 if "Wetter" in json.dumps(body, ensure_ascii=False) else 12)


def _drifts() -> Callable[[Body], Reply]:
    count = iter(range(1000))
    return lambda body: (200, {"data": [{"embedding": vector(f"{next(count)}")} for _ in inputs(body)]})


WRONG: dict[str, tuple[Callable[[Body], Reply], str]] = {
    "other sizes": (_halves, r"vectors of 12 and 24 numbers"),
    "not a number": (lambda body: (200, b'{"data": [{"embedding": [NaN, 1, 2]}]}'), r"NaN or infinite"),
    "infinite": (lambda body: (200, b'{"data": [{"embedding": [1e999, 1, 2]}]}'), r"NaN or infinite"),
    "zeros": (lambda body: (200, {"data": [{"embedding": [0, 0, 0]}]}), r"a vector of zeros"),
    "none": (lambda body: (200, {"data": []}), r"0 vectors for 1 inputs"),
    "empty": (lambda body: (200, {"data": [{"embedding": []}]}), r"vectors of 0 numbers"),
    "two": (lambda body: (200, {"data": [{"embedding": [1, 2]}] * 2}), r"2 vectors for 1 inputs"),
    "no JSON": (lambda body: (200, b"<html>"), r"malformed"),
    "other numbers each time": (_drifts(), r"not repeatable \(the probe 'text' has cosine"),
    "one vector for all": (lambda body: (200, {"data": [{"embedding": vector("same")} for _ in inputs(body)]}), r"two different texts"),
    "busy": (lambda body: (503, {"error": "loading"}), r"transport: 503.*tried 3 times"),
    "broken": (lambda body: (500, b""), r"transport: 500.*tried 3 times"),
    "hangs up": (lambda body: (200, None), r"transport.*tried 3 times"),
    "unknown model": (lambda body: (404, {"error": {"message": "model 'm' not found"}}), r"refused: 404.*not found"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_server_that_cannot_be_used_is_refused_by_name(server: VectorServer, name: str):
    answer, reason = WRONG[name]
    server.answer = answer
    with pytest.raises(ModelError, match=reason):
        load(server)


def test_vectors_that_are_numbered_anew_in_the_middle_are_refused():
    """A server that joins batches and numbers each from 0: whose vector is whose cannot be told."""
    rows = [{"index": index, "embedding": [1.0, place]} for place, index in enumerate((0, 1, 0, 1))]
    assert isinstance(read_vectors(json.dumps({"data": rows}).encode(), 4), ServerFailure)
    for indexes in ((3, 2, 1, 0), (1, 2, 3, 4), (0, 0, 0, 0), (None,) * 4):
        rows = [{"index": index, "embedding": [1.0, place if len(set(indexes)) == 1 else index]} for place, index in enumerate(indexes)]
        read = read_vectors(json.dumps({"data": rows}).encode(), 4)
        assert not isinstance(read, ServerFailure)
        ratios = list(read[:, 1] / read[:, 0])
        assert ratios == sorted(ratios)


def test_a_server_that_does_not_look_at_pictures_is_refused():
    """llama.cpp#26201 and many templates: the picture is dropped, and all pictures have one vector."""
    with vector_server("messages") as server:
        server.answer = lambda body: (200, {"data": [{"embedding": vector(_words(body))}]})
        with pytest.raises(ModelError, match=r"two different images have the same vector"):
            load(server)


def _words(body: Body) -> str:
    return "".join(part.get("text", "") for message in body["messages"] for part in message["content"])


# ---- shapes


def test_texts_are_sent_together_and_pictures_as_their_tcots(server: VectorServer, capsys: pytest.CaptureFixture[str]):
    embedder = load(server)
    server.asked.clear()
    items = [text(f"word {number}") for number in range(TEXTS_AT_ONCE + 3)]
    found = embedder.embed([*items, picture()], [*[None] * len(items), TCOT])
    assert found.shape == (len(items) + 1, embedder.dim)
    assert sorted(len(body["input"]) for body in server.asked) == [4, TEXTS_AT_ONCE]
    expected = np.asarray(vector("Describe the text.\nword 3"), np.float32)
    assert float(found[3] @ (expected / np.linalg.norm(expected))) > 0.99999
    assert any("a red card" in said for said in server.said())
    assert "takes texts only" in capsys.readouterr().err


def test_a_prompt_for_llama_cpp_marks_its_pictures():
    with vector_server("prompts") as server:
        embedder = load(server)
        server.asked.clear()
        shown = Item(content=(picture().content[0], Text(text="What <__media_7f__> is it?")), role=Role.QUERY_IMAGE)
        embedder.embed([shown, text("alone")], [None, None])
        with_picture, alone = sorted((body["input"][0] for body in server.asked), key=len, reverse=True)
        assert with_picture["prompt_string"].count("<__media_7f__>") == len(with_picture["multimodal_data"]) == 1
        assert alone == {"prompt_string": "Describe the text.\nalone"}


def test_messages_hold_pictures_and_the_times_of_frames():
    with vector_server("messages") as server:
        embedder = load(server)
        clip = next(body for body in server.asked if "media_io_kwargs" in body)
        assert clip["media_io_kwargs"]["video"]["frames_indices"] == [0, 500, 1000, 1500]
        assert clip["add_generation_prompt"] is True
        server.together = 2
        embedder.embed([text(f"{number}") for number in range(40)], [None] * 40)
        assert 2 <= server.most_in_flight <= 16


# ---- in a run


def test_another_model_behind_the_same_name_is_another_embedder(server: VectorServer):
    first = load(server)
    assert load(server).fingerprint == first.fingerprint
    with vector_server() as elsewhere:
        assert load(elsewhere).fingerprint == first.fingerprint, "where it runs does not matter"
        elsewhere.answer = lambda body: (200, {"data": [{"embedding": vector(f"2 {said}")} for said in inputs(body)]})
        assert load(elsewhere).fingerprint != first.fingerprint
    server.answer = lambda body: (200, vectors(body, 12))
    with pytest.raises(ModelError, match="12 numbers, where the probes had 24"):
        first.embed([text("a")], [None])


def test_rounding_of_a_busy_server_is_no_other_embedder(server: VectorServer, tmp_path: Path):
    """Its batches differ from day to day: a cosine near a border of rounding made another name, and an index refused it."""
    (tmp_path / "a.txt").write_text("a red star")
    first = load(server)
    ingest(tmp_path, Index.open(tmp_path, embedder=first), FakeReasoner(), first)
    noise = np.random.default_rng(0)
    server.answer = lambda body: (200, _shaken(vectors(body), noise, 0.004))
    names = set()
    for _ in range(8):
        embedder = load(server)
        names.add(embedder.fingerprint)
        opened = Index.open(tmp_path, embedder=embedder)
        assert ingest(tmp_path, opened, FakeReasoner(), embedder).added == 0
        assert search(opened, Query(content=(Text(text="a red star"),)), embedder, FakeReasoner()).hits
    assert len(names) > 1, "the noise shows in the names"
    server.answer = lambda body: (200, {"data": [{"embedding": vector(f"2 {said}")} for said in inputs(body)]})
    other = load(server)
    with pytest.raises(StoreError, match="holds vectors of"):
        ingest(tmp_path, Index.open(tmp_path, embedder=other), FakeReasoner(), other)


def _shaken(answer: dict[str, Any], noise: np.random.Generator, by: float) -> dict[str, Any]:
    """The same answer, its numbers off by a share of a vector's length."""
    for row in answer["data"]:
        numbers = np.asarray(row["embedding"])
        row["embedding"] = (numbers + by * np.linalg.norm(numbers) * noise.normal(size=numbers.size) / numbers.size**0.5).tolist()
    return answer


@pytest.mark.parametrize(
    ("fingerprint", "other", "same"),
    [
        ("m-24-1a-cos3e87d0", "m-24-1a-cos3e87d0", True),
        ("m-24-1a-cos3e87d0", "m-24-1a-cos3de7c6", True),
        ("m-24-1a-cos3e87d0", "m-24-1a-cos3dd7d0", False),
        ("m-24-1a-cos3e87d0-d8", "m-24-1a-cos3e97d0-d8", True),
        ("m-24-1a-cos3e87d0-d8", "m-24-1a-cos3e97d0", False),
        ("m-24-1a-cos3e87d0", "m-24-1b-cos3e87d0", False),
        ("m-24-1a-cos3e8", "m-24-1a-cos3e87d0", False),
        ("nano-1234abcd", "nano-1234abce", False),
    ],
)
def test_names_are_the_same_within_a_hundredth_of_a_cosine(fingerprint: str, other: str, same: bool):
    assert same_embedder(fingerprint, other) is same
    assert same_embedder(other, fingerprint) is same


def test_an_item_that_the_server_refuses_is_named_and_costs_the_others_nothing(server: VectorServer):
    embedder = load(server)
    server.answer = lambda body: (413, {"error": {"message": "too long"}}) if any("long" in said for said in inputs(body)) else None
    with pytest.raises(MediaError, match=r"'a long story'.*refused: 413.*too long"):
        embedder.embed([text("short"), text("a long story"), text("other")], [None] * 3)
    assert any("short" in said for said in server.said()), "asked for alone once the batch was refused"


@pytest.mark.parametrize("broken", [(500, b""), (200, None), (200, b'{"data": [{"embedding": [NaN]}]}'), (200, {"data": []})])
def test_after_repair_the_next_run_embeds_what_is_missing_and_nothing_else(tmp_path: Path, broken: Reply):
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"the word number {number} of this folder")
    reasoner = FakeReasoner()
    with vector_server() as server:
        embedder = load(server)
        done: list[str] = []

        def breaks(body: Body) -> Reply | None:
            if len(done) >= 3:
                return broken
            done.append(body["input"][0])
            return None

        server.answer = breaks
        index = Index.open(tmp_path, embedder=embedder)
        with pytest.raises(ModelError, match=r"'m' at http"):
            ingest(tmp_path, index, reasoner, embedder, batch_size=1)
        port = server.server_port
    with pytest.raises(ModelError, match="transport"):
        RemoteEmbedder.from_url(f"http://127.0.0.1:{port}/v1#m", **QUICK)
    with vector_server(port=port) as server:
        again = load(server)
        server.asked.clear()
        report = ingest(tmp_path, Index.open(tmp_path, embedder=again), reasoner, again, batch_size=1)
        assert report.added == 3
        assert not report.failures
        assert not {said for said in server.said() if said in done}
    assert set(reasoner.reasoned.values()) == {1}, "no T-CoT was written twice"


def test_options_of_the_command_line(server: VectorServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.txt").write_text("a red star")
    fake = ["--reasoner", "fake"]
    assert run("index", str(tmp_path), *fake, "--embedder", server.url, "--server-timeout", "30", "--server-option", "user=me") == 0
    assert server.asked[-1]["user"] == "me"
    assert run("index", str(tmp_path), *fake, "--embedder", "nano", "--like", str(tmp_path)) == 2
    assert "--like" in capsys.readouterr().err
    assert run("index", str(tmp_path), *fake, "--embedder", server.url, "--like", str(tmp_path)) == 2
    with pytest.raises(ConfigError, match="items with"):
        load(server).embed([text("a")], [])
