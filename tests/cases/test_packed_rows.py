"""Rows packed by gzip are read wherever JSON Lines are; damage is named, and what unpacks to too much costs no memory."""

import gzip
import json
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedrl.annotate.filter import filter_pairs
from embedrl.data.pair_file import PairFile
from embedrl.data.records import Records
from embedrl.data.sources.stream import MAX_ROW_CHARS, read_json
from embedrl.errors import ConfigError, StoreError
from embedrl.evaluation.benchmarks.mmeb_v2 import MMEB_V2
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.evaluation.paired import pair_systems
from embedrl.evaluation.tables import read_result
from tests.official_files import official, pages, uvrb
from tests.source_files import read, write_lines
from tests.test_paired import half, write_system

TCOT = "<thinking> A mug. </thinking>\n<rethink> Yes. </rethink>\n<answer> mug </answer>"
ROWS = [
    {"query": {"text": f"q{number}"}, "target": {"text": f"t{number}"}, "negatives": [{"text": f"t{number + 1}"}], "target_tcot": TCOT}
    for number in range(400)
]


def packed(path: Path) -> Path:
    """Pack a file as the gzip program does, which takes the original away."""
    subprocess.run(["gzip", str(path)], check=True)
    return path.with_name(f"{path.name}.gz")


def test_pairs_are_read_as_from_the_plain_file(tmp_path: Path):
    plain = write_lines(tmp_path / "mugs.jsonl", ROWS)
    pairs, file = read("lines", plain), PairFile(plain)
    before = [file[number] for number in range(len(file))]
    path = packed(plain)
    assert read("lines", path) == pairs
    again = PairFile(path)
    assert [again[number] for number in range(len(again))] == before
    assert {pair.task for pair in before} == {"mugs"}
    assert again.negatives == file.negatives
    tcot = again.tcot_of(before[0].negatives[0].key)
    assert tcot is not None
    assert tcot.answer == "mug"


def test_members_that_were_put_together_are_read_to_the_end(tmp_path: Path):
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(b"".join(gzip.compress(f"{json.dumps(row)}\n".encode()) for row in ROWS[:3]))
    assert list(read_json(path)) == ROWS[:3]
    assert len(PairFile(path)) == 3


@pytest.mark.parametrize(("layout", "modality", "write"), [("pages", "visdoc", pages), ("uvrb", "video", uvrb)])
def test_rows_of_benchmarks_are_read_as_from_the_plain_files(layout: str, modality: Any, write: Callable[[Path], None], tmp_path: Path):
    write(tmp_path)
    [before] = read_tasks(official(layout, 2, modality), tmp_path)
    for path in tmp_path.rglob("*.jsonl"):
        packed(path)
    [task] = read_tasks(official(layout, 2, modality), tmp_path)
    assert [query.key for query in task.queries] == [query.key for query in before.queries]
    assert task.relevant == before.relevant


def test_predictions_are_compared_as_from_the_plain_files(tmp_path: Path):
    row = next(row for row in MMEB_V2.datasets if row.name == "Charades-STA")
    folders = [write_system(tmp_path / name, [row], {row.name: half(row, share)}) for name, share in (("a", 0.5), ("b", 0.75))]
    packed(next(folders[0].rglob("*_pred.jsonl")))
    [pair] = pair_systems([(folder, read_result(folder, (MMEB_V2,))) for folder in folders])
    assert list(pair.datasets) == ["Charades-STA"]


@pytest.mark.parametrize("opened", [lambda path: list(read_json(path)), PairFile], ids=["rows", "pairs"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-700], lambda data: data[:-5] + b"\0" + data[-4:], lambda data: data[:40] + b"\xff" * 99]
)
def test_damage_is_named(damage: Callable[[bytes], bytes], opened: Callable[[Path], object], tmp_path: Path):
    path = packed(write_lines(tmp_path / "p.jsonl", ROWS))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=r"^'.*p\.jsonl\.gz': the gzip file is damaged or cut short \(.+\); copy or download it again$"):
        opened(path)


def _bomb(path: Path, head: bytes, byte: bytes) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(96):
            file.write(byte * (1 << 20))
    return path


@pytest.mark.parametrize(("head", "byte"), [(b'{"query": "', b"x"), (b"", b" ")], ids=["one row", "nothing"])
def test_what_unpacks_to_too_much_costs_no_memory(head: bytes, byte: bytes, tmp_path: Path):
    path = _bomb(tmp_path / "p.jsonl.gz", head, byte)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    rows = list(read_json(path))
    with pytest.raises(ConfigError, match=rf"pair 1: longer than {MAX_ROW_CHARS} bytes"):
        PairFile(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 << 20
    assert [str(row) for row in rows] == ([f"is not JSON (longer than {MAX_ROW_CHARS} characters)"] if head else [])


def test_packed_records_are_refused_where_they_would_be_begun_anew(tmp_path: Path):
    with Records(tmp_path / "pairs.jsonl") as records:
        records.put("a", 1)
    packed(tmp_path / "pairs.jsonl")
    for opened in (lambda: Records(tmp_path / "pairs.jsonl"), lambda: filter_pairs(tmp_path)):
        with pytest.raises(StoreError, match=r"pairs\.jsonl\.gz' is packed.*gunzip"):
            opened()
