"""Before and after: the right cases, in the right order, with what was dropped and added."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from embedrl.cli.main import main
from embedrl.data.sample import Item, Pair, Role
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.evaluation.compare import case_row, compare, difference, extremes, judged, statements
from embedrl.evaluation.evaluate import evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import Image, Text
from embedrl.pipelines.compare import case_card, case_rows
from embedrl.testing import FakeEmbedder

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 50), "blue": (30, 60, 220)}


def make_task(name: str = "colours") -> RetrievalTask:
    pairs = []
    for colour, value in COLOURS.items():
        query = Item(content=(Text(text=f"number {len(pairs)}"),), role=Role.QUERY_TEXT_TO_IMAGE)
        target = Item(content=(Image(pixels=PIL.Image.new("RGB", (32, 32), value)),), role=Role.TARGET_IMAGE, instruction=colour)
        pairs.append(Pair(task=name, query=query, target=target))
    return RetrievalTask.from_pairs(name, "image", pairs)


class Says:
    """A Reasoner that says of query number i what it is told, and of pictures nothing new."""

    fingerprint = "says"

    def __init__(self, *answers: str) -> None:
        self.answers = answers

    def reason(self, items) -> list[TCoT | ParseFailure]:
        return [self._reason(item) for item in items]

    def _reason(self, item: Item) -> TCoT | ParseFailure:
        if item.visual is not None:
            return TCoT(thinking="A picture.", evidence=Evidence(boxes=((0, 0, 500, 500),)), rethink="Fine.", answer="picture")
        answer = self.answers[int(item.text[-1])]
        return TCoT(thinking="Look.", rethink="Fine.", answer=answer) if answer else ParseFailure(reason=FailureReason.EMPTY, text="")


def test_gains_come_first_and_losses_are_shown_worst_first():
    task = make_task()
    before = evaluate([task], FakeEmbedder(), name="before", reasoner=Says("idle words", "green thing", "blue"))
    after = evaluate([task], FakeEmbedder(), name="after", reasoner=Says("red", "red thing", "blue"))
    cases = compare([task], before, after)
    assert [case.query.item.text for case in cases] == ["number 0", "number 2", "number 1"]
    assert cases[0].gain > 0
    assert cases[1].gain == 0
    assert cases[2].gain < 0
    assert cases[0].cosine[1] == after.tasks[0].rankings[0].positive
    assert cases[0].rank[1] == 1
    assert cases[2].rank[0] == 1
    assert cases[2].rank[1] > 1
    assert cases[0].query.dropped == ("idle words",)
    assert cases[0].query.added == ("red",)
    assert cases[0].target.dropped == ()
    gains, losses = extremes(cases)
    assert [len(gains), len(losses)] == [1, 1]
    assert extremes([], 3) == ([], [])
    row = case_row(cases[0])
    assert json.loads(json.dumps(row))["query"]["after"].endswith("<answer> red </answer>")
    assert row["rank"]["after"] == 1
    assert case_rows(gains)[0][-5:] == ["idle words", "red", "", "", ""]
    page = case_card(cases[0])
    assert "<del>idle words</del>" in page
    assert "<ins>red</ins>" in page
    assert page.count("<img") == 2
    assert "<rect" in page


def test_what_is_dropped_is_noise_or_a_loss_by_the_truth():
    """Issue 27, 7: which dropped part was noise, which was true, and what was added without the truth."""
    truth = TCoT(thinking="2 facts.", rethink="Evidence fits.", answer="large red star, blue ring")
    before = TCoT(thinking="2 facts. It looks calm.", rethink="Evidence fits.", answer="red star, on grey, blue ring")
    after = TCoT(thinking="2 facts.", rethink="Evidence fits.", answer="large red star, pink heart")
    assert judged(before, after, truth) == {
        "noise": ("It looks calm", "on grey"),
        "lost": ("red star", "blue ring"),
        "invented": ("pink heart",),
    }
    assert judged(before, after, None) == {"noise": (), "lost": (), "invented": ()}
    assert statements(TCoT(thinking="", rethink="", answer="at 0.5 s, red")) == ["at 0.5 s", "red"]
    assert statements(None) == []


def test_output_that_is_no_tcot_is_compared_too():
    task = make_task()
    systems = [
        evaluate([task], FakeEmbedder(), name=str(n), reasoner=Says(*said)) for n, said in enumerate((("", "b", "c"), ("red", "b", "c")))
    ]
    first = compare([task], *systems)[0]
    assert case_row(first)["query"]["before"] == ""
    assert first.query.added == ("Look. red",)
    assert "No T-CoT" in case_card(first)


def test_other_queries_are_refused():
    one, other = (evaluate([make_task(name)], FakeEmbedder(), name=name) for name in ("a", "b"))
    with pytest.raises(ConfigError, match="other queries"):
        compare([make_task("a")], one, other)


@pytest.mark.parametrize(
    ("before", "after", "dropped", "added"),
    [
        ("a red star", "a red star", (), ()),
        ("a calm red star", "a red star at top", ("calm",), ("at top",)),
        ("", "new", (), ("new",)),
        ("a b c", "x b y", ("a", "c"), ("x", "y")),
    ],
)
def test_differences_are_runs_of_words(before: str, after: str, dropped: tuple[str, ...], added: tuple[str, ...]):
    assert difference(before, after) == (dropped, added)


def test_the_command_writes_table_json_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--embedder", "fake", "--num-queries", "1", "--pool-size", "4", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as exit:
        main(["compare", "--before", "fake", "--after", "fake", *options])
    assert not exit.value.code
    record = json.loads((tmp_path / "compare.json").read_text("utf-8"))
    assert len(record["cases"]) == 15
    assert np.isfinite([case["cosine"]["before"] for case in record["cases"]]).all()
    assert "Largest gains" in (tmp_path / "compare.html").read_text("utf-8")
