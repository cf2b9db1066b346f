"""An index whose table lies in object storage: an S3-compatible server on this machine, real requests."""

import itertools
import json
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from embedrl.cli.main import main
from embedrl.errors import ConfigError, StoreError
from embedrl.index.approximate import Policy, read_searching
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.lance import Table
from embedrl.index.location import IndexLocation
from embedrl.index.move import move
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import NUM_PLACES, make_folder
from tests.served import served
from tests.test_index import filled, make_rows, unit_vectors

EMBEDDER = FakeEmbedder()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT": server, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    name = tmp_path.name.strip("_").replace("_", "-").lower()
    httpx.put(f"{server}/{name}", trust_env=False).raise_for_status()
    return f"s3://{name}/index"


def index_folder(folder: Path, table: str | None = None, shelf: str | None = None) -> Index:
    index = Index.open(folder, embedder=EMBEDDER)
    if table is not None:
        index.create_at(table, shelf)
    ingest(folder, index, FakeReasoner(), EMBEDDER)
    return index


def hits(place: str | Path, text: str = "a red picture") -> list[tuple[str, float, str]]:
    index = Index.open(place, embedder=EMBEDDER)
    found = search(index, Query((Text(text=text),), limit=5), EMBEDDER, FakeReasoner()).hits
    return [(hit.key, hit.score, str(hit.path)) for hit in found]


def test_a_folder_is_searched_where_only_its_table_is_known(bucket: str, tmp_path: Path):
    folder = make_folder(tmp_path / "media")
    local = index_folder(make_folder(tmp_path / "local" / "media"))
    far = index_folder(folder, bucket)
    assert len(far) == NUM_PLACES
    assert len(local) == NUM_PLACES
    assert not (folder / ".embedrl-index" / "items.lance").exists()
    local_hits = [(key, score, f"media/{path}") for key, score, path in hits(tmp_path / "local" / "media")]
    assert hits(bucket) == local_hits
    assert hits(folder) == local_hits
    assert far.locate(Path("media/red.png")) == folder / "red.png"
    assert ingest(folder, Index.open(folder, embedder=EMBEDDER), FakeReasoner(), EMBEDDER).added == 0, "the folder knows where its table is"
    (folder / "red.png").unlink()
    assert ingest(folder, Index.open(folder, embedder=EMBEDDER), FakeReasoner(), EMBEDDER).removed == 1
    stats = Index.open(bucket).stats()
    assert stats.num_places == NUM_PLACES - 1
    assert stats.search == "exact"
    assert stats.size_bytes > 1000
    with pytest.raises(ConfigError, match="needs the folder"):
        Index.open(bucket, embedder=EMBEDDER).writing()


def test_folders_share_a_table_and_forget_only_their_own(bucket: str, tmp_path: Path):
    one, two = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    index_folder(one, bucket)
    index_folder(two, bucket, "other")
    assert len(Index.open(bucket)) == 2 * NUM_PLACES
    (one / "red.png").unlink()
    index_folder(one)
    assert {str(place.path) for place in Index.open(bucket).places() if place.path.name == "red.png"} == {"other/red.png"}
    clash = make_folder(tmp_path / "clash")
    with pytest.raises(ConfigError, match="holds a folder named 'other' already"):
        Index.open(clash, embedder=EMBEDDER).create_at(bucket, "other")
    with pytest.raises(ConfigError, match="embedrl index move"):
        Index.open(two, embedder=EMBEDDER).create_at(f"{bucket}-2")
    with pytest.raises(ConfigError, match="stays in object storage"):
        move(str(two), str(two))
    assert not Index.open(one).locate(Path("other/red.png")).exists()
    assert Index.open(two).locate(Path("other/red.png")) == two / "red.png"


def test_a_move_there_and_back_keeps_every_row(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_folder(tmp_path / "media")
    before, found = index_folder(folder).table.checksum(), hits(folder)
    with pytest.raises(SystemExit) as stopped:
        main(["index", "move", str(folder), bucket, "--json"])
    assert stopped.value.code == 0
    moved = json.loads(capsys.readouterr().out)
    assert (moved["num_rows"], moved["checksum"]) == before
    assert moved["target"] == bucket
    assert not (folder / ".embedrl-index" / "items.lance").exists()
    assert hits(folder) == found
    assert hits(bucket) == found
    other = make_folder(tmp_path / "other")
    with pytest.raises(ConfigError, match="belongs to one folder"):
        Index.open(other, embedder=EMBEDDER).create_at(bucket)
    assert move(bucket, f"{bucket}-2").checksum == before[1], "without its folder, which has to be told"
    with pytest.raises(StoreError, match="no index here"):
        move(str(folder), str(folder))
    move(f"{bucket}-2", bucket)
    assert move(str(folder), str(folder)).num_rows == before[0]
    assert Index.open(folder).table.checksum() == before
    assert hits(folder) == found
    with pytest.raises(StoreError, match="no index here"):
        Index.open(bucket)


def test_a_move_that_stopped_half_way_is_finished_by_the_next(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, vectors = tmp_path / "media", unit_vectors(300)
    index = Index.open(folder, embedder=FakeEmbedder(dim=16))
    for start in (0, 100, 200):
        index.upsert(make_rows(vectors[start : start + 100], start))
    before, write, written = index.table.checksum(), Table.upsert_batches, []

    def write_once(table: Table, rows: list) -> None:
        if written:
            raise StoreError("out of reach")
        written.append(write(table, rows))

    with monkeypatch.context() as patched:
        patched.setattr("embedrl.index.lance.COPY_COMMIT_ROWS", 100)
        patched.setattr(Table, "upsert_batches", write_once)
        with pytest.raises(StoreError, match="out of reach"):
            move(str(folder), bucket)
    assert Index.open(folder).table.checksum() == before, "the folder still has its table"
    with pytest.raises(StoreError, match="still being moved here"):
        Index.open(bucket)
    assert move(str(folder), bucket).checksum == before[1]
    assert len(Index.open(bucket)) == 300
    assert len(Index.open(folder)) == 300


def test_a_move_that_was_killed_just_before_its_end_is_finished_too(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, policy = tmp_path / "media", Policy(exact_below=10, recall=0.9)
    before = filled(folder, unit_vectors(30), policy=policy).table.checksum()

    def killed(home: IndexLocation) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("embedrl.index.move.save_location", killed)
        with pytest.raises(KeyboardInterrupt):
            move(str(folder), bucket)
    assert Index.open(folder).home.uri == str(folder / ".embedrl-index"), "the folder still has its table"
    assert move(str(folder), bucket).checksum == before[1]
    moved = Index.open(folder)
    assert moved.home.uri == bucket, "the policy moves along"
    assert read_searching(moved.table.settings, "here").policy == policy, "the policy moves along"
    with pytest.raises(ConfigError, match="already"):
        move(str(folder), bucket)


def test_a_place_that_holds_another_index_is_left_alone(bucket: str, tmp_path: Path):
    there = Index.open(bucket, embedder=FakeEmbedder(dim=16))
    there.upsert(make_rows(unit_vectors(5, seed=3)))
    filled(tmp_path / "media", unit_vectors(5))
    with pytest.raises(ConfigError, match="there is an index already"):
        move(str(tmp_path / "media"), bucket)
    assert len(there) == 5
    assert len(Index.open(tmp_path / "media")) == 5


def test_a_server_finds_what_lies_in_object_storage(bucket: str, tmp_path: Path):
    folder = make_folder(tmp_path / "media")
    Index.open(folder, embedder=EMBEDDER).create_at(bucket)
    with served(folder) as server:
        assert not (folder / ".embedrl-index" / "items.lance").exists()
        hit = server.search(text="a red picture", limit=1)["hits"][0]
        assert (hit["path"], hit["other_paths"]) == ("deep/er/red again.png", ["red.png"])
        assert server.client.get(hit["media"]).content == (folder / "red.png").read_bytes()


def test_a_copy_that_differs_costs_nothing(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "media"
    before = filled(folder, unit_vectors(30)).table.checksum()
    write = Table.upsert_batches
    monkeypatch.setattr(Table, "upsert_batches", lambda table, rows: write(table, [rows[0].slice(1), *rows[1:]]))
    with pytest.raises(StoreError, match=r"the copy \(29 rows\) differs from the source \(30\); nothing was deleted"):
        move(str(folder), bucket)
    assert Index.open(folder).table.checksum() == before


@pytest.mark.parametrize("place", ["s3://bucket", "ftp://host/name", "http://host/name"])
def test_a_place_that_cannot_be_is_said_before_anything(place: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="s3://bucket/name"):
        Index.open(place)
    with pytest.raises(ConfigError, match="s3://bucket/name"):
        Index.open(tmp_path, embedder=EMBEDDER).create_at(place)


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path):
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/index.*cannot be reached"):
        Index.open("s3://no-such-bucket/index")
    with pytest.raises(ConfigError, match="comes back to the folder"):
        move(bucket, str(tmp_path))


def test_writers_at_once_lose_nothing(bucket: str):
    vectors = unit_vectors(200)
    Index.open(bucket, embedder=FakeEmbedder(dim=16)).upsert(make_rows(vectors[:10]))
    failed: list[Exception] = []

    def write(first: int) -> None:
        try:
            index = Index.open(bucket, embedder=FakeEmbedder(dim=16))
            for start in range(first, len(vectors), 20):
                index.upsert(make_rows(vectors[start : start + 10], start))
        except Exception as error:  # boundary: a thread's error belongs to the test
            failed.append(error)

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failed
    assert len(Index.open(bucket)) == 200


WRITER = """
import sys
from embedrl.index.index import Index
from embedrl.testing import FakeEmbedder
from tests.test_index import make_rows, unit_vectors

vectors = unit_vectors(10_000)
index = Index.open(sys.argv[1], embedder=FakeEmbedder(dim=16))
for start in range(int(sys.argv[2]), len(vectors), 1000):
    index.upsert(make_rows(vectors[start : start + 1000], start))
    print(start + 1000, flush=True)
"""


@pytest.mark.slow
def test_ten_thousand_items_and_five_kills(bucket: str):
    rng, acknowledged, kills, sizes, stop = random.Random(0), 0, 0, [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                sizes.append(len(Index.open(bucket)))
            except StoreError as error:
                assert "no index here" in str(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while acknowledged < 10_000:
            last = rng.randint(1, 2) if kills < 5 else 10
            arguments = [sys.executable, "-c", WRITER, bucket, str(acknowledged)]
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
                assert writer.stdout is not None
                for line in itertools.islice(writer.stdout, last):
                    acknowledged = int(line)
                if kills < 5:
                    time.sleep(rng.random() / 5)  # into the next commit
                    writer.kill()
                    kills += 1
    finally:
        stop.set()
        reader.join()
    index = Index.open(bucket)
    assert kills == 5
    assert len(index) == 10_000
    assert len({place.id for place in index.places()}) == 10_000
    assert sizes == sorted(sizes), "a reader saw part of a commit"
    assert all(size % 1000 == 0 for size in sizes), "a reader saw part of a commit"
