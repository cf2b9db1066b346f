"""What is acknowledged is on the disk, damage is noticed and said, and the remedy is no wider than the fault.

Reported: a run synced the journal only; an empty newest manifest asked to delete the folder with all T-CoTs; 23 of 70 flipped journals
silently gave another T-CoT; `{"key": [1], "value": 2}` was a TypeError (attack.md 7, 8).
"""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from embedrl.cli.main import main
from embedrl.data.records import Records
from embedrl.errors import StoreError
from embedrl.index.checksums import check_index, note_rows
from embedrl.index.index import Index, IndexStats
from embedrl.index.ingest import ingest
from embedrl.index.location import CHECKSUMS
from embedrl.testing import FakeEmbedder, FakeReasoner

TABLE = Path(".embedrl-index") / "items.lance"


def library(folder: Path, num_files: int = 6) -> Path:
    folder.mkdir()
    for number in range(num_files):
        (folder / f"{number}.txt").write_text(f"a letter about elephant {number}")
    return folder


def fill(folder: Path, reasoner: FakeReasoner) -> IndexStats:
    index = Index.open(folder, embedder=FakeEmbedder())
    ingest(folder, index, reasoner, FakeEmbedder())
    return index.stats()


def manifests(folder: Path) -> list[Path]:
    """The versions of a table, newest first: their names count down."""
    return sorted((folder / TABLE / "_versions").glob("*.manifest"))


# ---- journals


def journal(path: Path, num_records: int = 40) -> dict[str, dict[str, str]]:
    values = {f"{number:064x}": {"tcot": f"<thinking> größe {number} </thinking>"} for number in range(num_records)}
    with Records(path) as records:
        records.put_many(values)
    return values


def test_no_flipped_bit_gives_another_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, rng = tmp_path / "journal.jsonl", random.Random(0)
    values, whole = journal(path), (tmp_path / "journal.jsonl").read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.sample(range(len(whole)), rng.randrange(1, 4)):
            damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with Records(path) as records:
            found = {key: records.get(key) for key in records}
            assert found.items() <= values.items()
            assert records.num_damaged
            assert len(found) >= len(values) - 6
    assert "damaged lines are left out" in capsys.readouterr().err


def test_lines_of_former_versions_are_read_and_odd_ones_counted(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    lines = ['{"key":"a","value":1}', '{"key": "b", "value": {"x": [1.5, "é"]}}', '{"key":[1],"value":2}', '{"value":1}', "[]", "7", '"x"']
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    with Records(path) as records:
        assert {key: records.get(key) for key in records} == {"a": 1, "b": {"x": [1.5, "é"]}}
        assert records.num_damaged == 5
        records.put("c", {"größe": "\ud83d", "n": 1e-7})
        records.compact()
        assert records.get("c") == {"größe": "\ud83d", "n": 1e-7}
    assert [json.loads(line)["key"] for line in path.read_text("utf-8").splitlines()] == ["a", "b", "c"]


def test_a_journal_whose_folder_went_away_is_made_anew(tmp_path: Path):
    path = tmp_path / "deep" / "journal.jsonl"
    with Records(path) as records:
        records.put("a", 1)
        for file in path.parent.iterdir():
            file.unlink()
        path.parent.rmdir()
        records.put("b", 2)
        assert (records.get("a"), records.get("b")) == (None, 2)
        path.unlink()
        with Records(path.with_name("other.jsonl")) as other:
            other.put("c", 3)
        os.replace(path.with_name("other.jsonl"), path)  # what another process made in its place
        records.put("d", 4)
        assert {key: records.get(key) for key in records} == {"c": 3, "d": 4}


# ---- tables


def test_every_file_of_a_commit_is_on_the_disk_when_a_run_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: Counter[str] = Counter()
    fsync = os.fsync

    def note(fd: int) -> None:
        synced[os.readlink(f"/proc/self/fd/{fd}")] += 1
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    folder = library(tmp_path / "library")
    fill(folder, FakeReasoner())
    files = [path for path in (folder / TABLE).rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert [path for path in files if not synced[str(path)]] == []
    assert [path for path in {file.parent for file in files} if not synced[str(path)]] == []


@pytest.mark.parametrize("left", [b"", bytes(3000), b"half"])
def test_a_newest_version_that_a_power_cut_emptied_is_set_aside(tmp_path: Path, left: bytes, capsys: pytest.CaptureFixture[str]):
    folder, reasoner = library(tmp_path / "library"), FakeReasoner()
    stats = fill(folder, reasoner)
    asked = reasoner.reasoned.total()
    manifests(folder)[0].write_bytes(left)
    Index.open(folder)
    assert "set aside" in capsys.readouterr().err
    assert fill(folder, reasoner).num_items == stats.num_items
    assert reasoner.reasoned.total() == asked, "T-CoTs are kept"


def test_data_that_a_power_cut_emptied_takes_back_one_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, reasoner = library(tmp_path / "library"), FakeReasoner()
    fill(folder, reasoner)
    before = set((folder / TABLE / "data").iterdir())
    index = Index.open(folder, embedder=FakeEmbedder())
    (folder / "late.txt").write_text("a late letter")
    ingest(folder, index, reasoner, FakeEmbedder())
    asked = reasoner.reasoned.total()
    for path in set((folder / TABLE / "data").iterdir()) - before:
        path.write_bytes(b"")
    again = fill(folder, reasoner)
    assert "set aside" in capsys.readouterr().err
    assert again.num_items == 7
    assert reasoner.reasoned.total() == asked


def test_a_table_that_cannot_be_read_is_named_and_its_tcots_are_kept(tmp_path: Path):
    folder, reasoner = library(tmp_path / "library"), FakeReasoner()
    fill(folder, reasoner)
    asked = reasoner.reasoned.total()
    for path in manifests(folder):
        path.write_bytes(b"")
    with pytest.raises(StoreError, match=r"items\.lance.*T-CoTs lie beside it.*run `embedrl index` again"):
        Index.open(folder)
    for path in sorted((folder / TABLE).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / TABLE).rmdir()
    assert fill(folder, reasoner).num_items == 6
    assert reasoner.reasoned.total() == asked


@pytest.mark.parametrize("seed", range(12))
def test_no_flip_in_a_table_ends_in_a_traceback(tmp_path: Path, seed: int):
    folder, rng = library(tmp_path / "library", 3), random.Random(seed)
    fill(folder, FakeReasoner())
    files = sorted(path for path in (folder / TABLE).rglob("*") if path.is_file())
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    data[start : start + rng.choice((1, 64, 10**6))] = bytes(min(len(data) - start, 64)) if seed % 2 else b""
    path.write_bytes(data)
    try:
        fill(folder, FakeReasoner())
        Index.open(folder).stats()
    except StoreError as error:
        assert "embedrl index" in str(error) or "cannot be written" in str(error)


# ---- doctor index


def test_doctor_index_finds_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = library(tmp_path / "library")
    fill(folder, FakeReasoner())
    assert check_index(folder).is_whole
    assert check_index(folder).num_rows == 6
    assert check_index(folder).num_unnoted == 0
    (folder / "3.txt").write_text("another letter")
    (folder / "4.txt").unlink()
    fill(folder, FakeReasoner())
    assert check_index(folder).is_whole
    for path in (folder / TABLE / "data").iterdir():
        data = path.read_bytes()
        path.write_bytes(data.replace(b"letter about elephant 2", b"letter about elephanx 2"))
    journal_path = folder / ".embedrl-index" / "tcots.jsonl"
    journal_path.write_bytes(journal_path.read_bytes().replace(b"picture", b"pixture").replace(b"There is", b"Where is", 1))
    found = check_index(folder)
    assert found.damaged_rows == ("2.txt",)
    assert found.damaged_lines["tcots.jsonl"] == 1
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "index", str(folder)])
    said = capsys.readouterr()
    assert caught.value.code == 1
    assert "2.txt" in said.out + said.err
    assert "T-CoTs are stored separately and are kept" in said.out + said.err


def test_a_kill_between_the_checksum_and_the_commit_is_no_damage(tmp_path: Path):
    folder = library(tmp_path / "library", 2)
    fill(folder, FakeReasoner())
    index = Index.open(folder, embedder=FakeEmbedder())
    rows = list(index.table.scan_rows())
    with Records(folder / ".embedrl-index" / CHECKSUMS) as checksums:
        note_rows(checksums, [row.model_copy(update={"text": "never committed"}) for row in rows])
    assert check_index(folder).is_whole
