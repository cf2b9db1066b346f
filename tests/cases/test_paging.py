"""Pages that ended in an error at rank 1,000, dates that were refused (report on media, cases 13 and 18; report of an attack, case 13)."""

import fnmatch
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrl.errors import ConfigError
from embedrl.index.filter import Filter, matching_keys, read_time
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.testing import FakeEmbedder
from tests.served import Served, served

NUM_FILES = 1_100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("many") / "library"
    folder.mkdir()
    for number in range(NUM_FILES):
        (folder / f"{number:04}.txt").write_text(f"note {number}", "utf-8")
    with served(folder, think=False) as found:
        yield found


def pages(server: Served, path: str, limit: int, **fields: object) -> tuple[list[str], int]:
    """Ask for page after page, as the page does; return all keys, and the number of pages."""
    keys, offset, num_pages = [], 0, 0
    while True:
        asked = {**fields, "offset": offset, "limit": limit}
        answer = server.client.post(path, data=asked) if path == "/api/search" else server.client.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        keys += [item["key"] for item in body.get("hits", body.get("items"))]
        num_pages, offset = num_pages + 1, offset + limit
        if not body["more"]:
            return keys, num_pages


def test_browsing_reaches_every_item_and_ends_without_an_error(server: Served):
    keys, num_pages = pages(server, "/api/items", 96)
    assert len(set(keys)) == NUM_FILES
    assert len(keys) == NUM_FILES
    assert num_pages == 12
    last = server.client.get("/api/items", params={"offset": 984, "limit": 24}).json()
    assert len(last["items"]) == 24
    assert last["more"] is True
    beyond = server.client.get("/api/items", params={"offset": 5_000, "limit": 24}).json()
    assert (beyond["items"], beyond["more"], beyond["total"]) == ([], False, NUM_FILES)


@pytest.mark.parametrize("sort", ["score", "oldest"])
def test_the_last_page_of_a_search_holds_the_rest(server: Served, sort: str):
    keys, _ = pages(server, "/api/search", 96, text="note", sort=sort)
    assert len(set(keys)) == 1_000
    assert len(keys) == 1_000
    last = server.search(text="note", sort=sort, offset=984, limit=24)
    assert len(last["hits"]) == 16
    assert last["more"] is False
    beyond = server.search(text="note", sort=sort, offset=1_008, limit=24)
    assert (beyond["hits"], beyond["more"]) == ([], False)


def test_words_alone_are_listed_to_the_end(server: Served):
    keys, _ = pages(server, "/api/search", 96, words="note")
    assert len(keys) == NUM_FILES


def test_recommendations_end_without_an_error(server: Served):
    key = server.client.get("/api/items", params={"limit": 1}).json()["items"][0]["key"]
    last = server.client.post("/api/similar", json={"liked": [key], "offset": 984, "limit": 24})
    assert (last.status_code, len(last.json()["hits"]), last.json()["more"]) == (200, 16, False)
    beyond = server.client.post("/api/similar", json={"liked": [key], "offset": 1_008, "limit": 24})
    assert (beyond.status_code, beyond.json()["hits"]) == (200, [])


def test_the_last_and_the_first_day_of_the_calendar_are_dates(server: Served, monkeypatch: pytest.MonkeyPatch):
    assert len(server.search(text="note", until="9999-12-31", since="0001-01-01")["hits"]) == 24
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        for end in (False, True):
            assert read_time("9999-12-31", is_end=end, zone=None) > read_time("0001-01-01", is_end=end, zone=None)
    monkeypatch.undo()
    time.tzset()


def test_a_date_is_a_day_of_this_machine_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert read_time("2024-05-01", zone=None) == read_time("2024-05-01T00:00+09:00")
        assert read_time("2024-05-01", zone=None, is_end=True) == read_time("2024-05-02T00:00+09:00")
        assert read_time("2024-05-01T12:30", zone=None) == read_time("2024-05-01T03:30Z")
        assert read_time("2024-05-01") == read_time("2024-05-01T00:00Z")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_wrong_order_of_dates_names_what_was_given(server: Served):
    answer = server.client.post("/api/search", data={"text": "x", "since": "2026-11-29", "until": "2026-11-28"})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "since=2026-11-29, until=2026-11-28: give the earlier time first"
    with pytest.raises(ConfigError, match="give the earlier time first"):
        Filter(since_s=2, until_s=1)


def test_patterns_are_not_kept(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a")
    os.utime(tmp_path / "a.txt")
    embedder = FakeEmbedder()
    index = Index.open(tmp_path, embedder=embedder)
    ingest(tmp_path, index, None, embedder, think=False)
    before = fnmatch._compile_pattern.cache_info().currsize
    for number in range(50):
        assert matching_keys(index, Filter(path=f"*{number}*")) == set()
    assert fnmatch._compile_pattern.cache_info().currsize == before


def test_a_folder_is_found_in_either_form_of_its_name(tmp_path: Path):
    (tmp_path / "cafe\u0301").mkdir()
    (tmp_path / "cafe\u0301" / "menu.txt").write_text("tea")
    embedder = FakeEmbedder()
    index = Index.open(tmp_path, embedder=embedder)
    ingest(tmp_path, index, None, embedder, think=False)
    for path in ("caf\u00e9", "cafe\u0301", "caf\u00e9/*.txt", "c*\u00e9/*"):
        assert len(matching_keys(index, Filter(path=path)) or ()) == 1
