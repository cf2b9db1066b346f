"""No client makes the server's figures or caches grow, wrong tokens are slow, and odd headers get an answer in JSON.

Reported: 20,000 methods made 20,000 lines of /metrics; Origin `http://[::1` was 500; uvicorn's own 503 was plain text; 300 wrong logins
in 2.4 s (attack.md 13).
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from embedrl.server.metrics import METHODS, Metrics
from embedrl.server.scratch import scratch_folder, sweep
from embedrl.server.security import WrongTokens
from tests.coloured_folder import make_folder
from tests.served import Served, served

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("bounded") / "media")) as found:
        yield found


def test_methods_and_paths_that_nobody_knows_are_counted_together(server: Served):
    for number in range(50):
        server.client.request(f"M{chr(65 + number % 26)}{chr(65 + number // 26)}", f"/nowhere/{number}")
    server.client.request("PROPFIND", "/api/items")
    text = server.client.get("/metrics").text
    methods = {line.split('method="')[1].split('"')[0] for line in text.splitlines() if 'method="' in line}
    assert methods <= {*METHODS, "OTHER"}
    assert "nowhere" not in text
    assert 'embedrl_requests_total{method="OTHER",route="other",status="404"} 50' in text.splitlines()


def test_figures_keep_the_text_format_that_they_had():
    metrics = Metrics()
    metrics.gauges["embedrl_items"] = ("Items.", lambda: 9)
    metrics.gauges["embedrl_things_total"] = ("Things.", lambda: 2.5)
    with metrics.in_flight():
        metrics.count("GET", "/a", 200, 0.3)
        lines = metrics.text().splitlines()
    for line in (
        "# TYPE embedrl_requests_total counter",
        'embedrl_requests_total{method="GET",route="/a",status="200"} 1',
        "# TYPE embedrl_request_seconds histogram",
        'embedrl_request_seconds_bucket{le="0.25",route="/a"} 0',
        'embedrl_request_seconds_bucket{le="1",route="/a"} 1',
        'embedrl_request_seconds_bucket{le="+Inf",route="/a"} 1',
        'embedrl_request_seconds_sum{route="/a"} 0.3',
        "embedrl_requests_in_flight 1",
        "# TYPE embedrl_items gauge",
        "embedrl_items 9",
        "# TYPE embedrl_things_total counter",
        "embedrl_things_total 2.5",
    ):
        assert line in lines, line


@pytest.mark.parametrize("origin", ["http://[::1", "http://[", "http://a]b", "//", "\u00e9".encode(), "http://localhost:x"])
def test_an_origin_that_is_none_is_another_site(server: Served, origin: str):
    answer = server.client.post("/api/search", data={"text": "red"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "wrong_origin"


def test_when_all_connections_are_taken_the_answer_is_json(tmp_path: Path):
    with served(make_folder(tmp_path / "media"), max_connections=3) as server:
        host, port = server.url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port)), 30) for _ in range(3)]
        try:
            server.wait(lambda: httpx.get(f"{server.url}/health", trust_env=False).status_code == 503)
            answer = httpx.get(f"{server.url}/health", trust_env=False)
            assert answer.json()["error"]["type"] == "unavailable"
            assert answer.headers["retry-after"] == "1"
        finally:
            for connection in held:
                connection.close()
        server.wait(lambda: httpx.get(f"{server.url}/health", trust_env=False).status_code == 200)


def test_right_tokens_do_not_wait_for_wrong_ones(tmp_path: Path):
    with served(make_folder(tmp_path / "media"), token=TOKEN) as server:
        number, wrong = 12, []

        def guess(how: int) -> None:
            if how % 2:
                answer = httpx.post(f"{server.url}/api/login", json={"token": f"guess-number-{how}-is-wrong"}, trust_env=False, timeout=60)
            else:
                headers = {"Authorization": f"Bearer guess-number-{how}-is-wrong"}
                answer = httpx.get(f"{server.url}/api/status", headers=headers, trust_env=False, timeout=60)
            wrong.append(answer.status_code)

        threads = [threading.Thread(target=guess, args=(how,)) for how in range(number)]
        for thread in threads:
            thread.start()
        assert server.client.get("/api/status").status_code == 200
        for thread in threads:
            thread.join()
        assert wrong == [401] * number


def test_wrong_tokens_are_answered_one_after_the_other():
    """Each waits for those before it: never are two done at once, as they would be if they waited side by side."""

    async def count_done_at_once(number: int) -> list[int]:
        tokens = WrongTokens()
        pending = {asyncio.ensure_future(tokens.wait()) for _ in range(number)}
        counts = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            counts.append(len(done))
        return counts

    assert asyncio.run(count_done_at_once(4)) == [1] * 4


def test_folders_of_killed_servers_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    left, other = tmp_path / f"embedrl-upload-{int(process.stdout)}-abc", tmp_path / "embedrl-upload-x"
    for folder in (left, other):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    with scratch_folder() as own:
        sweep()
        assert (own.is_dir(), left.exists(), other.exists()) == (True, False, True)
    assert not own.exists()
