"""What is in an index was said nowhere (issue 23, 6)."""

import json
import threading
from pathlib import Path

import pytest

from embedrl.cli.main import main
from embedrl.index.contents import contents
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.log import size_text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import picture
from tests.odd_media import text_pdf


def test_stats_count_files_units_and_bytes_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "library"
    folder.mkdir()
    picture("red").save(folder / "red.png")
    (folder / "copy.png").write_bytes((folder / "red.png").read_bytes())
    picture("green").save(folder / "two.tif", save_all=True, append_images=[picture("blue")])
    (folder / "page.pdf").write_bytes(text_pdf("a wolf"))
    (folder / "note.txt").write_text("a lamp")
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    ingest(folder, Index.open(folder, embedder=FakeEmbedder()), FakeReasoner(), FakeEmbedder())
    with pytest.raises(SystemExit) as ended:
        main(["index", "stats", str(folder), "--json"])
    assert not ended.value.code
    counted = json.loads(capsys.readouterr().out)
    sizes = {name: (folder / name).stat().st_size for name in ("red.png", "copy.png", "two.tif", "page.pdf", "note.txt")}
    assert {kind: (of["num_files"], of["num_units"], of["num_bytes"]) for kind, of in counted["kinds"].items()} == {
        "image": (3, 4, sizes["red.png"] + sizes["copy.png"] + sizes["two.tif"]),
        "page": (1, 1, sizes["page.pdf"]),
        "text": (1, 1, sizes["note.txt"]),
    }
    assert (counted["stats"]["num_items"], counted["num_failures"]) == (5, 1)
    assert counted["records_bytes"]["tcots.jsonl"] == (folder / ".embedrl-index" / "tcots.jsonl").stat().st_size
    with pytest.raises(SystemExit):
        main(["index", "stats", str(folder)])
    said = capsys.readouterr().out
    assert f"image\t3\t4\t{size_text(sizes['red.png'] + sizes['copy.png'] + sizes['two.tif'])}\t" in said
    assert f"text\t1\t1\t{sizes['note.txt']} B\t" in said, "a small size is not rounded to 0.0 MB"


def test_a_size_is_told_in_its_largest_unit():
    sizes = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_951: "1.0 MB", 3_400_000: "3.4 MB", 10**13: "10,000.0 GB"}
    assert {size: size_text(size) for size in sizes} == sizes


def test_files_that_come_and_go_while_sizes_are_counted_are_left_out(tmp_path: Path):
    """`GET /api/status` answered 500 when a writer's temporary file went away between its name and its size."""
    (tmp_path / "note.txt").write_text("a lamp")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    ingest(tmp_path, index, FakeReasoner(), FakeEmbedder())
    home, ended = tmp_path / ".embedrl-index", threading.Event()

    def write_and_delete() -> None:
        while not ended.is_set():
            for folder in (home, home / "items.lance", home / "items.lance" / "_versions"):
                (folder / ".tmp").touch()
                (folder / ".tmp").unlink()

    writer = threading.Thread(target=write_and_delete)
    writer.start()
    try:
        sizes = [index.table.size_bytes for _ in range(400)]
        counted = [contents(index) for _ in range(20)]
    finally:
        ended.set()
        writer.join()
    assert min(sizes) > 0
    assert all(of.stats.num_items == 1 for of in counted)
