"""Evaluation on official files: what is written, what is kept between runs, and what doctor says of the files."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from embedrl.cli.main import main
from embedrl.data.sample import Item, Role
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.evaluation.cache import Cache, CachedEmbedder, CachedReasoner
from embedrl.evaluation.evaluate import evaluate
from embedrl.media.content import Text
from embedrl.pipelines.benchmark import BenchmarkRun, evaluate_files
from embedrl.pipelines.inspect_files import inspect
from embedrl.reports.score_tables import report_tables
from embedrl.testing import COLOURS, FakeEmbedder, FakeReasoner
from tests.official_files import ROWS, image_row, images, lines, official, pages

NAME = "ViDoRe_esg_reports_human_labeled_v2"
BRIGHT = [name for name in COLOURS if name not in ("black", "white", "grey")]


def small_benchmark(data: Path) -> Path:
    """Write the smallest dataset of MMEB-V2: 52 questions, with grades, about 7 coloured pages."""
    media, rows = data / "visdoc-tasks" / NAME.removeprefix("ViDoRe_"), data / "vidore" / "esg_reports_human_labeled_v2"
    media.mkdir(parents=True)
    for page, name in enumerate(BRIGHT):
        PIL.Image.new("RGB", (32, 24), COLOURS[name]).save(media / f"{page}.png")
    lines(rows / "corpus" / "test.jsonl", [{"corpus-id": page} for page in range(len(BRIGHT))])
    queries = [{"query-id": 100 + row, "query": f"page {row} is {BRIGHT[row % 7]}"} for row in range(52)]
    lines(rows / "queries" / "test.jsonl", queries)
    right = [{"query-id": 100 + row, "corpus-id": row % 7, "score": 2} for row in range(52)]
    other = [{"query-id": 100 + row, "corpus-id": (row + 3) % 7, "score": 1} for row in range(0, 52, 2)]
    lines(rows / "qrels" / "test.jsonl", [*other, *right])
    return data


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def without_times(path: Path) -> str:
    report = json.loads(path.read_text())
    return json.dumps({key: value for key, value in report.items() if not key.startswith("seconds")})


def test_evaluate_writes_what_report_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, out = small_benchmark(tmp_path / "mmeb"), tmp_path / "run"
    words = ("evaluate", "mmeb-v2", "--data", data, "--dataset", NAME, "--reasoner", "fake", "--embedder", "fake")
    assert run(*words, "--out", out) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split("\t") == ["dataset", "metric", "%", "queries", "candidates"]
    assert said[1].split("\t")[3:] == ["52", "7"]
    scores = json.loads((out / "visdoc" / f"{NAME}_score.json").read_text())
    assert len(scores) == 26
    assert scores["num_pred"] == 52
    assert scores["num_data"] == 52
    assert 0.5 < scores["hit@1"] <= 1
    predictions = [json.loads(line) for line in (out / "visdoc" / f"{NAME}_pred.jsonl").read_text().splitlines()]
    assert predictions[0]["label"] == [3, 0]
    assert predictions[0]["rel_scores"] == [1.0, 2.0]
    assert len(predictions[0]["prediction"]) == 7
    (table,) = report_tables([out])
    assert table.systems[0].scores[NAME] == scores
    assert json.loads((out / "leaderboard.json").read_text())["metrics"]["visdoc"][NAME] == scores
    report = json.loads((out / "report.json").read_text())
    assert list(report["systems"]) == ["tcot"]
    assert report["settings"]["mmeb_compat"] is False
    assert (out / "report.html").is_file()
    assert run(*words, "--out", tmp_path / "compat", "--mmeb-compat", "--cache", out / "cache") == 0
    compat = json.loads((tmp_path / "compat" / "visdoc" / f"{NAME}_score.json").read_text())
    assert {name for name in scores if scores[name] != compat[name]} <= {name for name in scores if name.startswith("ndcg")}
    assert compat["ndcg_linear@5"] != scores["ndcg_linear@5"], "page 3 has grade 1 and stands first in the labels, page 0 first in a set"
    assert run(*words, "--out", tmp_path / "plain", "--no-think") == 0
    assert list(json.loads((tmp_path / "plain" / "report.json").read_text())["systems"]) == ["plain"]


def test_wrong_files_and_settings_are_said_before_a_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = small_benchmark(tmp_path / "mmeb")
    for words, message in (
        (("evaluate", "MMEB-V2", "--embedder", "nowhere"), "embedder='nowhere': not a folder"),
        (("evaluate", "MMEB-V2", "--embedder", "fake"), "--data: give the folder of MMEB-V2's files"),
        (("evaluate", "MMEB-V3", "--data", data), "benchmark 'MMEB-V3': choose from MMEB-V2, UVRB"),
        (("evaluate", "MMEB-V2", "--data", data, "--dataset", "GQB"), "dataset 'GQB': MMEB-V2 has"),
        (("evaluate", "MMEB-V2", "--data", data, "--dataset", "GQA", "--embedder", "fake"), "GQA: the folder"),
    ):
        assert run(*words, "--out", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_folder_goes_on_only_with_the_same_settings(tmp_path: Path):
    pages(tmp_path)
    benchmark = official("pages", modality="visdoc")
    tasks = list(read_tasks(benchmark, tmp_path))
    evaluate_files(BenchmarkRun(benchmark="small"), benchmark, tasks, FakeReasoner(), FakeEmbedder(), tmp_path / "out")
    with pytest.raises(ConfigError, match="embedder='fake-embedder' is now 'other'"):
        evaluate_files(BenchmarkRun(benchmark="small"), benchmark, tasks, FakeReasoner(), FakeEmbedder("other"), tmp_path / "out")


def test_what_was_made_once_is_read_and_nothing_stale_is_used(tmp_path: Path):
    pages(tmp_path)
    tasks = list(read_tasks(official("pages", modality="visdoc"), tmp_path))

    def measure(reasoner: FakeReasoner, embedder: FakeEmbedder) -> tuple[int, int, bytes]:
        before = reasoner.reasoned.total(), embedder.embedded.total()
        with Cache(tmp_path / "cache") as cache:
            result = evaluate(tasks, CachedEmbedder(embedder, cache.vectors), reasoner=CachedReasoner(reasoner, cache))
        cosines = result.tasks[0].figures["positive_cosine"].tobytes()
        return reasoner.reasoned.total() - before[0], embedder.embedded.total() - before[1], cosines

    first = measure(FakeReasoner(), FakeEmbedder())
    assert first[:2] == (5, 5)
    assert measure(FakeReasoner(), FakeEmbedder()) == (0, 0, first[2])
    other = measure(FakeReasoner(), FakeEmbedder("other-embedder", picture_weight=0.2))
    assert other[:2] == (0, 5)
    assert other[2] != first[2]
    failing = FakeReasoner("other-reasoner", fail_keys={item.key for item in tasks[0].queries})
    assert measure(failing, FakeEmbedder())[:2] == (5, 2), "T-CoTs that came out alike find the vectors that are there"
    assert measure(failing, FakeEmbedder())[:2] == (0, 0), "an output that is no T-CoT is kept too"


def test_a_vector_that_is_no_number_is_not_kept(tmp_path: Path):
    class Broken(FakeEmbedder):
        def embed(self, items, tcots):
            return np.full((len(items), self.dim), np.nan, np.float32)

    item = Item(content=(Text(text="a"),), role=Role.TARGET_TEXT)
    with Cache(tmp_path) as cache:
        assert np.isnan(CachedEmbedder(Broken(), cache.vectors).embed([item], [None])).all()
        assert np.isfinite(CachedEmbedder(FakeEmbedder(), cache.vectors).embed([item, item], [None, None])).all()


def test_names_of_models_tell_their_budgets_apart(random_embedder, random_reasoner):
    from embedrl.embedder.embedder import Embedder
    from embedrl.reasoner.local import LocalReasoner

    budget = random_embedder.budget.model_copy(update={"num_frames": 3})
    assert Embedder(random_embedder.model, random_embedder.processor, budget, "random").fingerprint != random_embedder.fingerprint
    settings = random_reasoner.settings
    for changed in ({"max_new_tokens": 13}, {"budget": budget}, {"prompts": "full"}):
        one = LocalReasoner(random_reasoner.model, random_reasoner.processor, settings.model_copy(update=changed), "random")
        assert one.fingerprint != random_reasoner.fingerprint


def test_doctor_says_what_is_wrong_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = small_benchmark(tmp_path / "mmeb")
    assert run("doctor", "MMEB-V2", data, "--dataset", NAME) == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t") == [NAME, "ok", "52", "52", "7"]
    media = data / "visdoc-tasks" / NAME.removeprefix("ViDoRe_")
    (media / "3.png").unlink()
    (media / "4.png").write_bytes((media / "4.png").read_bytes()[:50])
    assert run("doctor", "mmeb-v2", data, "--dataset", NAME, "--dataset", "MSVD") == 1
    said = capsys.readouterr()
    assert [line.split("\t")[1] for line in said.out.splitlines()[1:]] == ["WRONG", "WRONG"]
    assert "row 4: candidate '3' cannot be used" in said.err
    assert "MSVD: the folder" in said.err
    assert "4.png': the image is damaged or cut short" in said.err
    assert "0 of 2 datasets can be evaluated" in said.err
    assert run("doctor", "MMEB-V2") == 2


def test_doctor_gathers_every_problem_of_a_dataset(tmp_path: Path):
    images(tmp_path, image_row(), image_row(qry_img_path="gone.png"), image_row(tgt_text=[], tgt_img_path=[]))
    (found,) = inspect(official("image_text", 3, "image"), tmp_path)
    assert [problem.row for problem in found.problems] == [2, 3, None]
    assert (found.num_queries, found.expected) == (1, 3)
    (tmp_path / ROWS / "test-00000-of-00001.parquet").unlink()
    (found,) = inspect(official("image_text", 3, "image"), tmp_path)
    assert "no file of the split" in found.problems[0].what
