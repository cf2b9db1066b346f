"""Rows of large files: read piece by piece, and a damaged one costs only itself."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrl.data.sources import ProblemKind
from embedrl.data.sources.row import RowError
from embedrl.data.sources.stream import MAX_ROW_CHARS, stream_rows
from tests.source_files import mmeb_row, read, write_parquet

# ---- streams


class Recorded:
    """A file that counts what was read of it."""

    def __init__(self, text: str) -> None:
        self.text, self.num_read = text, 0

    def read(self, size: int) -> str:
        start, self.num_read = self.num_read, min(self.num_read + size, len(self.text))
        return self.text[start : self.num_read]


def show(rows: Iterable[Any]) -> list[Any]:
    return [str(row) if isinstance(row, RowError) else row for row in rows]


@pytest.mark.parametrize("indent", [None, 4])
def test_a_stream_reads_little_ahead(indent: int | None):
    rows = [{"number": number, "text": "x" * (number % 50)} for number in range(2000)]
    file = Recorded(json.dumps(rows, indent=indent))
    longest, seen = max(len(json.dumps(row, indent=indent)) for row in rows) + 100, 0
    for number, row in enumerate(stream_rows(file, chunk_chars=500)):
        assert row == rows[number]
        seen += len(json.dumps(row, indent=indent))
        assert file.num_read <= seen + (number + 1) * 30 + longest + 1000, "a row and two chunks, besides the indentation"
    assert number == 1999
    assert file.num_read == len(file.text)


def test_a_broken_row_is_known_without_reading_on():
    file = Recorded('[\n  {"a": 1},\n  {"b": oh},\n' + '  {"c": 3},\n' * 1000 + '  {"d": 4}\n]')
    rows = stream_rows(file, chunk_chars=64)
    assert next(rows) == {"a": 1}
    assert isinstance(next(rows), RowError)
    assert file.num_read <= 128


def test_a_text_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedrl.data.sources.stream.MAX_ROW_CHARS", 1000)
    assert MAX_ROW_CHARS > 1_000_000
    file = Recorded('{"a": "' + "x" * 100_000 + '\n{"b": 2}\n')
    found = show(stream_rows(file, chunk_chars=100))
    assert found == ["is not JSON (longer than 1000 characters)", {"b": 2}]


values = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)), lambda inner: st.lists(inner, max_size=2))
dictionaries = st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=5)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(dictionaries, st.sampled_from((None, 0, 2)), st.booleans(), st.integers(1, 40))
def test_any_rows_come_back_whatever_the_chunks(rows: list[Any], indent: int | None, as_lines: bool, chunk_chars: int):
    text = "\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows, indent=indent, ensure_ascii=False)
    assert list(stream_rows(io.StringIO(text), chunk_chars)) == rows


@pytest.mark.parametrize("chunk_chars", [1, 7, 64, 10_000])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[\n  {"a": 1},\n  {"b": },\n  {"c": {\n    "d": 3}}\n]', [{"a": 1}, "Expecting value", {"c": {"d": 3}}]),
        ('[\n  {"a": 1},\n  {"b": "x\n  },\n  {"c": 3}\n]', [{"a": 1}, "Invalid control character", {"c": 3}]),
        ('[\n  {"a": 1},\n  {"b": [1, 2\n', [{"a": 1}, "Expecting ',' delimiter"]),
        ('[\n  {"a": 1},\n  {"b": "x', [{"a": 1}, "Unterminated string"]),
        ('[\n  {"a": 1},\n', [{"a": 1}, "not closed"]),
        ('[{"a": 1}, {"b": oh}, {"c": 3}]', [{"a": 1}, "those behind it are lost"]),
        ('[{"a": 1}] [', [{"a": 1}, "behind the end"]),
        ('{"a": 1}\n{"b": \n\n{"c": 3}\noh\n{"d": 4}', [{"a": 1}, "not JSON", {"c": 3}, "Expecting value", {"d": 4}]),
        ('\n\r\n{"a": 1}\r\n{"b": 2}\r\n', [{"a": 1}, {"b": 2}]),
        ('[12, "x", null]', [12, "x", None]),
        ("[]", []),
        ("", []),
        (" \n", []),
    ],
)
def test_a_broken_row_costs_only_itself(text: str, found: list[Any], chunk_chars: int):
    rows = show(stream_rows(io.StringIO(text), chunk_chars))
    assert len(rows) == len(found)
    for row, wanted in zip(rows, found, strict=True):
        assert wanted in row if isinstance(wanted, str) and isinstance(row, str) else row == wanted


def test_a_bottomless_row_costs_only_itself():
    text = '{"a": 1}\n{"b": ' + "[" * 100_000 + '\n{"c": 3}'
    first, second, third = show(stream_rows(io.StringIO(text)))
    assert (first, third) == ({"a": 1}, {"c": 3})
    assert "recursion" in second


def test_what_is_no_utf8_costs_its_row(tmp_path: Path):
    lines = [json.dumps(mmeb_row(qry=text, qry_image_path="")).encode() for text in ("one", "two", "th\u00ffee \ud800")]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join([lines[0], lines[1].replace(b"two", b"\xff"), lines[2]]))
    pairs, problems = read("mmeb", tmp_path / "a.jsonl")
    assert [(problem.row, problem.reason) for problem in problems[:1]] == [(2, "is not UTF-8")]
    assert pairs[0].query.text == "one"
    assert len(pairs) + len(problems) == 3


# ---- Parquet


def test_a_damaged_block_costs_its_own_rows(tmp_path: Path):
    rows = [mmeb_row(qry=f"question {number}", qry_image_path="") for number in range(6)]
    path = write_parquet(tmp_path / "a.parquet", rows, row_group_size=2, compression="gzip", use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(1)
    column = next(group.column(number) for number in range(group.num_columns) if group.column(number).path_in_schema == "qry")
    data = bytearray(path.read_bytes())
    end = column.data_page_offset + column.total_compressed_size
    data[end - 30 : end] = bytes(30)
    path.write_bytes(data)
    pairs, problems = read("mmeb", path)
    assert [pair.query.text for pair in pairs] == ["question 0", "question 1", "question 4", "question 5"]
    assert [(problem.row, problem.num_rows, problem.kind) for problem in problems] == [(3, 2, ProblemKind.UNREADABLE)]


def test_a_text_that_is_no_utf8_costs_its_row(tmp_path: Path):
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"one", b"\xff\xfe", b"three"]).buffers())
    table = pa.table({"qry": texts, "pos_text": pa.array(["a", "b", "c"])})
    pq.write_table(table, tmp_path / "a.parquet")
    pairs, problems = read("mmeb", tmp_path / "a.parquet")
    assert [pair.query.text for pair in pairs] == ["one", "three"]
    assert [(problem.row, str(problem)[-9:]) for problem in problems] == [(2, "not UTF-8")]
