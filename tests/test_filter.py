"""Filtering: each rule by a case made by hand, how the rejected are shared out, and what a judge's failure means."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from embedrl.annotate.annotate import annotate
from embedrl.annotate.filter import filter_pairs, report_rows
from embedrl.annotate.rules import Reason, leak
from embedrl.data.records import WriterLock
from embedrl.data.sample import Item, Pair, Role
from embedrl.data.sources import SOURCES
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, TCoT
from embedrl.errors import ConfigError, MediaError, ModelError, StoreError
from embedrl.media.content import Content, Frames, Image, Text, Video
from embedrl.media.image import save_image
from embedrl.media.video import save_video
from embedrl.pipelines.annotate import filter_annotated, filter_line
from embedrl.testing import FakeJudge, FakeReasoner
from tests.coloured_folder import picture

LONG = "the old mill by the river burns at night"


def tcot(answer: str, **evidence: tuple) -> TCoT:
    return TCoT(thinking="t", evidence=Evidence(**evidence), rethink="r", answer=answer)


class Script(FakeReasoner):
    """Writes what it is told about an item with a text."""

    def __init__(self, outcomes: dict[str, TCoT | ParseFailure | Exception]) -> None:
        super().__init__("script")
        self.outcomes = outcomes

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        found = []
        for item in items:
            outcome = self.outcomes.get(item.text, tcot(f"{item.text} thing"))
            if isinstance(outcome, Exception):
                raise outcome
            found.append(outcome)
        return found


class Judge(FakeJudge):
    """Says what it is told about a query's answer, else yes."""

    fingerprint = "judge"

    def __init__(self, verdicts: dict[str, bool | Exception | None] | None = None) -> None:
        self.verdicts, self.asked = verdicts or {}, Counter()

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        found = []
        for query, _ in pairs:
            verdict = self.verdicts.get(query.answer, True)
            if isinstance(verdict, Exception):
                raise verdict
            self.asked[query.answer] += 1
            found.append(verdict)
        return found


def text_pair(query: str, target: str, task: str = "words") -> Pair:
    return Pair(
        task=task,
        query=Item(content=(Text(text=query),), role=Role.QUERY_TEXT_TO_IMAGE),
        target=Item(content=(Text(text=target),), role=Role.TARGET_TEXT),
    )


def media_pair(task: str, text: str, *content: Image | Video) -> Pair:
    target: Content = (*content, Text(text=text))
    return Pair(task=task, query=text_pair(f"about {text}", "x").query, target=Item(content=target, role=Role.TARGET_IMAGE))


def annotated_folder(folder: Path, pairs: Iterable[Pair], outcomes: dict[str, TCoT | ParseFailure | Exception] | None = None) -> Path:
    annotate(list(pairs), Script(outcomes or {}), folder / "out", batch_size=4)
    return folder / "out"


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def reasons(folder: Path) -> dict[str, str]:
    """Return the reason of each rejected pair, by its query's text."""
    lines = rows(folder / "rl.jsonl") + rows(folder / "rejected.jsonl")
    return {line["pair"]["query"]["content"][-1]["text"]: line["reason"] for line in lines}


def test_each_rule_by_hand(tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    save_video([picture("red"), picture("blue"), picture("green")], tmp_path / "clip.mp4", fps=1)
    image, video = Image(path=tmp_path / "red.png"), Video(path=tmp_path / "clip.mp4")
    pairs = [
        text_pair("fine", "good"),
        text_pair("mute", "good"),
        text_pair("silent", "bad file"),
        text_pair("off", "good"),
        text_pair("wrong word", "good"),
        media_pair("seen", "box in", image),
        media_pair("seen", "box out", image),
        media_pair("seen", "frame in", video),
        media_pair("seen", "frame out", video),
        text_pair("copied", LONG),
        text_pair(f"told: {LONG}", LONG),
        text_pair("apart", "good"),
        text_pair("shrug", "good"),
    ]
    outcomes = {
        "mute": ParseFailure(reason=FailureReason.TRUNCATED, text="<thinking> I"),
        "bad file": MediaError("'a.png': is cut short"),
        "off": ModelError("no answer"),
        "fine": tcot("fine", keywords=("Fine",)),
        "wrong word": tcot("wrong", keywords=("wrong", "elephant")),
        "box in": tcot("box", boxes=((0, 0, 1000, 1000),)),
        "box out": tcot("box", boxes=((0, 0, 10, 10), (5, 5, 5, 9))),
        "frame in": tcot("frame", key_frames=(1, 3)),
        "frame out": tcot("frame", key_frames=(2, 4)),
        "copied": tcot("I see: The OLD mill, by the river, burns at night!"),
        f"told: {LONG}": tcot(LONG),
    }
    folder = annotated_folder(tmp_path, pairs, outcomes)
    report = filter_pairs(folder, Judge({"apart thing": False, "shrug thing": None}), rl_share=0.5)
    assert reasons(folder) == {
        "mute": "malformed",
        "silent": "unreadable",
        "off": "malformed",
        "wrong word": "ungrounded",
        "about box out": "ungrounded",
        "about frame out": "ungrounded",
        "copied": "leak",
        "apart": "no_match",
        "shrug": "judge_failed",
    }
    kept = [line["pair"]["query"]["content"][-1]["text"] for line in rows(folder / "contrastive.jsonl")]
    assert sorted(kept) == sorted(["fine", "about box in", "about frame in", f"told: {LONG}"])
    assert report.kept == {"words": 2, "seen": 2}
    assert report.rejected["seen"] == {Reason.UNGROUNDED: 2}
    assert report.waiting == 0
    told = [detail for counts in report.examples.values() for shown in counts.values() for detail in shown]
    for words in (
        "the query: truncated",
        "the target: 'a.png': is cut short",
        "the query: no answer",
        "the query: keyword 'elephant'",
        "the target: box (5, 5, 5, 9)",
        "the target: frame 4",
        "the 9 words of the target",
        "the judge: no verdict",
    ):
        assert any(detail.endswith(words) for detail in told), words
    columns, table = report_rows(report)
    assert columns == ["dataset", "kept", *(reason.value for reason in Reason)]
    assert table == [
        ["seen", "2", "0", "0", "2", "0", "0", "0"],
        ["words", "2", "1", "2", "1", "1", "1", "1"],
        ["all", "4", "1", "2", "3", "1", "1", "1"],
    ]
    assert "4 pairs to learn from by contrast, 4 for RL, 5 rejected" in filter_line(report, folder)
    assert all(line["reason"] != "unreadable" for line in rows(folder / "rl.jsonl"))
    assert not list(folder.glob("*.new"))


def test_lines_hold_pairs_and_tcots(tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    pairs = [
        media_pair("seen", "a red square", Image(path=tmp_path / "red.png")),
        text_pair("mute", "good"),
    ]
    folder = annotated_folder(tmp_path, pairs, {"mute": ParseFailure(reason=FailureReason.TRUNCATED, text="<thinking> I")})
    filter_pairs(folder, rl_share=1)
    (kept,) = SOURCES["lines"](folder / "contrastive.jsonl")
    assert kept.query_tcot == tcot("about a red square thing")
    assert kept.target_tcot == tcot("a red square thing")
    assert kept.key == pairs[0].key
    (rejected,) = SOURCES["lines"](folder / "rl.jsonl")
    assert isinstance(rejected.query_tcot, ParseFailure)
    assert rejected.target_tcot == tcot("good thing")


def test_text_that_is_no_unicode_passes(tmp_path: Path):
    pairs = [text_pair("q\udc80", "t"), text_pair("mute", "t")]
    folder = annotated_folder(tmp_path, pairs, {"mute": ParseFailure(reason=FailureReason.EMPTY, text="\udc81")})
    filter_pairs(folder, Judge(), rl_share=1)
    (kept,) = SOURCES["lines"](folder / "contrastive.jsonl")
    assert kept.query.text == "q\ufffd"
    assert kept.query_tcot == tcot("q\ufffd thing")
    assert rows(folder / "rl.jsonl")[0]["query_tcot"] == "\ufffd", "a T-CoT that is none, too, can be written as UTF-8"


@pytest.mark.parametrize(
    ("answer", "target", "query", "is_leak"),
    [
        (LONG, LONG, "what burns?", True),
        (f"It says “{LONG.upper()}”.", LONG, "what burns?", True),
        (LONG, f"{LONG} long", "what burns?", False),
        (f"xx{LONG}", LONG, "what burns?", False),
        (LONG, LONG, f"say: {LONG}.", False),
        ("a red mug of tea", "red mug of tea", "what is it?", False),
        ("", "", "what?", False),
    ],
)
def test_leaks(answer: str, target: str, query: str, is_leak: bool):
    pair = text_pair(query, target or "x")
    assert (leak(pair, tcot(answer or "nothing")) is not None) == is_leak
    if "mug" in target:
        assert leak(pair, tcot(answer), leak_words=4) is not None


def test_shares_are_exact_spread_and_the_same_each_time(tmp_path: Path):
    pairs, outcomes = [], {}
    for task, num_mute, num_off in (("a", 40, 7), ("b", 21, 1), ("c", 3, 30)):
        for number in range(num_mute + num_off):
            pairs.append(text_pair(f"{task} {number}", f"t {number}", task))
            if number < num_mute:
                outcomes[f"{task} {number}"] = ParseFailure(reason=FailureReason.EMPTY, text="")
            else:
                outcomes[f"{task} {number}"] = tcot("off", keywords=("elephant",))
    folder = annotated_folder(tmp_path, pairs, outcomes)
    for share in (0.5, 0.25):
        report = filter_pairs(folder, rl_share=share)
        assert report.num_rl == round(102 * share + 1e-9)
        chosen = Counter((line["pair"]["task"], line["reason"]) for line in rows(folder / "rl.jsonl"))
        for dataset, counts in report.rejected.items():
            for reason, count in counts.items():
                assert abs(chosen[dataset, reason.value] - share * count) <= 1, (dataset, reason)
    before = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    filter_pairs(folder, rl_share=0.25)
    assert {path.name: path.read_bytes() for path in folder.glob("*.jsonl")} == before
    both = rows(folder / "rl.jsonl") + rows(folder / "rejected.jsonl")
    assert len(both) == 102
    assert filter_pairs(folder, rl_share=0).num_rl == 0
    assert filter_pairs(folder, rl_share=1).num_rl == 102


def test_a_judge_that_fails_is_no_verdict_and_is_asked_again(tmp_path: Path):
    folder = annotated_folder(tmp_path, [text_pair(f"q {number}", f"t {number}") for number in range(10)])
    judge = Judge({"q 3 thing": ModelError("the server is gone"), "q 4 thing": None, "q 5 thing": False})
    report = filter_pairs(folder, judge, batch_size=4)
    assert report.rejected == {"words": {Reason.NO_MATCH: 1, Reason.JUDGE_FAILED: 2}}
    assert report.kept == {"words": 7}
    assert any("the judge: the server is gone" in told for told in report.examples["words"][Reason.JUDGE_FAILED])
    mended = Judge({"q 3 thing": True, "q 4 thing": False})
    report = filter_pairs(folder, mended, batch_size=4)
    assert mended.asked == {"q 3 thing": 1, "q 4 thing": 1}, "the other verdicts are known"
    assert report.rejected == {"words": {Reason.NO_MATCH: 2}}
    assert report.kept == {"words": 8}
    assert report.judge == "judge"

    class Short(Judge):
        def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
            return [True]

    short = Short()
    short.fingerprint = "short"
    with pytest.raises(ModelError, match="1 verdicts for 10 pairs"):
        filter_pairs(folder, short)
    assert len(rows(folder / "contrastive.jsonl")) == 8, "the old files stay"
    assert not list(folder.glob("*.new")), "the old files stay"


def test_a_file_that_is_gone_since(tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    folder = annotated_folder(tmp_path, [media_pair("seen", "red", Image(path=tmp_path / "red.png")), text_pair("q", "t")])
    (tmp_path / "red.png").unlink()
    report = filter_pairs(folder, rl_share=1)
    assert report.rejected == {"seen": {Reason.UNREADABLE: 1}}
    assert report.num_rl == 0
    assert report.kept == {"words": 1}
    assert "red.png" in report.examples["seen"][Reason.UNREADABLE][0]
    (line,) = rows(folder / "rejected.jsonl")
    assert line["query_tcot"] is None
    assert "red.png" in line["detail"]


def test_several_reasoners_and_what_is_not_annotated_yet(tmp_path: Path):
    folder = annotated_folder(tmp_path, [text_pair("q", "t"), text_pair("q2", "t2")])
    annotate([text_pair("q", "t")], FakeReasoner(), folder)
    with pytest.raises(ConfigError, match="name one of 'script', 'fake-reasoner'"):
        filter_pairs(folder)
    with pytest.raises(ConfigError, match="reasoner='else'"):
        filter_pairs(folder, reasoner="else")
    report = filter_pairs(folder, reasoner="fake-reasoner")
    assert (report.kept, report.waiting) == ({"words": 1}, 1)
    assert "1 are not annotated yet" in filter_line(report, folder)
    assert filter_pairs(folder, reasoner="script").kept == {"words": 2}


def test_key_frames_are_of_the_frames_that_were_seen(tmp_path: Path):
    frames = Frames(tuple(picture("red") for _ in range(6)), tuple(map(float, range(6))))
    pair = media_pair("seen", "late", Video(frames=frames))
    script = Script({"late": tcot("late", key_frames=(5,))})
    script.num_frames = 4
    annotate([pair], script, tmp_path / "out")
    assert filter_pairs(tmp_path / "out").rejected == {"seen": {Reason.UNGROUNDED: 1}}


def test_wrong_options(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such folder"):
        filter_pairs(tmp_path / "none")
    with pytest.raises(ConfigError, match="nothing is annotated"):
        filter_pairs(tmp_path)
    assert list(tmp_path.iterdir()) == []
    folder = annotated_folder(tmp_path, [text_pair("q", "t")])
    for options in ({"rl_share": 1.5}, {"rl_share": float("nan")}, {"batch_size": 0}):
        with pytest.raises(ConfigError):
            filter_pairs(folder, **options)
    lock = WriterLock(folder / "filter.lock")
    with pytest.raises(StoreError, match="another process"):
        filter_pairs(folder)
    lock.release()
    assert filter_annotated(folder, "fake").judge == "fake-judge"
    assert filter_annotated(folder, None).kept == {"words": 1}
    page = (folder / "filter.html").read_text("utf-8")
    assert "<td>words</td>" in page
    assert json.loads((folder / "filter.json").read_text())["kept"] == {"words": 1}
    with pytest.raises(ConfigError, match="not a folder"):
        filter_annotated(folder, "nobody")
