"""An index that is deleted, made anew, or cannot be written while it is served: said with 503 or 507, and nothing needs a restart.

Reported: /ready stayed 200 while everything failed; new texts and uploads answered 500 until a restart; `embedrl serve` of a read-only
folder ended with an OSError (attack.md 12).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from embedrl.errors import StoreError
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import NUM_ITEMS, make_folder
from tests.served import Served, fill, served


def statuses(server: Served) -> dict[str, int]:
    post = server.client.post
    return {
        "ready": server.client.get("/ready").status_code,
        "known": post("/api/search", data={"text": "red"}).status_code,
        "new": post("/api/search", data={"text": f"never asked {len(os.listdir(server.folder))}"}).status_code,
        "items": server.client.get("/api/items").status_code,
        "upload": post("/api/items", files={"file": ("zebra.txt", "a zebra")}).status_code,
    }


def make_anew(server: Served) -> None:
    """Index the folder as another process does, once the server's own writer lets it."""

    def done() -> bool:
        try:
            fill(server.folder, FakeReasoner(), FakeEmbedder())
        except StoreError as error:
            assert "another process" in str(error)
            return False
        return True

    server.wait(done)


def test_a_deleted_index_is_said_and_one_made_anew_is_served(tmp_path: Path):
    with served(make_folder(tmp_path / "media")) as server:
        server.search(text="red")
        server.settle()
        shutil.rmtree(server.folder / ".embedrl-index")
        found = statuses(server)
        assert found.pop("upload") in (201, 503)
        if not (server.folder / ".embedrl-index").is_dir():
            assert set(found.values()) == {503}
        server.settle()
        shutil.rmtree(server.folder / ".embedrl-index", ignore_errors=True)
        make_anew(server)
        assert statuses(server) == {"ready": 200, "known": 200, "new": 200, "items": 200, "upload": 201}
        assert server.client.get("/api/items", params={"unit": "unit"}).json()["total"] == NUM_ITEMS + 1


def test_a_table_made_anew_with_the_same_number_of_versions_is_seen(tmp_path: Path):
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.txt").write_text("a zebra")
    with served(folder) as server:
        server.settle()
        assert server.paths(words="zebra") == ["a.txt"]
        shutil.rmtree(folder / ".embedrl-index")
        (folder / "a.txt").unlink()
        (folder / "b.txt").write_text("a giraffe")
        make_anew(server)
        assert server.paths(text="a giraffe") == ["b.txt"]
        assert server.paths(words="zebra") == []


def test_a_watching_server_makes_a_deleted_index_anew(tmp_path: Path):
    with served(make_folder(tmp_path / "media"), watch=True, watch_interval_s=0.05) as server:
        server.settle()
        shutil.rmtree(server.folder / ".embedrl-index")
        server.wait(lambda: server.client.get("/ready").status_code == 200)
        server.wait(lambda: server.client.get("/api/items", params={"unit": "unit"}).json().get("total") == NUM_ITEMS)


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.coloured_folder import make_folder
from tests.served import served

with served(make_folder(Path(sys.argv[3]))) as server:
    server.search(text="red")  # all that is imported late is there now
if os.geteuid() == 0:
    os.setuid(65534)
with served(Path(sys.argv[1]), index=False) as server:
    post, status = server.client.post, server.client.get("/api/status").json()
    upload = post("/api/items", files={"file": ("zebra.txt", "a zebra")})
    found = post("/api/search", data={"text": "red"})
    print(status["uploads"], server.client.get("/ready").status_code, upload.status_code, upload.json()["error"]["code"], found.status_code)
"""


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_served_without_uploads():
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as name:  # where another user can read, too
        os.chmod(name, 0o755)
        folder = make_folder(Path(name) / "media")
        fill(folder, FakeReasoner(), FakeEmbedder())
        for place, _, names in os.walk(folder):
            for each in names:
                os.chmod(Path(place) / each, 0o444)
            os.chmod(place, 0o555)
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), "HOME": name}
        command = [sys.executable, "-c", READ_ONLY, str(folder), str(root), str(Path(name) / "first")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=name, timeout=120)
        for place, _, _ in os.walk(folder):
            os.chmod(place, 0o755)
    assert done.stdout.split() == ["False", "200", "503", "read_only", "200"], done.stderr[-2000:]
    assert "not taken in" in done.stderr
