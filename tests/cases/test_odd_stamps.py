"""Files whose date or name no other program would have written: they are indexed, found and opened like all others.

One file dated after 2262 (a broken clock; 64 bits of nanoseconds end there) ended `embedrl index` of its folder with an OverflowError.
A folder with bytes that are no Unicode in its name could not be searched by it.
"""

import os
from pathlib import Path

import pytest

import embedrl
from embedrl.testing import FakeEmbedder, FakeReasoner


@pytest.mark.parametrize("time_s", [-1e10, -1.0, 1e10, 1.5e10])
def test_a_file_of_any_date_is_indexed_once(time_s: float, tmp_path: Path):
    (tmp_path / "note.txt").write_text("a red star")
    os.utime(tmp_path / "note.txt", (time_s, time_s))
    index = embedrl.Index.open(tmp_path, embedder=FakeEmbedder())
    first, second = (embedrl.ingest(tmp_path, index, FakeReasoner(), FakeEmbedder()) for _ in range(2))
    assert (first.added, second.added, second.unchanged) == (1, 0, 1)
    (hit,) = embedrl.search(index, embedrl.Query("red"), FakeEmbedder(), FakeReasoner()).hits
    assert hit.path == Path("note.txt")


@pytest.mark.parametrize("name", [b"dir\xff", b"\xe9t\xe9"])
def test_a_folder_is_searched_by_a_name_that_is_no_unicode(name: bytes, tmp_path: Path):
    os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    (tmp_path / os.fsdecode(name) / "note.txt").write_text("a red star")
    index = embedrl.Index.open(tmp_path, embedder=FakeEmbedder())
    embedrl.ingest(tmp_path, index, FakeReasoner(), FakeEmbedder())
    query = embedrl.Query("red", filter=embedrl.Filter(path=os.fsdecode(name)))
    assert len(embedrl.search(index, query, FakeEmbedder(), FakeReasoner()).hits) == 1
