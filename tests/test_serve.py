"""Searching over HTTP: what is found, where its pictures are, and what a person is told on the way."""

import io
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

from embedrl.index.index import Index
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.media.image import save_image
from embedrl.media.video import save_video
from embedrl.server.run import index_beside, listen, make_service
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import NUM_ITEMS, NUM_PLACES, make_folder, picture
from tests.served import Served, fill, running, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("served") / "media")) as found:
        yield found


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    picture(colour).save(buffer, "PNG")
    return buffer.getvalue()


def events(answer: httpx.Response) -> list[tuple[str, Any]]:
    found = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


@pytest.mark.parametrize("think", [True, False])
def test_a_search_over_http_finds_what_a_search_in_python_finds(server: Served, think: bool):
    answer = server.search(text="a red picture", think=think, limit=5)
    embedder = FakeEmbedder()
    index = Index.open(server.folder, embedder=embedder)
    query = Query((Text(text="a red picture"),), use_tcot=think, limit=5)
    expected = search(index, query, embedder, FakeReasoner() if think else None)
    assert [(hit["key"], hit["score"]) for hit in answer["hits"]] == [(hit.key, hit.score) for hit in expected.hits]
    assert answer["think"] is think
    assert answer["reasoner"] == "main"
    assert answer["more"] is True
    assert (answer["query"]["tcot"] is not None) is think
    best = answer["hits"][0]
    assert best["path"] == "deep/er/red again.png"
    assert best["other_paths"] == ["red.png"]


def test_a_hit_shows_its_evidence_piece_by_piece(server: Served):
    hits = {hit["path"]: hit for hit in server.search(text="everything", limit=100)["hits"]}
    assert len(hits) == NUM_ITEMS - 1, "two pages lie in one file"
    green = hits["green.png"]
    [box] = green["evidence"]["boxes"]
    assert (box["box"], box["verified"], box["check"]) == ([250, 250, 750, 750], True, "inside the picture")
    assert green["tcot"] == {"thinking": "There is a green picture.", "rethink": "That is all there is.", "answer": "a green picture"}
    clip = hits["deep/clip.mp4"]
    [frame] = clip["evidence"]["key_frames"]
    assert (frame["number"], frame["time_s"], frame["verified"]) == (3, 1.0, True)
    assert clip["duration_s"] == pytest.approx(4.0)
    shown = PIL.Image.open(io.BytesIO(server.client.get(frame["image"]).content))
    assert np.abs(np.asarray(shown)[24, 24].astype(int) - (140, 40, 170)).max() < 30, "the third frame is purple"
    page = hits["pages.pdf"]
    assert page["modality"] == "page"
    assert page["num_pages"] == 2
    assert page["page"] in (1, 2)
    note = hits["note.md"]
    assert note["thumbnail"] is None
    assert {word["text"] for word in note["evidence"]["keywords"]} >= {"letter", "elephant"}
    assert all(word["verified"] for word in note["evidence"]["keywords"])
    assert note["excerpt"] == "a letter about an elephant"


def test_search_with_a_picture_a_clip_and_a_picture_with_text(server: Served, tmp_path: Path):
    assert server.paths(file=("x.png", png("blue")), limit=1) == ["blue.png"]
    save_video([picture("purple")] * 8, tmp_path / "clip.mp4", fps=2)
    answer = server.search(file=("clip", (tmp_path / "clip.mp4").read_bytes()), limit=1)
    assert [hit["path"] for hit in answer["hits"]] == ["deep/clip.mp4"]
    [frame] = answer["query"]["evidence"]["key_frames"]
    assert (frame["number"], frame["time_s"], frame["verified"], frame["image"]) == (1, 0.0, True, None)
    both = server.search(file=("x.png", png("white")), text="green", modality="image", limit=1)
    assert [hit["path"] for hit in both["hits"]] == ["green.png"]


def test_filters_sorting_and_paging(server: Served):
    assert {hit["modality"] for hit in server.search(text="red", modality=["page", "video"])["hits"]} == {"page", "video"}
    assert set(server.paths(text="red", under="deep")) == {"deep/clip.mp4", "deep/er/red again.png"}
    assert server.paths(text="red", words="elephant") == ["note.md"]
    assert server.paths(words="ELEPHANT letter") == ["note.md"]
    assert server.paths(text="red", since="2999-01-01") == []
    assert server.paths(text="red", until="1999-12-31") == []
    scores = [hit["score"] for hit in server.search(text="red", limit=100)["hits"]]
    kept = [hit["score"] for hit in server.search(text="red", limit=100, min_score=scores[2])["hits"]]
    assert kept == [score for score in scores if score >= scores[2]]
    assert len(kept) < len(scores)
    whole = server.paths(text="red", unit="unit", limit=100)
    pages = [server.search(text="red", unit="unit", offset=offset, limit=4) for offset in range(0, NUM_ITEMS, 4)]
    assert [hit["path"] for page in pages for hit in page["hits"]] == whole
    assert [page["more"] for page in pages] == [*[True] * (len(pages) - 1), False]
    names = server.paths(text="red", sort="name", unit="unit", limit=100)
    assert names == sorted(names, key=str.casefold)
    assert set(names) == set(whole)
    times = [hit["modified_s"] for hit in server.search(text="red", sort="newest", limit=100)["hits"]]
    assert times == sorted(times, reverse=True)


def test_two_reasoners_are_served_side_by_side_over_the_same_files(tmp_path: Path):
    folder, embedder = make_folder(tmp_path / "media"), FakeEmbedder()
    after, before = FakeReasoner("after-rl"), FakeReasoner("before-rl", num_frames=4)
    fill(folder, after, embedder)
    beside = index_beside(folder, (), before, embedder)
    assert beside == index_beside(folder, (), before, embedder)
    assert len(Index.open(beside, embedder=embedder)) == NUM_PLACES
    indexes = {"after": (folder, "rl", after), "before": (beside, "sft", before)}
    service = make_service(Settings(port=0), indexes, embedder, "nano")
    with running(service) as url:
        server = Served(service, url, folder, after, embedder)
        with server.client as client:
            assert [each["id"] for each in client.get("/api/status").json()["reasoners"]] == ["before", "after"]
            assert server.search(text="red")["reasoner"] == "after"
            for name in indexes:
                answer = server.search(text="red", reasoner=name)
                assert answer["reasoner"] == name
                assert answer["hits"][0]["path"] == "deep/er/red again.png"
                assert client.get(answer["hits"][0]["overlay"]).status_code == 200
                assert set(server.paths(text="red", under="deep", reasoner=name)) == {"deep/clip.mp4", "deep/er/red again.png"}
                liked, other = client.get("/api/items", params={"under": "deep", "reasoner": name}).json()["items"]
                similar = client.post("/api/similar", json={"liked": [liked["key"]], "under": "deep", "reasoner": name}).json()
                assert [hit["key"] for hit in similar["hits"]] == [other["key"]]
            wrong = client.post("/api/search", data={"text": "red", "reasoner": "other"})
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "no_such_reasoner")


def test_the_listing_shows_everything_without_a_query(server: Served):
    listed = server.client.get("/api/items", params={"limit": 3, "sort": "name"}).json()
    assert listed["total"] == NUM_ITEMS - 1, "two pages are one file"
    assert server.client.get("/api/items", params={"unit": "unit"}).json()["total"] == NUM_ITEMS
    assert listed["more"]
    assert len(listed["items"]) == 3
    images = server.client.get("/api/items", params={"modality": "image", "limit": 100}).json()
    assert {item["modality"] for item in images["items"]} == {"image"}
    assert images["total"] == 4


def test_a_stream_gives_the_plain_result_first_and_then_what_reasoning_changed(server: Served):
    with served(server.folder, index=False, reasoner=FakeReasoner(sleep_s=1.5)) as slow:
        answer = slow.client.post("/api/search/stream", data={"text": "the invoice of the green grocer", "limit": 4})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ": waiting" in answer.text
    found = events(answer)
    assert [name for name, _ in found] == ["plain", "reasoned", "done"]
    (_, plain), (_, reasoned), _ = found
    assert (plain["think"], reasoned["think"]) == (False, True)
    assert plain["query"]["tcot"] is None
    assert reasoned["query"]["tcot"]
    before, now = ([hit["key"] for hit in answer["hits"]] for answer in (plain, reasoned))
    for key in {*before, *now}:
        ranks = tuple(order.index(key) + 1 if key in order else None for order in (before, now))
        expected = [] if ranks[0] == ranks[1] else [{"key": key, "before": ranks[0], "now": ranks[1]}]
        assert [change for change in reasoned["changes"] if change["key"] == key] == expected
    quick = events(server.client.post("/api/search/stream", data={"text": "red", "think": "false"}))
    assert [name for name, _ in quick] == ["plain", "done"]


def test_a_tcot_of_a_query_is_written_once(server: Served):
    assert isinstance(server.reasoner, FakeReasoner)
    before = server.reasoner.reasoned.total()
    for _ in range(3):
        server.search(text="a text that nobody asked for before", think=True)
    assert server.reasoner.reasoned.total() == before + 1
    records = (server.folder / ".embedrl-index" / "query-tcots.jsonl").read_text()
    assert "nobody asked" in records
    fresh = FakeReasoner()
    with served(server.folder, index=False, reasoner=fresh) as again:
        again.search(text="a text that nobody asked for before", think=True)
    assert fresh.reasoned.total() == 0, "kept between runs"


def test_one_item_with_its_text_its_file_and_its_pictures(server: Served):
    get = server.client.get
    note = server.key("note.md")
    item = get(f"/api/items/{note}").json()
    assert item["text"] == "a letter about an elephant"
    assert item["name"] == "note.md"
    media = get(item["media"])
    assert media.headers["content-type"] == "text/plain; charset=utf-8"
    assert media.text.strip() == "a letter about an elephant"
    assert get(f"/api/items/{note}/thumbnail").status_code == 404
    assert get(f"/api/items/{note}/picture").status_code == 404
    red = get(f"/api/items/{server.key('red.png')}").json()
    for name, size in (("thumbnail", (48, 48)), ("picture", (48, 48)), ("overlay", (48, 48))):
        answer = get(red[name])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert PIL.Image.open(io.BytesIO(answer.content)).size == size
    assert get(red["picture"]).content != get(red["overlay"]).content, "boxes are drawn"
    assert get(red["media"]).content == (server.folder / "red.png").read_bytes()
    page = get(f"/api/items/{server.key('pages.pdf')}").json()
    assert PIL.Image.open(io.BytesIO(get(page["picture"], params={"max_side": 100}).content)).size <= (100, 100)
    assert get(page["media"]).headers["content-type"] == "application/pdf"
    assert get(f"/api/items/{server.key('deep/clip.mp4')}/frames/9").status_code == 404
    assert get(f"/api/items/{'0' * 64}").status_code == 404
    assert get(f"/api/items/{'0' * 64}/media").status_code == 404


def test_a_video_is_sent_in_ranges(server: Served):
    whole = (server.folder / "deep" / "clip.mp4").read_bytes()
    url = f"/api/items/{server.key('deep/clip.mp4')}/media"
    part = server.client.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert part.headers["content-type"] == "video/mp4"
    assert server.client.get(url, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416


def test_a_file_that_changed_since_it_was_indexed_is_not_sent(tmp_path: Path):
    with served(make_folder(tmp_path / "media")) as server:
        url = f"/api/items/{server.key('green.png')}/media"
        save_image(picture("pink", 64), server.folder / "green.png")
        answer = server.client.get(url)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_changed")


def test_a_copied_library_is_shown_whole(tmp_path: Path):
    """Copies have the same bytes under other dates (report of five users, finding 6e)."""
    library = make_folder(tmp_path / "media")
    fill(library, FakeReasoner(), FakeEmbedder())
    shutil.copytree(library, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").rglob("*.*"):
        os.utime(path, (1_000, 1_000))
    with served(tmp_path / "copy", index=False) as server:
        server.settle()
        for item in server.client.get("/api/items", params={"limit": 100}).json()["items"]:
            for url in filter(None, (item["media"], item["picture"], item["overlay"])):
                assert server.client.get(url).status_code == 200, item["path"]
        changed = server.folder / "green.png"
        changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
        assert server.client.get(f"/api/items/{server.key('green.png')}/media").status_code == 404


def test_similar_items_come_with_their_reason(server: Served):
    red = server.key("red.png")
    answer = server.client.post("/api/similar", json={"liked": [red], "limit": 3}).json()
    assert len(answer["hits"]) == 3
    assert red not in {hit["key"] for hit in answer["hits"]}
    assert answer["hits"][0]["modality"] == "image"
    assert "picture" in answer["hits"][0]["shared"]
    assert "picture" in answer["hits"][0]["reason"]
    blue = server.key("blue.png")
    weighed = server.client.post(
        "/api/similar", json={"liked": {red: 1.0}, "disliked": {blue: 0.5}, "diversity": 0.5, "modality": ["image"]}
    )
    assert {hit["path"] for hit in weighed.json()["hits"]} == {"green.png", "yellow.png"}
    assert server.client.post("/api/similar", json={"liked": []}).status_code == 422
    assert server.client.post("/api/similar", json={"liked": ["0" * 64]}).status_code == 404
    assert server.client.post("/api/similar", json={"liked": [red], "disliked": [red]}).status_code == 422


def test_status_health_and_metrics(server: Served):
    server.settle()
    status = server.client.get("/api/status").json()
    assert (status["num_items"], status["num_places"], status["modalities"]) == (
        NUM_ITEMS,
        NUM_PLACES,
        {"image": 5, "video": 1, "page": 2, "text": 2},
    )
    assert status["reasoners"] == [{"id": "main", "name": "the-reasoner"}]
    assert status["title"] == "media"
    assert status["indexing"]["state"] == "idle"
    assert status["failures"]["count"] == 0
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/ready").json() == {"status": "ready"}
    server.search(text="red")
    metrics = server.client.get("/metrics")
    lines = dict(line.rsplit(" ", 1) for line in metrics.text.splitlines() if not line.startswith("#"))
    assert float(lines['embedrl_requests_total{method="POST",route="/api/search",status="200"}']) >= 1
    assert lines["embedrl_items"] == str(NUM_ITEMS)
    assert float(lines["embedrl_model_batches_total"]) >= 1


def test_a_server_without_a_reasoner_searches_plainly(tmp_path: Path):
    with served(make_folder(tmp_path / "media"), think=False) as server:
        assert server.search(text="red", limit=1)["think"] is False
        assert server.client.post("/api/search", data={"text": "red", "think": "true"}).status_code == 422
        assert server.client.post("/api/search/stream", data={"text": "red", "think": "true"}).status_code == 422
        assert server.client.get("/api/status").json()["reasoners"] == []


def test_an_answer_does_not_wait_for_the_one_before_it():
    """asyncio sets TCP_NODELAY where the socket names its protocol; without it, every answer on a kept connection takes 40 ms more."""
    with listen(Settings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP
