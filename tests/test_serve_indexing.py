"""Files come, change and go while searches are answered; what was acknowledged survives a kill."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.testing import FakeReasoner
from tests.coloured_folder import make_folder, picture
from tests.served import Served, served


def png(colour: str, side: int = 48) -> bytes:
    buffer = io.BytesIO()
    picture(colour, side).save(buffer, "PNG")
    return buffer.getvalue()


def upload(server: Served, *files: tuple[str, bytes], **fields: str) -> list[dict]:
    answer = server.client.post("/api/items", files=[("file", file) for file in files], data=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["items"]


@pytest.fixture
def server(tmp_path: Path):
    with served(make_folder(tmp_path / "media")) as found:
        yield found


def test_an_upload_is_found_at_once_reasoned_about_soon_and_can_be_deleted(server: Served, tmp_path: Path):
    [added] = upload(server, ("../../etc/pa<b>ss.png", png("orange")))
    assert added["state"] == "added"
    assert added["path"].startswith("embedrl-uploads/pa_b_ss-")
    assert added["path"].endswith(".png")
    [key] = added["keys"]
    assert server.paths(text="orange", think=False, limit=1, modality="image") == [added["path"]]
    assert server.client.get(f"/api/items/{key}").json()["uploaded"] is True
    server.wait(lambda: server.client.get(f"/api/items/{key}").json()["tcot"] is not None)
    assert server.client.get(f"/api/items/{key}").json()["tcot"]["answer"] == "a orange picture"
    assert server.client.delete(f"/api/items/{key}").json() == {"removed": [key]}
    assert server.client.get(f"/api/items/{key}").status_code == 404
    assert not list((server.folder / "embedrl-uploads").iterdir())
    assert server.client.delete(f"/api/items/{key}").status_code == 404


def test_names_of_uploads_are_made_harmless(server: Served):
    names = ["🟥" * 200 + ".png", "...", "con/../..\\x.exe", "a\0b.txt", ".hidden.png", " "]
    added = upload(server, *((name, png("pink", 40 + number)) for number, name in enumerate(names)))
    assert all(Path(each["path"]).parent.name == "embedrl-uploads" for each in added)
    assert len({each["path"] for each in added}) == len(names)
    assert not any(each["name"].startswith(".") for each in added)


def test_what_was_not_uploaded_stays(server: Served):
    answer = server.client.delete(f"/api/items/{server.key('green.png')}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_uploaded")
    assert (server.folder / "green.png").is_file()


def test_uploads_of_every_kind_of_known_content_and_in_place_of_another(server: Served, tmp_path: Path):
    save_pdf([picture("grey"), picture("black")], tmp_path / "two.pdf")
    clip = (server.folder / "deep" / "clip.mp4").read_bytes()
    document, text, known = upload(
        server, ("two.pdf", (tmp_path / "two.pdf").read_bytes()), ("letter.md", b"a zebra writes"), ("again.mp4", clip)
    )
    assert len(document["keys"]) == 2
    assert document["path"].endswith(".pdf")
    assert text["path"].endswith(".md")
    assert known["state"] == "known"
    assert known["keys"] == [server.key("deep/clip.mp4")]
    assert server.paths(words="zebra") == [text["path"]]
    [fresh] = upload(server, ("letter.md", b"a giraffe writes"), replaces=text["keys"][0])
    assert server.paths(words="zebra") == []
    assert server.paths(words="giraffe") == [fresh["path"]]
    assert set(server.client.delete(f"/api/items/{document['keys'][0]}").json()["removed"]) == set(document["keys"])
    assert server.client.delete(f"/api/items/{known['keys'][0]}").json() == {"removed": []}, "the same content still lies elsewhere"
    assert server.client.get(f"/api/items/{known['keys'][0]}").json()["uploaded"] is False


def test_a_watched_folder_is_followed(tmp_path: Path):
    folder = tmp_path / "media"
    folder.mkdir()
    with served(folder, index=False, watch=True, watch_interval_s=0.1) as server:
        assert server.paths(text="red") == []
        assert server.client.get("/api/items").json()["total"] == 0
        save_image(picture("red"), folder / "red.png")
        server.wait(lambda: server.paths(text="red", think=False) == ["red.png"])
        save_image(picture("blue", 64), folder / "red.png")
        blue = {"thinking": "There is a blue picture.", "rethink": "That is all there is.", "answer": "a blue picture"}
        server.wait(lambda: [hit["tcot"] for hit in server.search(text="a blue picture")["hits"]] == [blue])
        (folder / "red.png").rename(folder / "moved.png")
        server.wait(lambda: server.paths(text="blue") == ["moved.png"])
        (folder / "moved.png").unlink()
        server.wait(lambda: server.paths(text="blue") == [])


def test_searches_go_on_while_files_come_and_go(server: Served):
    stop, wrong, counted = threading.Event(), [], [0]

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post("/api/search", data={"text": f"red {number} {counted[0]}", "think": "false", "limit": 3})
                if answer.status_code != 200 or not answer.json()["hits"]:
                    wrong.append(answer.text)
                counted[0] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(8):
            [added] = upload(server, (f"{number}.png", png("pink", 40 + number)))
            assert added["keys"][0] in {hit["key"] for hit in server.search(text="pink", think=False, limit=100)["hits"]}
            if number % 2:
                assert server.client.delete(f"/api/items/{added['keys'][0]}").status_code == 200
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert counted[0] > 3


def test_questions_that_come_together_are_answered_together(tmp_path: Path):
    slow = FakeReasoner()
    with served(make_folder(tmp_path / "media"), reasoner=slow) as server:
        reasoner = server.service.libraries[0].reasoner
        assert reasoner is not None
        server.settle()
        slow.sleep_s = 0.1
        before = reasoner.worker.num_batches, reasoner.worker.num_values
        gate = threading.Barrier(12)

        def ask(number: int) -> None:
            gate.wait()
            httpx.post(f"{server.url}/api/search", data={"text": f"question {number}"}, timeout=60, trust_env=False)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        num_batches, num_values = reasoner.worker.num_batches - before[0], reasoner.worker.num_values - before[1]
        assert num_values == 12
        assert num_batches < 12


SERVER = """
import sys
from pathlib import Path
from embedrl.server.run import make_server, make_service, listen
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner

folder = Path(sys.argv[1])
service = make_service(Settings(port=0, watch=True), {"main": (folder, "fake", FakeReasoner(sleep_s=0.02))}, FakeEmbedder(), "fake")
listener = listen(service.settings)
sys.stdout.write(f"{listener.getsockname()[1]}\\n")
sys.stdout.flush()
make_server(service).run(sockets=[listener])
"""


def start(folder: Path) -> tuple[subprocess.Popen, str]:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}"


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path):
    folder = tmp_path / "media"
    folder.mkdir()
    save_image(picture("red"), folder / "red.png")
    acknowledged: list[str] = []
    for kill in range(3):
        process, url = start(folder)

        def send(url: str = url, kill: int = kill) -> None:
            for number in range(200):
                name = f"{kill}-{number}"
                try:
                    answer = httpx.post(f"{url}/api/items", files={"file": (f"{name}.txt", f"note {name}")}, timeout=60, trust_env=False)
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    acknowledged.extend(answer.json()["items"][0]["keys"])

        before, sender = len(acknowledged), threading.Thread(target=send)
        sender.start()
        deadline = time.monotonic() + 120
        while len(acknowledged) < before + 3 + kill and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        sender.join()
        assert process.stdout is not None
        process.stdout.close()
        assert len(acknowledged) > before
    process, url = start(folder)
    try:
        deadline, found = time.monotonic() + 120, set()
        while time.monotonic() < deadline and not found.issuperset(acknowledged):
            try:
                listed = httpx.get(f"{url}/api/items", params={"limit": 100}, timeout=60, trust_env=False).json()
            except httpx.TransportError:
                continue
            found = {item["key"] for item in listed["items"]}
            assert listed["total"] <= 100, json.dumps(listed)[:200]
        assert found.issuperset(acknowledged)
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
