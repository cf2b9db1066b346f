"""GET routes have what HTTP attaches to GET: HEAD, ETag with 304, and ranges; what cannot be read of a Range is ignored.

Reported: HEAD of every route 405; If-None-Match with its own ETag sent the whole file again; `Range: items=1` was 400 (media.md 15).
"""

import re
import socket
from collections.abc import Iterator

import pytest

from tests.coloured_folder import make_folder
from tests.served import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("http") / "media")) as found:
        yield found


def paths(server: Served) -> list[str]:
    key = server.key("deep/clip.mp4")
    own = [f"/api/items/{key}{name}" for name in ("", "/media", "/thumbnail", "/picture", "/overlay", "/frames/1")]
    return ["/", "/health", "/ready", "/api/status", "/api/items", "/v1/models", "/page/main.js", "/metrics", "/openapi.json", *own]


def test_head_is_get_without_the_body(server: Served):
    for path in paths(server):
        got, headed = server.client.get(path), server.client.head(path)
        assert headed.status_code == 200, path
        assert got.status_code == 200, path
        assert headed.content == b""
        assert headed.headers["content-type"] == got.headers["content-type"]
        if path != "/metrics":
            assert headed.headers["content-length"] == str(len(got.content)), path
    assert server.client.head("/nowhere").status_code == 404
    assert server.client.head("/v1/embeddings").status_code == 405


def test_what_a_client_has_is_not_sent_again(server: Served):
    key = server.key("deep/clip.mp4")
    for path in ("/", "/page/main.js", *(f"/api/items/{key}/{name}" for name in ("media", "thumbnail", "picture", "overlay", "frames/2"))):
        first = server.client.get(path)
        tag = first.headers["etag"]
        for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            for method in ("GET", "HEAD"):
                again = server.client.request(method, path, headers={"If-None-Match": sent})
                assert (again.status_code, again.content) == (304, b""), path
                assert again.headers["etag"] == tag
        assert server.client.get(path, headers={"If-None-Match": '"other"'}).content == first.content
    media = server.client.get(f"/api/items/{key}/media")
    when = media.headers["last-modified"]
    assert server.client.get(f"/api/items/{key}/media", headers={"If-Modified-Since": when}).status_code == 304
    for since in ("Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", "Fri, 99 Jan 99999 00:00:00 GMT"):
        assert server.client.get(f"/api/items/{key}/media", headers={"If-Modified-Since": since}).status_code == 200


def test_ranges(server: Served):
    url = f"/api/items/{server.key('deep/clip.mp4')}/media"
    whole = server.client.get(url)
    data, size, tag = whole.content, len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    for sent, start, end in (
        ("0-0", 0, 1),
        ("5-", 5, size),
        ("-7", size - 7, size),
        (f"3-{10 * size}", 3, size),
        (f"-{2 * size}", 0, size),
    ):
        part = server.client.get(url, headers={"Range": f"bytes={sent}"})
        assert (part.status_code, part.content) == (206, data[start:end]), sent
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for sent in (
        "items=1",
        "bytes=10-5",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "0-5",
        "bytes=1-2,4-5",
        "bytes 1-2",
        "bytes=--5",
        "\u00e9".encode(),
    ):
        assert server.client.get(url, headers={"Range": sent}).status_code == 200, sent
    for sent in (f"bytes={size}-", f"bytes={10**30}-", "bytes=-0"):
        refused = server.client.get(url, headers={"Range": sent})
        assert refused.status_code == 416
        assert refused.headers["content-range"] == f"bytes */{size}"
    for condition, status in ((tag, 206), (whole.headers["last-modified"], 206), ('"other"', 200)):
        assert server.client.get(url, headers={"Range": "bytes=0-3", "If-Range": condition}).status_code == status


def raw(server: Served, request: str) -> str:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode("latin-1")


def test_a_client_of_http_1_0_needs_no_host(server: Served):
    assert raw(server, "GET /health HTTP/1.0\r\n\r\n").split()[1] == "200"
    assert raw(server, "GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n").split()[1] == "421"
    assert raw(server, "GET /health HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n").split()[1] in ("400", "421")
    assert raw(server, "HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").endswith("\r\n\r\n")


JSON_PATHS = (
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/chat/completions",
    "/v1/ask",
    "/api/similar",
    "/v2/rerank",
    "/v2/embed",
    "/rerank",
    "/embed",
)


@pytest.mark.parametrize("path", JSON_PATHS)
def test_what_is_no_json_is_refused_by_its_type_and_an_empty_body_by_name(server: Served, path: str):
    """Reported: "Input should be a valid dictionary or object to extract fields from", and "Field required" of an empty body."""
    form = server.client.post(path, data={"input": "x", "question": "x"})
    assert form.status_code == 415
    assert "Content-Type: application/json; it came as application/x-www-form-urlencoded" in form.text
    typeless = server.client.post(path, content=b"{}")
    assert typeless.status_code == 415
    assert "it came without a type" in typeless.text
    assert "the body is empty" in server.client.post(path).text
    for content in (b"[]", b"1", b'"text"'):
        answer = server.client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "Input should be a JSON object" in answer.text
    packed = server.client.post(path, content=b"\x1f\x8b", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert packed.status_code == 415
    assert "Content-Encoding: gzip" in packed.text


@pytest.mark.parametrize("path", ["/api/search", "/api/search/stream", "/api/items"])
def test_json_for_a_form_is_refused_by_its_type(server: Served, path: str):
    """Reported: JSON sent to /api/search was "the query is empty"."""
    answer = server.client.post(path, json={"text": "red"})
    assert answer.status_code == 415
    assert "send the body as a form" in answer.text


def test_fields_that_are_not_known_are_named_with_the_nearest(server: Served):
    """Reported: `modalty=image` listed everything, `lmit=1` gave 24 hits: what is misspelt was left out without a word."""
    for answer in (
        server.client.get("/api/items", params={"modalty": "image"}),
        server.client.post("/api/search", data={"text": "red", "modalty": "image"}),
        server.client.post("/api/search", data={"text": "red"}, params={"x": 1}),
        server.client.post("/api/search/stream", files={"modalty": (None, "image"), "text": (None, "red")}),
        server.client.get(f"/api/items/{server.key('deep/clip.mp4')}", params={"modalty": 1}),
        server.client.get("/api/status", params={"modalty": 1}),
    ):
        assert answer.status_code == 422, answer.text
        assert re.search(r"'(modalty|x)': no such (field|parameter); (did you mean modality\?|known are|there is none)", answer.text), (
            answer.text
        )
    assert server.client.get("/v1/models", params={"api-version": "2024-10-21"}).status_code == 200  # as OpenAI does
    assert server.client.get("/page/main.js", params={"v": "2"}).status_code == 200


def test_paths_and_methods_that_there_are_not_say_what_there_is(server: Served):
    assert "/openapi.json" in server.client.get("/api/nowhere").json()["error"]["message"]
    assert server.client.get("/v1/embeddings").json()["error"]["message"] == "GET: use POST"
