"""A Reasoner that answers for some items and not for others: every answer is kept, every refusal has its reason, and the run goes on.

Reported: with one refused file of four, `index` kept no row and no T-CoT, `evaluate` raised, `serve` asked all again, `annotate` went on
(house_today.md 1.1, attack.md 3c).
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from embedrl.annotate.annotate import annotate
from embedrl.annotate.store import Annotations, State
from embedrl.cli.main import main
from embedrl.data.protocols import Refusal, Unanswered
from embedrl.data.reasoning import Patience, RecordedTCoTs, TCoTCounts, ask, reason_missing
from embedrl.data.records import Records
from embedrl.data.sample import Item, Pair, Role
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, render
from embedrl.errors import ModelError
from embedrl.evaluation.cache import Cache, CachedReasoner
from embedrl.evaluation.evaluate import evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.media.content import Text
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.chat_server import Answer, ScriptedServer, chat_server, completion
from tests.served import served

LETTERS = [f"letter {number}" for number in range(4)]


class Refusing(FakeReasoner):
    """Answers what it can, and refuses texts for good; `whole` refuses the batch, as a model does that is not asked over a wire."""

    def __init__(self, *texts: str, reason: str = "refused", whole: bool = False, error: type[Exception] | None = None) -> None:
        super().__init__()
        self.texts, self.reason_word, self.whole, self.error = set(texts), reason, whole, error
        self.asked: Counter[str] = Counter()

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        self.asked.update(item.text for item in items)
        if not any(item.text in self.texts for item in items):
            return super().reason(items)
        if self.error or self.whole:
            raise self.error("odd") if self.error else Refusal(self.reason_word, "400: too long", about_item=True)
        raise Unanswered(
            "not all",
            [
                Refusal(self.reason_word, "400: too long", about_item=True) if item.text in self.texts else answer
                for item, answer in zip(items, super().reason(items), strict=True)
            ],
        )


def item(text: str, role: Role = Role.TARGET_TEXT) -> Item:
    return Item(content=(Text(text=text),), role=role)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "letters"
    place.mkdir()
    for number, text in enumerate(LETTERS):
        (place / f"{number}.txt").write_text(text)
    return place


def run_index(folder: Path, reasoner: FakeReasoner, **options: bool) -> IngestReport:
    embedder = FakeEmbedder()
    return ingest(folder, Index.open(folder, embedder=embedder), reasoner, embedder, **options)


def rows_of(folder: Path) -> dict[str, tuple[bool, str | None, bool]]:
    """By name: whether there is a T-CoT, why not, and whether both vectors are the same."""
    index = Index.open(folder)
    rows = index.rows({place.key for place in index.places()})
    return {row.place.path.name: (row.tcot_text is not None, row.tcot_failure, bool((row.tcot == row.plain).all())) for row in rows}


@pytest.mark.parametrize("whole", [False, True])
def test_index_keeps_three_rows_and_names_the_fourth(folder: Path, whole: bool):
    reasoner = Refusing("letter 3", whole=whole)
    report = run_index(folder, reasoner)
    assert rows_of(folder) == {
        "0.txt": (True, None, False),
        "1.txt": (True, None, False),
        "2.txt": (True, None, False),
        "3.txt": (False, "refused", True),
    }
    assert report.tcots == TCoTCounts(made=3, failed={"refused": 1}, examples={"refused": "refused: 400: too long"})
    assert report.failures == ()
    reasoner.asked.clear()
    again = run_index(folder, reasoner)
    assert reasoner.asked == {"letter 3": 1}, "the next run asks for what is missing, and for nothing else"
    assert (again.unchanged, again.tcots.failed) == (3, {"refused": 1})
    reasoner.texts.clear()
    assert run_index(folder, reasoner).tcots == TCoTCounts(made=1)
    assert rows_of(folder)["3.txt"] == (True, None, False)
    reasoner.asked.clear()
    assert run_index(folder, reasoner).unchanged == 4
    assert not reasoner.asked


@pytest.mark.parametrize("error", [TypeError, OverflowError, RuntimeError, KeyError, MemoryError])
def test_whatever_one_item_raises_inside_a_model_costs_the_others_nothing(folder: Path, error: type[Exception]):
    report = run_index(folder, Refusing("letter 1", error=error))
    assert report.tcots.made == 3
    assert report.tcots.failed == {"model_error": 1}
    assert error.__name__ in report.tcots.examples["model_error"]


def test_annotate_goes_on_and_counts_by_reason(tmp_path: Path):
    pairs = [Pair(task="t", query=item(f"question {text}", Role.QUERY_TEXT_TO_IMAGE), target=item(text)) for text in LETTERS]
    report = annotate(pairs, Refusing("letter 3"), tmp_path)
    assert (report.made, report.failed) == (7, 1)
    assert report.tcots.failed == {"refused": 1}
    assert len(Annotations(tmp_path).outcomes[State.TCOT]) == 7


def test_refusals_about_items_do_not_say_that_the_model_is_gone(tmp_path: Path):
    pairs = [Pair(task="t", query=item(f"q {number}", Role.QUERY_TEXT_TO_IMAGE), target=item(f"a {number}")) for number in range(20)]
    report = annotate(pairs, Refusing(*(f"{side} {number}" for side in "qa" for number in range(18))), tmp_path, batch_size=4)
    assert (report.made, report.failed) == (4, 36)


def letters_task() -> RetrievalTask:
    queries = tuple(item(f"find {text}", Role.QUERY_TEXT_TO_IMAGE) for text in LETTERS)
    targets = tuple(map(item, LETTERS))
    return RetrievalTask("letters", "image", queries, targets, tuple({target.key: 1.0} for target in targets))


def test_evaluate_goes_on_and_asks_only_for_the_missing_one_next_time(tmp_path: Path):
    reasoner = Refusing("letter 3")
    with Cache(tmp_path) as cache:
        result = evaluate([letters_task()], FakeEmbedder(), reasoner=CachedReasoner(reasoner, cache))
    assert result.tcot_counts == TCoTCounts(made=7, failed={"refused": 1}, examples={"refused": "refused: 400: too long"})
    assert result.tasks[0].figures["tcot_valid"].tolist() == [1.0, 1.0, 1.0, 0.5]
    reasoner.asked.clear()
    reasoner.texts.clear()
    with Cache(tmp_path) as cache:
        result = evaluate([letters_task()], FakeEmbedder(), reasoner=CachedReasoner(reasoner, cache))
    assert reasoner.asked == {"letter 3": 1}
    assert result.tcot_counts == TCoTCounts(made=8)


def test_evaluate_gives_no_figures_of_a_reasoner_that_is_gone():
    queries = tuple(item(f"find {number}", Role.QUERY_TEXT_TO_IMAGE) for number in range(20))
    task = RetrievalTask("t", "image", queries, queries, tuple({query.key: 1.0} for query in queries))
    gone = Refusing(*(query.text for query in queries), error=ModelError)
    with pytest.raises(ModelError, match="16 items in a row, the last time with: odd"):
        evaluate([task], FakeEmbedder(), reasoner=gone)
    assert gone.asked.total() == 20 + 16, "the batch, each alone, and then no more"


def test_serve_asks_once_about_each_and_keeps_the_answers(folder: Path):
    reasoner = Refusing("letter 3")
    with served(folder, reasoner=reasoner, index=False, watch=True) as server:
        server.settle()
        assert rows_of(folder)["3.txt"] == (False, "refused", True)
        assert [made for made, _, _ in rows_of(folder).values()].count(True) == 3
        assert reasoner.asked == dict.fromkeys(LETTERS, 1)


def test_a_reasoner_that_is_gone_is_left_alone_and_the_files_are_found_by_their_plain_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts = [f"note {number}" for number in range(40)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number:02}.txt").write_text(text)
    gone = Refusing(*texts, error=ConnectionError)
    embedder = FakeEmbedder()
    report = ingest(tmp_path, Index.open(tmp_path, embedder=embedder), gone, embedder, batch_size=4)
    assert report.tcots.failed == {"model_error": 16, "not_asked": 24}
    assert len(rows_of(tmp_path)) == 40
    assert "16 items in a row, the last time with: ConnectionError: odd" in capsys.readouterr().err
    back = Refusing()
    assert ingest(tmp_path, Index.open(tmp_path, embedder=embedder), back, embedder).tcots == TCoTCounts(made=40)
    assert back.asked == dict.fromkeys(texts, 1)


def test_length_is_asked_again_at_once_unless_it_would_come_out_the_same_and_content_with_retry(folder: Path):
    for reason, deterministic, asked in (("truncated", False, 1), ("truncated", True, 0), ("missing_answer", False, 0)):
        records = Records(folder.parent / f"{reason}-{deterministic}.jsonl")
        kept, reasoner, letter = RecordedTCoTs(records), FakeReasoner(), item("letter 0")
        reasoner.is_deterministic = deterministic  # ty: ignore[unresolved-attribute]
        key = next(iter(kept_key(letter, reasoner)))
        kept.keep({key: ParseFailure(reason=FailureReason(reason), text="…")})
        (first,) = reason_missing(reasoner, [letter], kept)
        assert reasoner.reasoned.total() == asked, reason
        assert isinstance(first, TCoT) == bool(asked)
        assert isinstance(reason_missing(reasoner, [letter], kept, retry=True)[0], TCoT)
        assert reasoner.reasoned.total() == 1, reason
        records.close()


def kept_key(letter: Item, reasoner: FakeReasoner) -> dict[str, None]:
    from embedrl.data.records import outcome_key

    return {outcome_key(letter, reasoner.fingerprint): None}


def test_index_retry_asks_again_where_the_answer_was_no_tcot(folder: Path):
    reasoner = FakeReasoner(fail_keys=set(keys_of(folder)[:1]))
    assert run_index(folder, reasoner).tcots.failed == {"missing_thinking": 1}
    reasoner.fail_keys = ()
    reasoner.reasoned.clear()
    assert run_index(folder, reasoner).unchanged == 4
    assert not reasoner.reasoned
    assert run_index(folder, reasoner, retry_failed=True).tcots == TCoTCounts(made=1)
    assert reasoner.reasoned.total() == 1


def keys_of(folder: Path) -> list[str]:
    from embedrl.index.units import read_item
    from embedrl.media.store import Limits

    return [read_item(path, "text", None, Limits()).key for path in sorted(folder.glob("*.txt"))]


def test_patience_counts_what_says_that_the_model_is_gone():
    patience = Patience(2)
    gone, odd = Refusal("transport", "no"), Refusal("refused", "413", about_item=True)
    tcot = TCoT(thinking="", rethink="", answer="a")
    patience.note([gone, tcot, gone, odd, odd, odd])
    assert not patience.is_over
    patience.note([gone, tcot])
    assert patience.is_over, "what comes later does not undo it"
    assert [str(answer) for answer in ask(FakeReasoner(), [item("a")], patience)] == [
        "not_asked: the Reasoner failed for 2 items before it in a row (transport: no)"
    ]


# ---- the command line, with a server


TCOT = render(TCoT(thinking="Words.", rethink="Few.", answer="a letter"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with chat_server() as running:
        running.otherwise = Answer(completion(TCOT))
        yield running


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def refuse(server: ScriptedServer, text: str, *answers: Answer) -> None:
    """Script the prompt that holds a text; it must have been asked before."""
    for asked in [asked for asked in server.tries if text in asked]:
        server.script(asked, *answers)
    server.tries.clear()


def test_the_commands_count_by_reason_and_exit_with_1(
    folder: Path, tmp_path: Path, server: ScriptedServer, capsys: pytest.CaptureFixture[str]
):
    words = ("index", folder, "--reasoner", f"{server.url}/v1#m", "--embedder", "fake")
    server.otherwise = Answer(b"too long", status=400)
    assert run(*words) == 1, "every T-CoT failed"
    assert "4 items have no T-CoT (refused): 400: too long; the next run asks again" in capsys.readouterr().err
    server.otherwise = Answer(completion(TCOT))
    refuse(server, "letter 3", Answer(b"too long", status=400))
    assert run(*words) == 1, "one item got no answer"
    assert server.tries.total() == 4
    assert "1 item has no T-CoT (refused)" in capsys.readouterr().err
    server.tries.clear()
    server.scripts.clear()
    assert run(*words) == 0
    assert server.tries.total() == 1
    assert run(*words) == 0
    assert server.tries.total() == 1

    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": {"text": f"q {n}"}, "target": {"text": f"t {n}"}}) + "\n" for n in range(2)))
    server.otherwise = Answer(completion("no T-CoT at all"))
    out = tmp_path / "annotated"
    assert run("annotate", "lines", pairs, "--out", out, "--task", "t", "--reasoner", f"{server.url}/v1#m") == 1
    assert "4 items have no T-CoT (missing_thinking)" in capsys.readouterr().err
    answer = ("evaluate", "world", "--num-queries", 1, "--pool-size", 2, "--embedder", "fake", "--reasoner", f"{server.url}/v1#m")
    assert run(*answer, "--out", tmp_path / "evaluated") == 1
    assert "(missing_thinking)" in capsys.readouterr().err
    report = json.loads((tmp_path / "evaluated" / "report.json").read_text())
    [counts] = report["tcots"].values()
    assert counts["made"] == 0
    assert set(counts["failed"]) == {"missing_thinking"}
