"""Training rows from files of pairs."""

import json
from pathlib import Path

import pytest

from embedrl.data.pair_file import PairFile
from embedrl.data.pair_file_rows import PairFileRows, PairsConfig
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError

TCOT = "<thinking> A mug. </thinking>\n<rethink> Yes. </rethink>\n<answer> mug </answer>"


def write(path: Path, *rows: tuple[str, str], **more: str) -> Path:
    lines = [{"query": {"text": query}, "target": {"text": target}, **more} for query, target in rows]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "\n", "utf-8")
    return path


def mixed(tmp_path: Path, **settings) -> PairFileRows:
    files = {
        "a": write(tmp_path / "a.jsonl", *((f"q{n}", f"t{n // 2}") for n in range(24)), query_tcot=TCOT, target_tcot=TCOT),
        "b": write(tmp_path / "b.jsonl", *((f"x{n}", f"y{n}") for n in range(9)), query_tcot=TCOT),
    }
    return PairFileRows(PairsConfig(files=files, **settings), seed=1, num_batches=12, batch_size=4)


def test_pairs_are_read_by_number(tmp_path: Path):
    file = PairFile(write(tmp_path / "p.jsonl", ("a", "1"), ("b", "2"), ("c", "1"), ("c", "3"), ("d", "4"), ("e", "3")))
    assert len(file) == 6
    assert (file[3].query.text, file[3].target.text, file[3].task) == ("c", "3", "p")


def test_a_batch_is_of_one_file_and_holds_no_pair_twice(tmp_path: Path):
    rows = mixed(tmp_path)
    [keys] = rows.datasets().values()
    assert len(keys) == 12 * 4, "a function of settings and seed"
    assert keys == mixed(tmp_path).datasets()["pairs"], "a function of settings and seed"
    shown: dict[str, set[str]] = {"a": set(), "b": set()}
    for start in range(0, len(keys), 4):
        batch = keys[start : start + 4]
        [name] = {query.split("/")[0] for query, _ in batch}
        assert len({query for query, _ in batch}) == 4
        shown[name] |= {rows.resolve(query)[0].text for query, _ in batch}
    assert len(shown["a"]) == 24, "pairs with equal targets count each"


def test_tcots_and_media_are_dropped_at_their_rates(tmp_path: Path):
    keys = [key for row in mixed(tmp_path).datasets()["pairs"] for key in row if key.startswith("a/")]
    kept, bare = mixed(tmp_path, tcot_dropout=0, media_dropout=0), mixed(tmp_path, tcot_dropout=1)
    assert all(isinstance(kept.resolve(key)[1], TCoT) for key in keys)
    assert all(kept.resolve(key)[2] for key in keys)
    assert all(bare.resolve(key)[1:] == (None, True) for key in keys)
    assert not any(mixed(tmp_path, tcot_dropout=0, media_dropout=1).resolve(key)[2] for key in keys)
    some = mixed(tmp_path, tcot_dropout=0.5)
    states = {key.rsplit("/", 1)[0]: [] for key in keys}
    for key in keys:
        states[key.rsplit("/", 1)[0]].append(some.resolve(key)[1] is None)
    assert {tuple(state) for state in states.values()} == {(True, True), (False, False)}, "both sides of a pair alike"
    assert all(kept.resolve(f"b/3/0/{side}")[1:] == expected for side, expected in (("target", (None, True)),))


def test_wrong_files_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"weights\.c: there is no such data set"):
        mixed(tmp_path, weights={"c": 2.0})
    with pytest.raises(ConfigError, match="there is no such file"):
        PairFile(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"query": {"text": "a"}, "target": {"text": "b"}}\n{"query": 3}\n')
    with pytest.raises(ConfigError, match=r"bad\.jsonl', pair 2: "):
        PairFile(tmp_path / "bad.jsonl")
    (tmp_path / "gone.jsonl").write_text('{"query": {"text": "a"}, "target": {"image": "gone.png"}}\n')
    with pytest.raises(ConfigError, match=r"pair 1: .*gone\.png"):
        PairFile(tmp_path / "gone.jsonl")
