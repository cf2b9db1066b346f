import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedrl.data.records import Records, read_outcome, write_outcome
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, TCoT
from embedrl.errors import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "records.jsonl"


def test_later_writes_win_and_a_new_reader_sees_them(path: Path):
    with Records(path) as records:
        records.put_many({"a": {"n": 1}, "b": "line\nbreak \u2603 \udc80"})
        records.put("a", {"n": 2})
        assert (records.get("a"), records.get("b"), records.get("c")) == ({"n": 2}, "line\nbreak \u2603 \udc80", None)
    with Records(path) as again:
        assert list(again.keys()) == ["a", "b"]
        assert "a" in again
        assert "c" not in again
        assert len(again) == 2
        assert (again.get("a"), again.get("b")) == ({"n": 2}, "line\nbreak \u2603 \udc80")


def test_dropped_keys_stay_dropped(path: Path):
    with Records(path) as records:
        records.put_many({"a": 1, "b": 2})
        records.drop_many(["a", "unknown"])
    assert list(Records(path).keys()) == ["b"]


@pytest.mark.parametrize("kept", range(1, 30, 4))
def test_a_torn_last_line_costs_only_itself(path: Path, kept: int):
    with Records(path) as records:
        records.put_many({"a": 1, "b": 2})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key":"c","value":{"text":"lost"}}'[:kept])
    reader = Records(path)
    assert list(reader.keys()) == ["a", "b"]
    assert reader.num_damaged == 0
    with Records(path) as records:
        records.put("d", 4)
    assert list(Records(path).keys()) == ["a", "b", "d"]
    assert path.read_bytes().startswith(whole + b'{"key":"d"')


@pytest.mark.parametrize("garbage", [b"\0" * 50, b"not json", b'{"key":"a"}', b"[]", b"\xff\xfe", b"[" * 5000])
def test_a_damaged_line_costs_only_itself(path: Path, garbage: bytes):
    with Records(path) as records:
        records.put_many({"a": 1, "b": 2})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + garbage + b"\n" + lines[1])
    records = Records(path)
    assert [records.get(key) for key in records] == [1, 2]
    assert records.num_damaged == 1


def test_one_writer_many_readers(path: Path):
    with Records(path) as first:
        first.put("a", 1)
        second, reader = Records(path), Records(path)
        with pytest.raises(StoreError, match="another process is writing"):
            second.put("b", 2)
        first.put("c", 3)
        assert "c" not in reader
        reader.refresh()
        assert reader.get("c") == 3
    second.put("b", 2)
    assert list(second.keys()) == ["a", "c", "b"], "a new writer first catches up with the last one"
    second.close()


def test_the_lock_of_a_killed_writer_is_free(path: Path):
    code = f"from embedrl.data.records import Records; Records({str(path)!r}).put('a', 1); import os; os.kill(os.getpid(), 9)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == -9
    with Records(path) as records:
        records.put("b", 2)
        assert list(records.keys()) == ["a", "b"]


def test_compaction_keeps_what_lives(path: Path):
    with Records(path) as records:
        for number in range(20):
            records.put("a", number)
        records.put_many({"b": 1, "c": 2})
        records.drop_many(["b"])
        reader = Records(path)
        assert records.num_stale == 21
        records.compact()
        assert (records.num_stale, records.get("a"), records.get("c")) == (0, 19, 2)
        assert reader.get("a") == 19, "a reader keeps the old file"
        records.put("d", 4)
        reader.refresh()
        assert (list(reader.keys()), reader.get("d")) == (["a", "c", "d"], 4)
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c", "d"]


def test_a_folder_in_its_place_is_a_clear_error(tmp_path: Path):
    (tmp_path / "records").mkdir()
    with pytest.raises(StoreError, match="records"):
        Records(tmp_path / "records").put("a", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be"):
        Records(tmp_path / "file" / "records").put("a", 1)


def test_a_full_disk_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch):
    with Records(path) as records:
        records.put("a", 1)

        def half(fd: int, data: bytes) -> int:
            if len(data) < 40:
                raise OSError(28, "No space left on device")
            return real(fd, data[:40])

        real = os.write
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StoreError, match="free some space and run again"):
            records.put("b", "x" * 60)
        monkeypatch.undo()
        records.put("c", 3)
    assert [(key, Records(path).get(key)) for key in Records(path)] == [("a", 1), ("c", 3)]


def test_outcomes_come_back_as_they_were():
    tcot = TCoT(thinking="Red, {top}.", evidence=Evidence(boxes=((1, 2, 3, 4),), keywords=('a "b"',)), rethink="ok", answer="a red thing")
    failure = ParseFailure(reason=FailureReason.TRUNCATED, text="<thinking> and then")
    assert read_outcome(write_outcome(tcot)) == tcot
    assert read_outcome(write_outcome(failure)) == failure
