"""Nothing outside the served folders is sent, however names are swapped: files are opened once, beneath the root, and sent from there.

Reported: a note that became a link to a secret was indexed and shown; 127 of 2,020 requests raced with a swapped link returned the
bytes of a file outside; uploads into a folder that had become a link were acknowledged and never found (attack.md 6).
"""

import itertools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from embedrl.media.image import save_image
from embedrl.server.allowed_folders import AllowedFolders
from tests.coloured_folder import picture
from tests.served import Served, served

SECRET = "TOP SECRET launch codes red"
NUM_REQUESTS = 300


def make(folder: Path) -> Path:
    """Write a library beside a secret of the same size and time as its note."""
    (folder / "media" / "deep").mkdir(parents=True)
    (folder / "outside").mkdir()
    for path in (folder / "media" / "note.txt", folder / "media" / "deep" / "note.txt"):
        path.write_text("a harmless note of elephants"[: len(SECRET)])
    (folder / "outside" / "note.txt").write_text(SECRET)
    for path in folder.rglob("note.txt"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    save_image(picture("red"), folder / "media" / "red.png")
    save_image(picture("blue"), folder / "outside" / "red.png")
    return folder / "media"


@contextmanager
def swapping(name: Path, outside: Path, spare: Path) -> Iterator[None]:
    """Let a name be its own file or folder and a link out of the library, in turns."""
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(name, spare)
            os.symlink(outside, name)
            os.unlink(name)
            os.rename(spare, name)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_file_that_becomes_a_link_out_is_not_indexed_anew(tmp_path: Path):
    folder = make(tmp_path)
    with served(folder, watch=True, watch_interval_s=0.05) as server:
        server.settle()
        key = server.key("note.txt")
        (folder / "note.txt").unlink()
        (folder / "note.txt").symlink_to(tmp_path / "outside" / "note.txt")
        (folder / "fresh.txt").symlink_to(tmp_path / "outside" / "note.txt")
        (folder / "also").symlink_to(tmp_path / "outside", target_is_directory=True)
        (folder / "sign.txt").write_text("a sign that the folder was looked at")
        server.wait(lambda: "sign.txt" in server.paths(words="sign"))
        server.settle()
        said = [
            server.client.get("/api/items", params={"limit": 100}).text,
            server.client.post("/api/search", data={"text": "anything", "limit": 100}).text,
        ]
        said += [server.client.get(f"/api/items/{key}{name}").text for name in ("", "/media")]
        assert not [text for text in said if "SECRET" in text or "launch" in text]
        assert "leads out" in server.client.get("/api/status").text


@pytest.mark.parametrize("swapped", ["note.txt", "deep"])
def test_a_race_with_a_swapped_link_gives_no_bytes_from_outside(tmp_path: Path, swapped: str):
    folder = make(tmp_path)
    outside = tmp_path / "outside" / "note.txt" if swapped == "note.txt" else tmp_path / "outside"
    with served(folder) as server:
        url = f"/api/items/{server.key('note.txt')}/media"
        spare = folder / f".{swapped}.spare"
        with swapping(folder / swapped, outside, spare):
            answers = [server.client.get(url) for _ in range(NUM_REQUESTS)]
        assert not [answer for answer in answers if "SECRET" in answer.text]
        assert {answer.status_code for answer in answers} <= {200, 404}
        assert {answer.status_code for answer in answers} & {200}


def test_a_picture_is_drawn_from_the_file_that_was_checked(tmp_path: Path):
    folder = make(tmp_path)
    stamp = (folder / "red.png").stat()
    os.utime(tmp_path / "outside" / "red.png", ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    with served(folder) as server:
        url = f"/api/items/{server.key('red.png')}/picture"
        red = server.client.get(url).content
        with swapping(folder / "red.png", tmp_path / "outside" / "red.png", folder / ".red.spare"):
            answers = [server.client.get(url) for _ in range(20)]
        assert {answer.status_code for answer in answers} <= {200, 404}
        assert all(answer.content == red for answer in answers if answer.status_code == 200)


def test_uploads_go_into_a_folder_of_their_own_or_nowhere(tmp_path: Path):
    folder = make(tmp_path)

    def send(server: Served, text: str) -> httpx.Response:
        return server.client.post("/api/items", files={"file": ("zebra.txt", text)})

    with served(folder) as server:
        [added] = send(server, "a zebra").json()["items"]
        shutil.move(folder / "embedrl-uploads", tmp_path / "elsewhere")
        (folder / "embedrl-uploads").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        answer = send(server, "another zebra")
        assert answer.status_code == 503
        assert "embedrl-uploads" in answer.json()["error"]["message"]
        assert "link" in answer.json()["error"]["message"]
        assert server.client.delete(f"/api/items/{added['keys'][0]}").status_code in (404, 503)
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [added["name"]], "nothing was written or deleted there"
        (folder / "embedrl-uploads").unlink()
        assert send(server, "a third zebra").status_code == 201, "it goes on once the link is gone"


def test_what_is_opened_lies_under_a_root_whatever_stands_between(tmp_path: Path):
    folder = make(tmp_path)
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "in").symlink_to(folder / "deep")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    roots = AllowedFolders([folder])
    names = ("out/note.txt", "../outside/note.txt", "deep/../../outside/note.txt", "loop", "pipe", "deep", "", "nowhere", "note.txt/x")
    assert [name for name in names if roots.open(folder / name) is not None] == []
    for name in ("note.txt", "deep/note.txt", "in/note.txt"):
        file = roots.open(folder / name)
        assert file is not None
        written = (folder / "note.txt").read_bytes()
        assert file.read(100) == written
        assert file.path.read_bytes() == written
        file.close()


def test_descriptors_are_closed(tmp_path: Path):
    with served(make(tmp_path)) as server:
        url = f"/api/items/{server.key('note.txt')}/media"
        tag = server.client.get(url).headers["etag"]
        before = len(os.listdir("/proc/self/fd"))
        headers = ({}, {"Range": "bytes=0-3"}, {"Range": "bytes=99999-"}, {"If-None-Match": tag}, {"Range": "x"})
        for method, sent in itertools.product(("GET", "HEAD"), headers * 5):
            server.client.request(method, url, headers=sent)
        server.wait(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
