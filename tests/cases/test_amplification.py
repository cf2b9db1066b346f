"""Limits count what a request turns into, not its bytes: parts before they are decoded, keys before each is an error, pixels in all.

Reported: 200 pictures in one request of 69 kB took 3 GB; 63 MB of `[],` stopped the event loop for 53 s; 400,000 unknown keys
(4.7 MB) took 755 MB (attack.md 2).
"""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest

from embedrl.media.content import Frames, Image, Video
from embedrl.server.bodies import MAX_DATA_URLS, MAX_JSON_BYTES, MAX_KEYS, MAX_OBJECTS, parse_json
from embedrl.server.budget import PixelBudget, decoding, holding
from embedrl.server.openai_messages import MAX_IMAGES, read_media
from embedrl.server.problem import Problem
from tests.coloured_folder import make_folder
from tests.served import Served, served

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("amplified") / "media")) as found:
        yield found


def webp(side: int) -> str:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (side, side), "red").save(buffer, "WEBP", quality=1)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text[:500]
    return answer.json()["error"]["message"]


def test_pictures_are_counted_before_one_is_decoded(server: Served):
    url = webp(64)
    few, many = [image(url)] * 2, [image(url)] * (MAX_IMAGES + 1)
    spread = [{"role": "user", "content": [image(url)] * 11}] * 3
    decoded: list[Path] = []
    decode = server.service.decode_file
    server.service.decode_file = lambda path, **settings: decoded.append(path) or decode(path, **settings)  # type: ignore[method-assign]
    try:
        for messages in ([{"role": "user", "content": many}], spread):
            assert f"{MAX_IMAGES} images" in refused(server.client.post("/v1/embeddings", json={"messages": messages}), 413)
        documents = [{"image": url}] * (MAX_IMAGES + 1)
        assert "images" in refused(server.client.post("/v1/rerank", json={"query": "red", "documents": documents}), 413)
        assert not decoded
        assert server.client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": few}]}).status_code == 200
        assert len(decoded) == 2
    finally:
        server.service.decode_file = decode  # type: ignore[method-assign]


def test_pictures_of_a_request_share_its_pixels(server: Served):
    small = read_media(server.service, webp(400), 10_000)
    assert isinstance(small, Image)
    assert small.pixels is not None
    assert 2_000 < small.pixels.width * small.pixels.height <= 10_000
    clip = base64.b64encode((server.folder / "deep" / "clip.mp4").read_bytes()).decode()
    video = read_media(server.service, f"data:video/mp4;base64,{clip}", 1_000)
    assert isinstance(video, Video)
    assert isinstance(video.frames, Frames)
    assert sum(frame.width * frame.height for frame in video.frames.images) <= 1_000
    assert server.service.pixels.num_held == 0, "nothing is held outside a request"


def test_what_a_request_holds_is_given_back_when_it_ends(server: Served):
    message = {"role": "user", "content": [image(webp(500))] * 3}
    assert server.client.post("/v1/embeddings", json={"messages": [message]}).status_code == 200
    stream = server.client.post("/api/search/stream", files={"file": ("x.png", (server.folder / "red.png").read_bytes())})
    assert stream.status_code == 200
    assert "reasoned" in stream.text
    assert server.client.post("/api/search", files={"file": ("x.png", b"no picture")}).status_code == 415
    server.wait(lambda: server.service.pixels.num_held == 0)


def test_requests_wait_for_pixels_that_others_hold():
    budget, order = PixelBudget(100), []
    held, wait = threading.Event(), threading.Event()

    def first() -> None:
        with holding(budget), decoding(budget, 80) as found:
            found.num_pixels = 60
            held.set()
            assert wait.wait(60)
            order.append("first")

    def second() -> None:
        with holding(budget), decoding(budget, 50):
            order.append("second")

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(first)
        assert held.wait(60)
        waiting = pool.submit(second)
        wait.set()
        running.result(60)
        waiting.result(60)
    assert order == ["first", "second"]
    assert budget.num_held == 0


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * (MAX_JSON_BYTES // 3) + b"[]]",
        b'{"liked": [' + b"[]," * (MAX_JSON_BYTES // 3) + b"[]]}",
        b'{"a": "' + b"x" * MAX_JSON_BYTES + b'"}',
        b'{"a": "data:' + b"x" * 2 * MAX_JSON_BYTES + b'", "b": "' + b"y" * MAX_JSON_BYTES + b'"}',
        json.dumps({str(number): 0 for number in range(MAX_KEYS + 1)}).encode(),
        json.dumps({"messages": [{}] * (MAX_OBJECTS + 1)}).encode(),
        b'{"a": [' + b'"data:x",' * (MAX_DATA_URLS + 1) + b'"' + b"x" * MAX_JSON_BYTES + b'"]}',
        b'{"a": "' + b"\\u0064ata:x" * (MAX_JSON_BYTES // 8) + b'"}',
    ],
)
def test_json_that_turns_into_much_is_refused(server: Served, body: bytes):
    for path in ("/api/similar", "/v1/embeddings", "/v1/chat/completions", "/v1/rerank"):
        refused(server.client.post(path, content=body, headers=JSON), 413)


def test_the_body_of_a_data_url_may_be_large(server: Served):
    buffer = io.BytesIO()
    PIL.Image.effect_noise((1100, 1100), 99).convert("RGB").save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    assert len(url) > MAX_JSON_BYTES
    answer = server.client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": [image(url)]}]})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":', b"1" * 5000, b"\xff\xfe\xfa", b'{"a": 1} {}', b"nul"])
def test_what_is_no_json_is_said(server: Served, body: bytes):
    assert "JSON" in refused(server.client.post("/v1/embeddings", content=body, headers=JSON), 422)


def test_a_form_in_one_string_is_limited(server: Served):
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert "multipart" in refused(server.client.post("/api/search", content=b"a&" * MAX_JSON_BYTES, headers=form), 413)
    assert server.client.post("/api/search", content=b"text=red", headers=form).status_code == 200


def test_others_are_answered_while_json_is_parsed(server: Served):
    body = b'{"input": [' + b'"word word",' * 85_000 + b'"end"]}'
    assert len(body) <= MAX_JSON_BYTES
    with ThreadPoolExecutor(4) as pool:
        heavy = [
            pool.submit(httpx.post, f"{server.url}/v1/embeddings", content=body, headers=JSON, timeout=60, trust_env=False)
            for _ in range(4)
        ]
        while not all(answer.done() for answer in heavy):
            assert server.client.get("/health").status_code == 200
            time.sleep(0.01)
    assert {answer.result().status_code for answer in heavy} == {422}


def test_what_is_parsed_is_what_was_sent():
    value = {"a": [1, 2.5, None, True, "größe"], "b": {"c": []}}
    assert parse_json(json.dumps(value).encode()) == value
    with pytest.raises(Problem, match="at character 5"):
        parse_json(b'{"a":')
