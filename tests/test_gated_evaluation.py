"""`evaluate --think never|auto|always`: the gate of a search decides which queries are reasoned about; a student beside its teacher."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from embedrl.cli.main import app
from embedrl.data import items
from embedrl.data.protocols import Refusal
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.evaluation.evaluate import FIGURES, SystemResult, TaskResult, evaluate
from embedrl.evaluation.report import gain_kept, make_report
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.gate import LinearGate
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.pipelines.benchmark import BenchmarkRun, evaluate_files
from embedrl.pipelines.evaluate_world import evaluate_systems, evaluate_world
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.official_files import official, pages

EMBEDDER = FakeEmbedder()
NOTES = ("a letter about an elephant", "a letter about a grocer", "nothing", "a star above a ring")
ASKED = ("elephant", "letter", "a ring", "a letter about an elephant")
MARGIN = LinearGate(embedder=EMBEDDER.fingerprint, weights=(*(0.0,) * 64, 0.0, -1.0), scores=(-0.4, -0.3, -0.2, -0.1), share=0.5)
"""Reasons where the first two hits are less than .25 apart."""


def task(local: tuple[tuple[str, ...], ...] | None = None) -> RetrievalTask:
    candidates = tuple(items.candidate((Text(text=note),)) for note in NOTES)
    queries = tuple(items.query((Text(text=text),)) for text in ASKED)
    relevant = tuple({candidates[number].key: 1.0} for number in (0, 1, 3, 0))
    return RetrievalTask("notes", "visdoc", queries, candidates, relevant, local)


def test_the_decisions_are_those_of_a_search(tmp_path: Path) -> None:
    for number, note in enumerate(NOTES):
        (tmp_path / f"{number}.txt").write_text(note)
    reasoner = FakeReasoner()
    index = Index.open(tmp_path, embedder=EMBEDDER)
    ingest(tmp_path, index, reasoner, EMBEDDER)
    searched = [search(index, Query(text), EMBEDDER, reasoner, gate=MARGIN) for text in ASKED]
    result = evaluate([task()], EMBEDDER, reasoner=reasoner, gate=MARGIN)
    [evaluated] = result.tasks
    assert [answer.gate == "reasoned" for answer in searched] == evaluated.figures["think/reasoned"].astype(bool).tolist()
    assert {answer.gate for answer in searched} == {"plain", "reasoned"}
    assert [answer.hits[0].excerpt for answer in searched] == [
        next(item.text for item in task().candidates if item.key == ranking.top[0][0]) for ranking in evaluated.rankings
    ]


def test_each_query_is_answered_as_without_or_as_always_with_reasoning() -> None:
    reasoner = FakeReasoner()
    never, always = evaluate([task()], EMBEDDER), evaluate([task()], EMBEDDER, reasoner=reasoner)
    asked = FakeReasoner()
    gated = evaluate([task()], EMBEDDER, name="auto", reasoner=asked, gate=MARGIN)
    wanted = gated.tasks[0].figures["think/reasoned"].astype(bool)
    for figure in ("hit@1", "positive_cosine", "margin"):
        mixed = np.where(wanted, always.tasks[0].figures[figure], never.tasks[0].figures[figure])
        assert gated.tasks[0].figures[figure].tolist() == mixed.tolist()
    queries = [query.key for query, wants in zip(task().queries, wanted, strict=True) if wants]
    assert asked.reasoned == dict.fromkeys([*queries, *(item.key for item in task().candidates)], 1), "no other query"
    assert not np.isnan(gated.tasks[0].figures["tcot_valid"][wanted]).any()
    assert np.isnan(gated.tasks[0].figures["tcot_valid"][~wanted]).all()
    for share, same in ((0.0, never), (1.0, always)):
        at = evaluate([task()], EMBEDDER, reasoner=reasoner, gate=MARGIN.at(share))
        assert at.tasks[0].rankings == same.tasks[0].rankings


def test_a_gate_sees_the_hits_of_the_local_pool() -> None:
    """The first two hits of all candidates are near each other for "letter"; those of its pool are not."""
    keys = [item.key for item in task().candidates]
    pools = (tuple(keys), (keys[1], keys[2]), tuple(keys), tuple(keys))
    whole, local = (evaluate([tested], EMBEDDER, reasoner=FakeReasoner(), gate=MARGIN).tasks[0] for tested in (task(), task(pools)))
    assert whole.figures["think/reasoned"][1] == 1
    assert local.figures["think/reasoned"][1] == 0


def test_a_gate_sees_as_many_hits_as_in_a_search(tmp_path: Path) -> None:
    class Witness:
        fingerprint, seen = "witness", list[Sequence[float]]()

        def wants(self, item: Item, vector: np.ndarray, scores: Sequence[float]) -> bool:
            self.seen.append(scores)
            return False

    notes = [f"a letter about {number} elephants" for number in range(30)]
    for number, note in enumerate(notes):
        (tmp_path / f"{number}.txt").write_text(note)
    index = Index.open(tmp_path, embedder=EMBEDDER)
    ingest(tmp_path, index, FakeReasoner(), EMBEDDER)
    gate = Witness()
    search(index, Query(items.query("elephants", looking_for="text").content), EMBEDDER, FakeReasoner(), gate=gate)
    candidates = tuple(items.candidate((Text(text=note),)) for note in notes)
    pairs = RetrievalTask("notes", "visdoc", (items.query("elephants", looking_for="text"),), candidates, ({candidates[0].key: 1.0},))
    evaluate([pairs], EMBEDDER, reasoner=FakeReasoner(), gate=gate)
    searched, evaluated = gate.seen
    assert len(searched) == 20
    assert len(evaluated) == 20
    assert evaluated == sorted(evaluated, reverse=True)


def test_the_report_says_what_the_gate_decided_and_what_share_of_the_tokens_that_is() -> None:
    class Longer(FakeReasoner):
        """Its T-CoT of the first query is no T-CoT, but was written all the same."""

        def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
            return [
                ParseFailure(reason="empty", text="word " * 7) if item.text == "letter" else tcot
                for item, tcot in zip(items, super().reason(items), strict=True)
            ]

    plain, auto, always, ceiling = evaluate_systems([task()], EMBEDDER, {"fake": Longer()}, gate=MARGIN)
    assert [system.name for system in (plain, auto, always, ceiling)] == ["plain", "fake, auto", "fake", "ceiling"]
    report = make_report([plain, auto, always], seed=0, seconds=0)
    assert list(report["think"]) == ["fake, auto"]
    decided = report["think"]["fake, auto"]
    figures = auto.tasks[0].figures
    assert (decided["gate"], decided["num_queries"]) == (MARGIN.fingerprint, 4)
    assert decided["num_reasoned"] == figures["think/reasoned"].sum() == 4 * decided["share_of_queries"]
    assert figures["think/tokens_always"][1] == 7
    assert figures["think/tokens"].tolist() == (figures["think/tokens_always"] * figures["think/reasoned"]).tolist()
    assert decided["share_of_tokens"] == pytest.approx(figures["think/tokens"].sum() / figures["think/tokens_always"].sum(), abs=1e-6)
    alone = make_report([evaluate([task()], EMBEDDER, reasoner=FakeReasoner(), gate=MARGIN)], seed=0, seconds=0)
    assert alone["think"]["plain"]["share_of_tokens"] is None, "what the others would have cost is not known"
    assert "think" not in make_report([plain, always], seed=0, seconds=0)


def test_queries_that_the_reasoner_refuses_are_counted_with_a_gate_as_without() -> None:
    class Refusing(FakeReasoner):
        """Refuses one query and one candidate."""

        def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
            if any(item.text in ("letter", "nothing") for item in items):
                raise Refusal("too_long", "the item is too long", about_item=True)
            return super().reason(items)

    _, auto, always, _ = evaluate_systems([task()], EMBEDDER, {"fake": Refusing()}, gate=MARGIN.at(1.0))
    assert always.tcot_counts.failed == {"too_long": 2}
    assert auto.tcot_counts == always.tcot_counts
    counted = make_report([auto, always], seed=0, seconds=0)["tcots"]
    assert counted["fake, auto"] == counted["fake"]
    [figures] = [result.figures for result in auto.tasks]
    assert np.isnan(figures["think/tokens_always"]).tolist() == [False, True, False, False], "what it would have cost is not known"


def test_each_item_is_embedded_once_plain_and_once_with_its_tcot_for_all_systems_with_a_gate() -> None:
    embedder = FakeEmbedder()
    systems = evaluate_systems([task()], embedder, {"fake": FakeReasoner()}, gate=MARGIN)
    assert embedder.embedded == dict.fromkeys(task().items, 2)
    apart = evaluate([task()], EMBEDDER, name="fake, auto", reasoner=FakeReasoner(), gate=MARGIN)
    assert systems[1].tasks[0].rankings == apart.tasks[0].rankings


def test_a_benchmark_run_belongs_to_its_gate(tmp_path: Path) -> None:
    pages(tmp_path)
    benchmark = official("pages", modality="visdoc")
    tasks = list(read_tasks(benchmark, tmp_path))

    def run(gate: LinearGate | None) -> dict[str, Any]:
        return evaluate_files(
            BenchmarkRun(benchmark="small"), benchmark, tasks, FakeReasoner(), FakeEmbedder(), tmp_path / "out", gate=gate
        )

    report = run(MARGIN)
    assert report["settings"]["gate"] == MARGIN.fingerprint
    assert report["think"]["tcot"]["num_queries"] == report["num_queries"]
    assert json.loads((tmp_path / "out/report.json").read_text())["think"] == report["think"]
    for other in (None, MARGIN.at(0.75)):
        with pytest.raises(ConfigError, match="gate="):
            run(other)


def test_the_dial_of_the_command(tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    gate.write_text(MARGIN.model_dump_json())
    world = [
        "evaluate",
        "world",
        "--reasoner",
        "fake",
        "--embedder",
        "fake",
        "--dataset",
        "image_cls",
        "--num-queries",
        "2",
        "--pool-size",
        "8",
    ]

    def systems(name: str, *options: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*world, "--out", str(tmp_path / name), *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads((tmp_path / name / "report.json").read_text())

    for name, options in {"default": (), "alone": ("--think",), "always": ("--think", "always")}.items():
        assert list(systems(name, *options)["systems"]) == ["plain", "fake", "ceiling"]
    for name, options in {"never": ("--think", "never"), "no": ("--no-think",)}.items():
        assert list(systems(name, *options)["systems"]) == ["plain", "ceiling"]
    gated = systems("auto", "--think", "auto", "--gate", str(gate), "--think-budget", "1")
    assert list(gated["systems"]) == ["plain", "fake, auto", "fake", "ceiling"]
    assert gated["think"]["fake, auto"]["share_of_tokens"] == 1
    assert gated["systems"]["fake, auto"]["overall"]["hit@1"] == gated["systems"]["fake"]["overall"]["hit@1"]
    half = systems("half", "--gate", str(gate), "--think-budget", "0")
    assert half["systems"]["fake, auto"]["overall"]["hit@1"] == half["systems"]["plain"]["overall"]["hit@1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["world", "--think", "auto"], "no gate for the Embedder 'fake'"),
        (["MMEB-V2", "--data", "mmeb", "--think-budget", "0.5"], "no gate for the Embedder 'fake'"),
        (["world", "--no-think", "--think-budget", "0.5"], "only with --think auto, not with --think never"),
        (["MMEB-V2", "--data", "mmeb", "--tcots", "tcots", "--think", "auto"], "--tcots replaces the Reasoner"),
        (["MMEB-V2", "--data", "mmeb", "--teacher", "fake"], "--teacher: only on the world"),
        (["world", "--teacher", "nowhere"], "embedder='nowhere': not a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["evaluate", *options, "--embedder", "fake"], catch_exceptions=False)


def test_a_student_stands_beside_its_teacher(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"num_queries": 4, "pool_size": 12, "tasks": ("image_t2i",)}
    report = evaluate_world(["fake"], "fake", tmp_path, teacher="fake", **sizes)
    teacher = report["teacher"]
    assert list(teacher["systems"]) == ["plain", "teacher, plain", "teacher, fake", "teacher, ceiling"]
    assert teacher["systems"]["teacher, fake"]["overall"]["hit@1"] == report["systems"]["fake"]["overall"]["hit@1"]
    assert teacher["differences"]["teacher, plain-plain"]["overall"]["hit@1"]["value"] == 0, "it is its own teacher here"
    assert teacher["gain_kept"]["ceiling"]["value"] == 0
    assert "teacher" not in evaluate_world([], "fake", tmp_path, **sizes)


def test_the_share_of_a_gain_by_hand() -> None:
    def system(name: str, hits: list[float]) -> SystemResult:
        columns = {figure: np.full(len(hits), np.nan) for figure in FIGURES} | {"hit@1": np.array(hits)}
        return SystemResult(name, (TaskResult("i", "image", 9, tuple(map(str, range(len(hits)))), (), columns),), {}, 0.0)

    plain, reasoned = system("plain", [0, 0, 0, 0, 1, 0, 0, 0]), system("reasoned", [1, 1, 1, 1, 1, 0, 0, 0])
    kept = gain_kept(system("student", [1, 1, 0, 0, 1, 0, 0, 0]), plain, reasoned)
    assert kept is not None
    assert kept.value == pytest.approx(0.5)
    assert 0 <= kept.low < 0.5 < kept.high <= 1, "paired: a query that only the student has counts in both"
    assert gain_kept(plain, plain, plain) is None
