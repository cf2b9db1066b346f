"""Annotating: what is done once, what is kept apart, and what a kill leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from embedrl.annotate.annotate import AnnotateReport, Budget, annotate
from embedrl.annotate.store import Annotations, State
from embedrl.data.protocols import Reasons
from embedrl.data.records import WriterLock
from embedrl.data.sample import Item, Pair, Role
from embedrl.data.sources import Outcome, ProblemKind, SourceProblem
from embedrl.data.tcot import ParseFailure, TCoT, render
from embedrl.errors import ConfigError, MediaError, ModelError, StoreError
from embedrl.media.content import Content, Frames, Image, Page, Text, Video
from embedrl.media.image import save_image
from embedrl.pipelines.annotate import annotate_line, annotate_source, num_rows
from embedrl.testing import FakeReasoner
from tests.chat_server import Answer, chat_server, completion
from tests.coloured_folder import picture


def item(content: str | Content, role: Role = Role.TARGET_TEXT) -> Item:
    return Item(content=(Text(text=content),) if isinstance(content, str) else content, role=role)


def text_pairs(count: int, start: int = 0) -> Iterator[Pair]:
    for number in range(start, start + count):
        yield Pair(task="words", query=item(f"question {number}", Role.QUERY_TEXT_TO_IMAGE), target=item(f"answer {number}"))


def keys(folder: Path, state: State) -> list[str]:
    return list(Annotations(folder).outcomes[state])


class Stubborn(FakeReasoner):
    """Refuses a batch that holds one of some texts."""

    def __init__(self, *texts: str, error: type[Exception] = ModelError) -> None:
        super().__init__()
        self.texts, self.error, self.sizes = texts, error, []

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        self.sizes.append(len(items))
        for one in items:
            if one.text in self.texts:
                raise self.error(f"will not speak of {one.text!r}")
        return super().reason(items)


def test_both_sides_are_reasoned_about_once(tmp_path: Path):
    reasoner = FakeReasoner()
    twice = [*text_pairs(5), *text_pairs(5), Pair(task="other", query=item("question 0", Role.QUERY_TEXT_TO_IMAGE), target=item("new"))]
    report = annotate(twice, reasoner, tmp_path, batch_size=4)
    assert (report.num_pairs, report.made, report.known, report.left) == (11, 11, 0, 0)
    assert set(reasoner.reasoned.values()) == {1}
    assert len(keys(tmp_path, State.TCOT)) == 11
    store = Annotations(tmp_path)
    pairs = dict(store.read_pairs())
    assert list(pairs.values()) == [*text_pairs(5), twice[-1]]
    assert all(key == pair.key for key, pair in pairs.items())
    assert store.outcome(twice[0].query, reasoner.fingerprint) == FakeReasoner().reason([twice[0].query])[0]
    first = json.loads((tmp_path / "tcots.jsonl").read_text().splitlines()[0])["value"]
    assert first["saw_answer"] is False
    assert first["reasoner"] == reasoner.fingerprint
    assert first["item"] == twice[0].query.key


def test_a_pair_that_stands_there_twice_is_kept_once_and_counted(tmp_path: Path):
    report = annotate([*text_pairs(3), *text_pairs(2)], FakeReasoner(), tmp_path, batch_size=2)
    assert (report.num_pairs, report.num_repeated, report.made, len(Annotations(tmp_path).pairs)) == (5, 2, 6, 3)
    assert "5 pairs (2 of them repeated)" in annotate_line(report)


def test_a_second_run_does_nothing_and_another_name_does_all(tmp_path: Path):
    annotate(text_pairs(6), FakeReasoner(), tmp_path, batch_size=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = FakeReasoner()
    report = annotate(text_pairs(6), again, tmp_path, batch_size=4)
    assert (report.made, report.known, again.reasoned) == (0, 12, Counter())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    more = annotate(text_pairs(8), again, tmp_path)
    assert (more.made, more.known) == (4, 12)
    other = FakeReasoner("another")
    assert annotate(text_pairs(8), other, tmp_path).made == 16
    assert other.reasoned.total() == 16
    assert len(dict(Annotations(tmp_path).read_pairs())) == 8


def test_the_reader_is_never_far_ahead(tmp_path: Path):
    most, batch_size = [0], 8

    def watched() -> Iterator[Pair]:
        for number, pair in enumerate(text_pairs(200)):
            stored = Annotations(tmp_path)
            most.append(number - len(stored.pairs))
            assert 2 * number - len(stored.outcomes[State.TCOT]) <= 2 * batch_size
            stored.close()
            yield pair

    assert annotate(watched(), FakeReasoner(), tmp_path, batch_size=batch_size).made == 400
    assert max(most) <= batch_size


def test_malformed_answers_are_kept_apart_and_retried_alone(tmp_path: Path):
    bad = next(text_pairs(1)).target
    report = annotate(text_pairs(4), FakeReasoner(fail_keys={bad.key}), tmp_path)
    assert (report.made, report.malformed, report.failed) == (7, 1, 0)
    assert report.examples == (f"item {bad.key[:12]}: missing_thinking",)
    assert len(keys(tmp_path, State.MALFORMED)) == 1
    assert isinstance(Annotations(tmp_path).outcome(bad, "fake-reasoner"), ParseFailure)

    assert annotate(text_pairs(4), FakeReasoner(), tmp_path).known == 8, "not tried again unless asked"
    assert annotate(text_pairs(4), FakeReasoner(), tmp_path, retry="failed").made == 0
    still = annotate(text_pairs(4), FakeReasoner(fail_keys={bad.key}), tmp_path, retry="malformed")
    assert (still.made, still.malformed) == (0, 1)
    mended = FakeReasoner()
    report = annotate([*text_pairs(6), *text_pairs(6)], mended, tmp_path, retry="malformed")
    assert (report.made, report.known, report.left, mended.reasoned) == (1, 7, 4, {bad.key: 1})
    assert "4 items are not annotated yet" in annotate_line(report)
    assert keys(tmp_path, State.MALFORMED) == []
    assert len(keys(tmp_path, State.TCOT)) == 8
    assert len(Annotations(tmp_path).pairs) == 4


@pytest.mark.parametrize("error", [ModelError, MediaError])
def test_one_item_that_fails_costs_no_other(tmp_path: Path, error: type[Exception]):
    reasoner = Stubborn("answer 2", error=error)
    report = annotate(text_pairs(5), reasoner, tmp_path, batch_size=10)
    assert (report.made, report.failed) == (9, 1)
    assert reasoner.sizes == [10] + [1] * 10
    assert report.examples[0].endswith("will not speak of 'answer 2'")
    store = Annotations(tmp_path)
    failed = list(text_pairs(5))[2].target
    assert store.outcome(failed, reasoner.fingerprint) == "will not speak of 'answer 2'"
    assert store.is_unreadable(failed, reasoner.fingerprint) == (error is MediaError)
    mended = FakeReasoner()
    assert annotate(text_pairs(5), mended, tmp_path, retry="failed").made == 1
    assert mended.reasoned == {failed.key: 1}
    assert keys(tmp_path, State.FAILED) == []


def test_a_model_that_is_gone_marks_nothing_as_failed(tmp_path: Path):
    reasoner = Stubborn(*(f"{side} {number}" for number in range(4, 100) for side in ("question", "answer")))
    with pytest.raises(ModelError, match=r"5 items in a row, the last time with: will not speak of 'question 6'"):
        annotate(text_pairs(20), reasoner, tmp_path, batch_size=3, give_up_after=5)
    assert len(keys(tmp_path, State.TCOT)) == 8
    assert keys(tmp_path, State.FAILED) == []
    assert annotate(text_pairs(20), FakeReasoner(), tmp_path).made == 32


def test_a_bad_file_is_named_and_nothing_else_is_lost(tmp_path: Path):
    for name in ("red", "green", "blue"):
        save_image(picture(name), tmp_path / f"{name}.png")
    whole = (tmp_path / "green.png").read_bytes()
    (tmp_path / "green.png").write_bytes(whole[: len(whole) // 2])
    names = ("red", "green", "missing", "blue")
    pairs: list[Outcome] = [
        Pair(task="t", query=item(name, Role.QUERY_TEXT_TO_IMAGE), target=item((Image(path=tmp_path / f"{name}.png"),), Role.TARGET_IMAGE))
        for name in names
    ]
    pairs.append(SourceProblem(path=tmp_path / "rows.json", row=7, kind=ProblemKind.FIELDS, reason="no query"))
    report = annotate(pairs, FakeReasoner(), tmp_path / "out")
    # "missing" gives no pair: without its bytes it has no key. It is looked for again in each run.
    assert (report.num_pairs, report.made, report.failed, report.num_problems) == (4, 5, 1, 2)
    told = "\n".join(report.examples)
    assert "green.png" in told
    assert "missing.png" in told
    assert "row 7: no query" in told
    assert len(Annotations(tmp_path / "out").problems) == 2
    save_image(picture("purple"), tmp_path / "missing.png")
    assert annotate(pairs, FakeReasoner(), tmp_path / "out").made == 2


def test_a_budget_stops_and_the_next_run_goes_on(tmp_path: Path):
    first = annotate(text_pairs(20), FakeReasoner(), tmp_path, batch_size=4, budget=Budget(max_tokens=1))
    assert (first.made, first.left, first.stopped_by) == (4, 36, "max_tokens")
    assert first.num_tokens > 4
    assert "36 items are left" in annotate_line(first)
    assert len(Annotations(tmp_path).pairs) == 2
    slow = FakeReasoner(sleep_s=0.01)
    second = annotate(text_pairs(20), slow, tmp_path, batch_size=4, budget=Budget(max_seconds=0.05))
    assert second.stopped_by == "max_seconds"
    assert 0 < second.made < 36
    assert second.made + second.left == 36
    last = annotate(text_pairs(20), FakeReasoner(), tmp_path, batch_size=4, budget=Budget(max_tokens=10**6))
    assert (last.made, last.left, last.stopped_by) == (second.left, 0, "")
    assert len(keys(tmp_path, State.TCOT)) == 40
    assert len(Annotations(tmp_path).pairs) == 20
    spent = annotate(text_pairs(1, start=50), FakeReasoner(), tmp_path, budget=Budget(max_tokens=1))
    assert (spent.left, spent.stopped_by) == (0, ""), "it was used up by the last batch there was"


def test_two_processes_do_not_share_a_folder(tmp_path: Path):
    lock = WriterLock(tmp_path / "annotate.lock")
    reasoner = FakeReasoner()
    with pytest.raises(StoreError, match="another process is writing here"):
        annotate(text_pairs(3), reasoner, tmp_path)
    assert not reasoner.reasoned
    lock.release()
    assert annotate(text_pairs(3), reasoner, tmp_path).made == 6


def test_media_in_memory_become_files_once(tmp_path: Path):
    frames = Frames(tuple(picture(name) for name in ("red", "blue", "blue")), (0.0, 2.0, 4.0))
    contents = ((Image(pixels=picture("red")),), (Page(pixels=picture("green")),), (Video(frames=frames),))
    pairs = [
        Pair(task="t", query=item(f"{n}", Role.QUERY_TEXT_TO_IMAGE), target=item(c, Role.TARGET_IMAGE)) for n, c in enumerate(contents)
    ]
    assert annotate(pairs, FakeReasoner(), tmp_path).made == 6
    assert sorted(path.suffix for path in (tmp_path / "media").iterdir()) == [".mp4", ".pdf", ".png"]
    stored = [pair for _, pair in Annotations(tmp_path).read_pairs()]
    assert [pair.target.content[0].kind for pair in stored] == ["image", "page", "video"]
    answer = Annotations(tmp_path).outcome(stored[2].target, "fake-reasoner")
    assert isinstance(answer, TCoT)
    assert "blue clip" in answer.answer
    assert answer.evidence.key_frames == (2,)
    assert annotate(pairs, FakeReasoner(), tmp_path).known == 6


def test_relative_and_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save_image(picture("red"), Path("red.png"))
    odd = Path(os.fsdecode(b"bl\xfce.png"))
    save_image(picture("blue"), odd)
    pairs = [Pair(task="t", query=item("q"), target=item((Image(path=path),), Role.TARGET_IMAGE)) for path in (Path("red.png"), odd)]
    report = annotate(pairs, FakeReasoner(), Path("out"))
    assert (report.made, report.num_problems) == (2, 1)
    assert "is not UTF-8; rename it" in report.examples[0]
    monkeypatch.chdir("/")
    ((_, pair),) = Annotations(tmp_path / "out").read_pairs()
    assert pair.target.key == item((Image(path=tmp_path / "red.png"),), Role.TARGET_IMAGE).key


def test_progress_counts_every_pair(tmp_path: Path):
    seen = []
    annotate(text_pairs(21), FakeReasoner(), tmp_path, batch_size=4, on_progress=lambda num, counts: seen.append((num, counts["made"])))
    assert sum(num for num, _ in seen) == 21
    assert seen[-1][1] == 42
    assert len(seen) >= 10


def test_wrong_options_and_a_wrong_reasoner(tmp_path: Path):
    for options in ({"batch_size": 0}, {"retry": "all"}, {"give_up_after": 0}):
        with pytest.raises(ConfigError):
            annotate([], FakeReasoner(), tmp_path, **options)

    class Short(FakeReasoner):
        def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
            return super().reason(items)[1:]

    with pytest.raises(ModelError, match="3 T-CoTs for 4 items"):
        annotate(text_pairs(2), Short(), tmp_path)
    with pytest.raises(ConfigError, match=r"'num_frames': 8, .*not .*'num_frames': 4"):
        annotate([], FakeReasoner(num_frames=4), tmp_path)
    assert isinstance(Short(), Reasons)


def test_a_stated_share_of_the_queries_is_shown_the_answer(tmp_path: Path):
    class Telling(FakeReasoner):
        def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
            return [TCoT(thinking=one.text, rethink="Yes.", answer="thing") for one in items]

    pairs = list(text_pairs(200))
    annotate(pairs, Telling(), tmp_path, answer_share=0.3)
    store = Annotations(tmp_path)
    shown = [pair for pair in pairs if store.saw_answer(pair.query, "fake-reasoner")]
    assert 40 < len(shown) < 80
    assert not any(store.saw_answer(pair.target, "fake-reasoner") for pair in pairs)
    for pair in pairs:
        written = store.outcome(pair.query, "fake-reasoner")
        assert isinstance(written, TCoT)
        assert (pair.target.text in written.thinking) == (pair in shown)
    with pytest.raises(ConfigError, match=r"answer_share.: 0\.3"):
        annotate(pairs, Telling(), tmp_path)
    with pytest.raises(ConfigError, match="answer_share=2"):
        annotate(pairs, Telling(), tmp_path, answer_share=2)


def test_a_source_by_name(tmp_path: Path):
    rows = tmp_path / "pairs.jsonl"
    rows.write_text('{"query": {"text": "a mug"}, "target": {"text": "a red mug"}}\n{"query": 1}\n', "utf-8")
    report = annotate_source("lines", rows, tmp_path / "out", "fake", task="shop")
    assert isinstance(report, AnnotateReport)
    assert (report.made, report.num_problems) == (2, 1)
    assert num_rows(rows) == 2
    assert num_rows(tmp_path) is None
    assert [pair.task for _, pair in Annotations(tmp_path / "out").read_pairs()] == ["shop"]
    with pytest.raises(ConfigError, match="choose from mmeb"):
        annotate_source("nothing", rows, tmp_path / "out", "fake")
    with pytest.raises(ConfigError, match="no such file"):
        annotate_source("lines", tmp_path / "no.jsonl", tmp_path / "out", "fake")
    with pytest.raises(ConfigError, match="is for a server"):
        annotate_source("lines", rows, tmp_path / "out", "fake", concurrency=8)


def test_a_server_gets_as_many_requests_at_once_as_asked_and_says_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(f'{{"query": {{"text": "mug {n}"}}, "target": {{"text": "red mug {n}"}}}}\n' for n in range(60)), "utf-8")
    with chat_server() as server:
        server.otherwise = Answer(completion(render(TCoT(thinking="a mug", rethink="yes", answer="a mug"))), together=20)
        report = annotate_source("lines", rows, tmp_path / "out", f"{server.url}/v1", concurrency=20)
        assert (report.made, report.num_tokens, server.most_in_flight) == (120, 3 * 120, 20)
        left = annotate_source("lines", rows, tmp_path / "less", f"{server.url}/v1", concurrency=2, max_tokens=3)
        assert (left.made, left.left, left.stopped_by) == (16, 104, "max_tokens"), "a batch has eight questions for each place"


WORKER = """
import sys
from pathlib import Path
from embedrl.annotate.annotate import annotate
from embedrl.testing import FakeReasoner
from tests.test_annotate import text_pairs

pairs = list(text_pairs(int(sys.argv[2])))
bad = {pair.target.key for pair in pairs[::50]}
sys.stdout.write("ready\\n")
sys.stdout.flush()
annotate(pairs, FakeReasoner(fail_keys=bad), Path(sys.argv[1]), batch_size=16)
"""


def start_worker(folder: Path, count: int) -> subprocess.Popen[str]:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]), "PYTHONWARNINGS": "ignore"}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(count)], env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def contents(folder: Path) -> dict[str, list[tuple[str, str]]]:
    store = Annotations(folder)
    records = {"pairs": store.pairs, **store.outcomes}
    return {name: sorted((key, json.dumps(found.get(key), sort_keys=True)) for key in found) for name, found in records.items()}


@pytest.mark.slow
def test_three_kills_leave_what_an_uninterrupted_run_leaves(tmp_path: Path):
    count = 3000
    started = time.monotonic()
    with start_worker(tmp_path / "whole", count) as worker:
        assert worker.wait(300) == 0
    span_s = time.monotonic() - started
    num_killed = 0
    rng = random.Random(11)
    for _ in range(3):
        with start_worker(tmp_path / "killed", count) as worker:
            time.sleep(rng.uniform(0.03, 0.27) * span_s)
            worker.send_signal(signal.SIGKILL)
            num_killed += worker.wait() != 0
    assert num_killed >= 2, "the kills came too late to matter"
    with start_worker(tmp_path / "killed", count) as worker:
        assert worker.wait(300) == 0
    whole, killed = contents(tmp_path / "whole"), contents(tmp_path / "killed")
    assert {name: len(found) for name, found in whole.items()} == {"pairs": 3000, "tcot": 5940, "malformed": 60, "failed": 0}
    assert killed == whole
    lines = (tmp_path / "killed" / "tcots.jsonl").read_text().splitlines()
    assert len(lines) == 5940, "nothing was done twice"
