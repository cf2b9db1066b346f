"""Mining of hard negatives: near targets that are no right answers, with a judge and by the share of the positive's similarity."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from embedrl.annotate.filter import filter_pairs
from embedrl.annotate.mining import MineConfig, Mined, mine_negatives, mined_line
from embedrl.cli.main import app
from embedrl.data.pair_file_rows import PairFileRows, PairsConfig
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError
from embedrl.testing import FakeEmbedder, FakeJudge
from tests.test_filter import annotated_folder, rows, text_pair

ANGLES = {"q red": 0, "t red": 10, "t crimson": 12, "t pink": 30, "t orange": 40, "t blue": 170, "q blue": 180}


class OnACircle(FakeEmbedder):
    """Puts each text at an angle, in degrees."""

    def __init__(self) -> None:
        super().__init__(dim=2)

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        assert all(tcots), "sides of kept pairs have T-CoTs"
        angles = np.deg2rad([ANGLES[item.text] for item in items])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class Knows(FakeJudge):
    """Says that crimson is red, fails on orange, and keeps what it was asked."""

    fingerprint = "knows"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        self.asked += [(query.answer, target.answer) for query, target in pairs]
        same = [{query.answer[2:], target.answer[2:]} for query, target in pairs]
        return [None if "orange thing" in names else len(names) == 1 or names == {"red thing", "crimson thing"} for names in same]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pairs = [text_pair("q blue", "t blue"), *(text_pair("q red", f"t {name}") for name in ("red", "crimson", "pink", "orange"))]
    out = annotated_folder(tmp_path, pairs)
    filter_pairs(out)
    return out


def negatives(folder: Path) -> dict[str, list[str]]:
    """Return the texts of the negatives by the text of the target."""
    return {
        row["pair"]["target"]["content"][0]["text"]: [item["content"][0]["text"] for item in row["pair"]["negatives"]]
        for row in rows(folder / "contrastive.jsonl")
    }


def test_what_the_judge_takes_for_a_right_answer_is_no_negative(tmp_path: Path):
    texts = [("q red", "t red"), ("t crimson", "t crimson"), ("t pink", "t pink"), ("q blue", "t blue")]
    out = annotated_folder(tmp_path, [text_pair(*pair) for pair in texts])
    filter_pairs(out)
    judge = Knows()
    mined = mine_negatives(out, OnACircle(), judge, MineConfig(num_negatives=1, batch_size=2))
    assert negatives(out) == {"t red": ["t pink"], "t crimson": ["t pink"], "t pink": ["t crimson"], "t blue": ["t pink"]}
    assert ("q red thing", "t crimson thing") in judge.asked
    assert mined["words"] == Mined(negatives=4, false_negatives=2), "crimson for red, and red for crimson"


def test_another_target_of_the_same_query_is_a_right_answer(folder: Path):
    mine_negatives(folder, OnACircle(), Knows(), MineConfig(num_negatives=3))
    mined = negatives(folder)
    assert mined["t red"] == mined["t pink"] == ["t blue"]


def test_without_a_judge_what_is_about_as_near_as_the_positive_is_left_out(tmp_path: Path):
    pairs = [text_pair("q red", "t red"), text_pair("q blue", "t blue"), text_pair("t pink", "t pink"), text_pair("t crimson", "t crimson")]
    out = annotated_folder(tmp_path, pairs)
    filter_pairs(out)
    mined = mine_negatives(out, OnACircle(), None, MineConfig(num_negatives=1))
    assert negatives(out)["t red"] == ["t pink"], "crimson has more than .95 of red's similarity"
    assert mined["words"].false_negatives > 0
    assert mined["words"].unjudged == 0


def test_a_target_that_the_judge_fails_on_is_left_out_and_counted(tmp_path: Path):
    out = annotated_folder(tmp_path, [text_pair("q red", "t red"), text_pair("t orange", "t orange")])
    filter_pairs(out)
    mined = mine_negatives(out, OnACircle(), Knows())
    assert negatives(out) == {"t red": [], "t orange": []}
    assert mined == {"words": Mined(unjudged=2, short=2)}
    assert (
        mined_line(mined)
        == "0 hard negatives mined, 0 near targets left out as right answers, 2 as not judged; 2 pairs have fewer than asked for"
    )


def test_verdicts_are_kept_and_mined_negatives_stand_in_the_training_rows(folder: Path):
    mine_negatives(folder, OnACircle(), Knows(), MineConfig(num_negatives=1))
    filter_pairs(folder)
    again = Knows()
    mine_negatives(folder, OnACircle(), again, MineConfig(num_negatives=1))
    assert all("orange" in name for asked in again.asked for name in asked if "red" not in name and "blue" not in name), (
        "only failures are asked again"
    )
    batches = PairFileRows(PairsConfig(files={"words": folder / "contrastive.jsonl"}, tcot_dropout=0), seed=0, batch_size=2, num_batches=2)
    assert any(len(row) == 3 for row in batches.datasets()["pairs"])


def test_a_folder_that_was_not_filtered_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="filter the folder first"):
        mine_negatives(tmp_path, OnACircle())


def test_mining_and_its_embedder_go_together(folder: Path):
    result = CliRunner().invoke(app, ["filter", str(folder), "--mine", "2"])
    assert result.exit_code != 0
    assert isinstance(result.exception, ConfigError)
    assert "--embedder" in str(result.exception)


def test_an_unknown_embedder_is_refused_before_anything_is_filtered(folder: Path):
    before = sorted(path.name for path in folder.iterdir())
    result = CliRunner().invoke(app, ["filter", str(folder), "--mine", "2", "--embedder", "nowhere"])
    assert isinstance(result.exception, ConfigError)
    assert "embedder='nowhere'" in str(result.exception)
    assert sorted(path.name for path in folder.iterdir()) == before
