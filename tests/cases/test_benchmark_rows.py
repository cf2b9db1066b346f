"""Rows of a benchmark whose columns hold values of another type: refused with the row, never a traceback, never read as something else.

Siblings of the reports on published files (../shared/cases and docs/parity.md): a text where a list belongs was read as its letters,
an answer "AB" or "" as option A, a mapping as its keys; numbers as texts and nested lists were tracebacks.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.reading import read_pool, read_tasks
from tests.official_files import ROWS, frames, image_row, images, lines, official, pages, uvrb
from tests.source_files import read, write_lines, write_parquet

Row = dict[str, Any]
Write = Callable[[Path, Row], object]


def _image(data: Path, row: Row) -> None:
    images(data, image_row()).unlink()
    lines(data / ROWS / "test.jsonl", [image_row(**row)])


def _video(data: Path, row: Row) -> None:
    frames(data, "v1", "v2")
    lines(data / ROWS / "test.jsonl", [{"video_id": "v1", "pos_text": "run", **row}])


def _option(data: Path, row: Row) -> None:
    frames(data, "v1")
    lines(data / ROWS / "test.jsonl", [{"video_idx": "v1", "question": "q?", "option": ["A. x", "B. y"], "answer": "1", **row}])


def _letter(data: Path, row: Row) -> None:
    frames(data, "v1")
    lines(data / ROWS / "test.jsonl", [{"videoID": "v1", "question": "q?", "options": ["A. x", "B. y"], "answer": "A", **row}])


def _moment(data: Path, row: Row) -> None:
    frames(data, "video_frames/a", "video_frames/b")
    clips = {"positive_frames": [{"output_path": "a.mp4"}], "negative_frames": [{"output_path": "b.mp4"}]}
    lines(data / ROWS / "test.jsonl", [{"query": "x", **clips, **row}])


def _pages(data: Path, row: Row) -> None:
    pages(data, **{part: [value] for part, value in row.items()})


def _uvrb(data: Path, row: Row) -> None:
    uvrb(data, **{part: [value] for part, value in row.items()})


ODD: list[tuple[str, Write, Row]] = [
    *(("image_text", _image, row) for row in ({"tgt_text": "cat", "tgt_img_path": None}, {"tgt_text": [1, 2]}, {"qry_text": 1913})),
    *(("image_path", _image, row) for row in ({"qry_img_path": ["a.png"]}, {"tgt_text": [""], "tgt_img_path": "b.png"})),
    *(("video_texts", _video, row) for row in ({"neg_text": "run"}, {"neg_text": [["run"]]}, {"pos_text": ["run"], "neg_text": ["run"]})),
    *(("text_video", _video, row) for row in ({"pos_text": 5}, {"pos_text": [5]}, {"pos_text": {"en": "a"}})),
    *(("egoschema", _option, row) for row in ({"option": [1, 2]}, {"option": {"A": "x", "B": "y"}}, {"option": "A. x"})),
    *(("videomme", _letter, row) for row in ({"answer": "AB"}, {"answer": ""}, {"answer": 1})),
    *(("momentseeker", _moment, row) for row in ({"positive_frames": [{"path": "a"}]}, {"positive_frames": ["a.mp4"]}, {"query": 5})),
    *(
        ("pages", _pages, {"qrels": {"query-id": 0, "corpus-id": 18, "score": score}})
        for score in ("high", [1], float("nan"), float("inf"))
    ),
    *(("pages", _pages, row) for row in ({"corpus": {"corpus-id": [17]}}, {"queries": {"query-id": 0, "query": 7}})),
    *(("uvrb", _uvrb, {"instances": {"qid": "q1", "pos": pos}}) for pos in ("d1", {"d1": 1}, [["d1"]])),
    *(("uvrb", _uvrb, row) for row in ({"queries": {"id": "q1", "text": 5}}, {"corpus": {"id": "d1", "video": 5}})),
]


def test_hidden_files_are_no_frames_and_hidden_folders_no_clips(tmp_path: Path):
    """Archives that were packed on macOS hold `._1.jpg` beside each file."""
    frames(tmp_path, "m/query", "m/positive", "m/negative")
    (tmp_path / "media" / "m" / ".checkpoints").mkdir()
    for clip in ("query", "positive"):
        (tmp_path / "media" / "m" / clip / "._1.jpg").write_bytes(b"\0\5\26\7")
    lines(tmp_path / ROWS / "test.jsonl", [{"query": "it turns", "video_path": "m.mp4"}])
    (task,) = read_tasks(official("moments", 1), tmp_path)
    assert sorted(map(str, task.names.values())) == ["m/negative", "m/positive"]
    assert all(path.name[0] != "." for path in task.queries[0].visual.frame_files.paths)


@pytest.mark.parametrize("part", ["queries", "corpus", "qrels"])
def test_ids_that_are_texts_in_one_part_alone_are_the_same_ids(part: str, tmp_path: Path):
    """With ids of `queries` as texts no query was found to be asked; with those of `corpus` or `qrels` no page was."""
    parts: dict[str, list[Row]] = {
        "queries": [{"query-id": 0, "query": "who?"}],
        "corpus": [{"corpus-id": 17}, {"corpus-id": 18}],
        "qrels": [{"query-id": 0, "corpus-id": 18, "score": 2}],
    }
    pages(tmp_path, **parts | {part: [{name: str(value) for name, value in row.items()} for row in parts[part]]})
    (task,) = read_tasks(official("pages", 1, "visdoc"), tmp_path)
    ((page, grade),) = task.relevant[0].items()
    assert (str(task.names[page]), grade) == ("18", 2)


LAYOUTS_OF_PAGES = {
    "ViDoRe v3": {"query-id": "query_id", "corpus-id": "corpus_id"},
    "BEIR": {"query-id": "_id", "corpus-id": "_id", "query": "text"},
    "mteb": {"query-id": "id", "corpus-id": "id", "query": "text"},
}
"""Columns of `queries` and `corpus`; only ViDoRe v3 writes those of `qrels` so."""


@pytest.mark.parametrize("as_parquet", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS_OF_PAGES)
def test_pages_are_read_under_the_column_names_of_other_layouts(layout: str, as_parquet: bool, tmp_path: Path):
    """The features of vidore/vidore_v3_*: query_id, query, language …; corpus_id, image, doc_id …; query_id, corpus_id, score …"""
    names = LAYOUTS_OF_PAGES[layout]
    pages(tmp_path / "ours")
    [ours] = read_tasks(official("pages", 2, "visdoc"), tmp_path / "ours")
    more = {
        "queries": {"answer": "42", "query_format": "question"},
        "corpus": {"doc_id": "d", "markdown": "# x"},
        "qrels": {"content_type": []},
    }
    parts: dict[str, list[Row]] = {}
    for path in sorted((tmp_path / "ours" / ROWS).glob("*/test.jsonl")):
        spelt = {} if path.parent.name == "qrels" and layout != "ViDoRe v3" else names
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        parts[path.parent.name] = [{spelt.get(name, name): row[name] for name in row} | more[path.parent.name] for row in rows]
    pages(tmp_path, **parts)
    if as_parquet:
        for part, rows in parts.items():
            (tmp_path / ROWS / part / "test.jsonl").unlink()
            write_parquet(tmp_path / ROWS / part / "test-00000-of-00001.parquet", rows)
    [task] = read_tasks(official("pages", 2, "visdoc"), tmp_path)
    assert [query.text for query in task.queries] == [query.text for query in ours.queries]
    assert task.names == ours.names
    assert task.relevant == ours.relevant


def test_a_missing_column_is_said_with_those_that_are_there(tmp_path: Path):
    pages(tmp_path, corpus=[{"page": 17, "picture": "x"}])
    with pytest.raises(ConfigError, match=r"has no corpus-id, only page, picture; download it again"):
        list(read_tasks(official("pages", 2, "visdoc"), tmp_path))
    uvrb(tmp_path, corpus=[{"name": "d1", "video": "one.mp4"}])
    with pytest.raises(ConfigError, match=r"corpus: it needs id, video, and has only name, video; download"):
        list(read_tasks(official("uvrb", 2), tmp_path))
    path = write_lines(tmp_path / "rows.jsonl", [{"question": "q", "pos_text": "a"}])
    [problem] = read("mmeb", path)[1]
    assert problem.reason == "qry: Field required; the row has only question, pos_text"


@pytest.mark.parametrize(("layout", "write", "row"), ODD)
def test_a_row_of_other_types_is_named(layout: str, write: Write, row: Row, tmp_path: Path):
    write(tmp_path, row)
    benchmark = official(layout, 1, "visdoc" if layout == "pages" else "image" if layout.startswith("image") else "video")
    with pytest.raises(ConfigError, match=r"^set, row 1: .*again$"):
        list(read_tasks(benchmark, tmp_path))
    read_pool(benchmark.sources[0], tmp_path, inspection := Inspection(gather=True))
    assert [problem.row for problem in inspection.problems][:1] == [1]
