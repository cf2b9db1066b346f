"""Published T-CoT files in the place of a Reasoner: each goes to the item it was made for, and what is unclear is listed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.published_tcots import Coverage, DatasetTCoTs, import_tcots
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.evaluation.benchmarks.source import Official
from embedrl.evaluation.tables import Benchmark, Dataset
from embedrl.evaluation.task import RetrievalTask
from embedrl.pipelines.benchmark import BenchmarkRun, evaluate_files
from embedrl.testing import FakeEmbedder
from tests.official_files import ROWS, frames, image_row, images, lines, official, pages
from tests.source_files import frame_folder, write_json
from tests.test_benchmarking import BRIGHT, NAME, run, small_benchmark


def tcot(answer: str) -> str:
    return f"<thinking> It is there. </thinking><rethink> Yes. </rethink><answer> {answer} </answer>"


def clips(data: Path, *names: str) -> None:
    """Write folders of frames that differ."""
    for number, name in enumerate(names):
        frame_folder(data / "media" / name, 3 + number)


def match(benchmark: Official, data: Path) -> tuple[RetrievalTask, DatasetTCoTs]:
    tasks = list(read_tasks(benchmark, data))
    return tasks[0], import_tcots(benchmark, tasks, data, data / "tcots").datasets["set"]


def answers(found: DatasetTCoTs, items: Any) -> list[str]:
    return [outcome.answer if isinstance(outcome, TCoT) else f"({outcome.reason})" for outcome in found.reason(items)]


def test_two_questions_on_one_picture_keep_their_own(tmp_path: Path):
    rows = [image_row(qry_text=text) for text in ("what colour?", "how many?", "why?", "who?")] + [image_row(qry_img_path="b.png")]
    images(tmp_path, *rows)
    written = [tcot("red"), tcot("two"), "<thinking> Because", "", tcot("b")]
    stored = [{**row, "query_cot": text, "error": ""} for row, text in zip(rows, written, strict=True)]
    stored[3]["error"] = "timeout"
    other = {**image_row(qry_text="what colour is that?"), "query_cot": tcot("foreign")}
    write_json(tmp_path / "tcots/Image/set.json", [*reversed(stored), other, "no row"])
    corpus = {"text": {"cat": tcot("a cat"), "catalogue": tcot("a book")}, "image": {}}
    (tmp_path / "tcots/Image/set_corpus_cot.json").write_text(json.dumps(corpus))
    task, found = match(official("image_text", 5, "image"), tmp_path)
    assert answers(found, task.queries) == ["red", "two", "(truncated)", "(empty)", "b"]
    assert answers(found, task.candidates) == ["a cat", "(empty)"], "a part of a name is no name"
    queries, candidates = found.coverage["queries"], found.coverage["candidates"]
    assert (queries.num_items, queries.num_found, len(queries.ambiguous)) == (5, 3, 4)
    assert queries.missing == []
    assert "media/a.png 'what colour?'" in queries.ambiguous[0]
    assert "Image/set.json, row 6 could be taken for it" in queries.ambiguous[0]
    assert [line.split(": ", 1)[1] for line in queries.malformed[1:]] == [
        "truncated (Image/set.json, row 3)",
        "timeout (Image/set.json, row 2)",
    ]
    assert "row 7: it is no JSON object" in queries.malformed[0]
    assert queries.strangers == ["Image/set.json, row 6"]
    assert candidates == Coverage(2, 1, missing=["'dog'"], strangers=["Image/set_corpus_cot.json, text 'catalogue'"])


def test_captions_that_share_a_picture_are_left_undecided(tmp_path: Path):
    row = image_row(tgt_text=["a red cat", "a dog", ""], tgt_img_path=["b.png", "b.png", "a.png"])
    images(tmp_path, row)
    write_json(tmp_path / "tcots/Image/set.json", [])
    corpus = {"image": {"b.png": tcot("something"), "a.png": tcot("a"), "old/b.png": tcot("old")}}
    (tmp_path / "tcots/Image/set_corpus_cot.json").write_text(json.dumps(corpus))
    task, found = match(official("image_both", 1, "image"), tmp_path)
    assert answers(found, task.candidates) == ["(empty)", "(empty)", "a"]
    coverage = found.coverage["candidates"]
    assert len(coverage.undecided) == 2
    assert "image 'b.png' is one for 2" in coverage.undecided[0]
    assert coverage.missing == []
    assert found.coverage["queries"].missing == ["media/a.png"]


def test_questions_about_one_video_keep_their_own(tmp_path: Path):
    clips(tmp_path, "7", "17")
    options = {"answer": 1, "a0": "red", "a1": "blue", "a2": "c", "a3": "d", "a4": "e"}
    rows = [{"video": video, "question": text, **options} for video, text in ((7, "first?"), (7, "last?"), (17, "first?"))]
    lines(tmp_path / ROWS / "test.jsonl", rows)
    stored = [{**row, "query_cot": tcot(str(number)), "error": ""} for number, row in enumerate(rows)]
    write_json(tmp_path / "tcots/Video/set_query_cot.json", [*stored, {**stored[0], "query_cot": tcot("again")}])
    corpus = [{"corpus_id": "corpus_0", "corpus_content": "blue", "corpus_cot": tcot("blue"), "error": ""}, {"corpus_cot": "?"}]
    write_json(tmp_path / "tcots/Video/set_corpus_cot.json", corpus)
    task, found = match(official("nextqa", 3), tmp_path)
    assert answers(found, task.queries) == ["0", "1", "2"]
    ambiguous = found.coverage["queries"].ambiguous
    assert len(ambiguous) == 2
    assert "2 T-CoTs are its own" in ambiguous[0]
    assert "row 4 could be taken for it; it has" in ambiguous[1]
    assert answers(found, task.candidates[:2]) == ["(empty)", "blue"]
    assert found.coverage["candidates"].malformed == ["Video/set_corpus_cot.json, row 2: it has no corpus_content"]


def test_rows_of_mvbench_that_name_no_part_are_found_by_their_video(tmp_path: Path):
    clips(tmp_path, "part/v.mp4", "other/w.mp4")
    row = {"question": "Which one?", "candidates": ["red", "blue"], "answer": "blue"}
    for part, video in (("part", "v.mp4"), ("other", "w.mp4")):
        lines(tmp_path / ROWS / part / "test.jsonl", [{**row, "video": video}])
    stored = [{**row, "video": "w.mp4", "query_cot": tcot("w")}, {**row, "video": "v.mp4", "subset": "part", "query_cot": tcot("v")}]
    write_json(tmp_path / "tcots/Video/set_query_cot.json", stored)
    corpus = [{"corpus_content": "red", "corpus_cot": tcot("red")}]
    write_json(tmp_path / "tcots/Video/set_corpus_cot.json", corpus)
    task, found = match(official("mvbench", config="part other"), tmp_path)
    assert answers(found, task.queries) == ["v", "w"]
    assert answers(found, task.candidates) == ["red", "(empty)"]


def test_clips_are_found_by_the_end_of_their_path(tmp_path: Path):
    frames(tmp_path, *(f"{video}/{clip}" for video in ("x", "y") for clip in ("query", "positive", "negative_0")))
    rows = [{"query": "it leaves", "video_path": f"videos/{video}.mp4"} for video in ("x", "y")]
    lines(tmp_path / ROWS / "test.jsonl", rows)
    write_json(tmp_path / "tcots/Video/set_query_cot.json", [{**row, "query_cot": tcot(row["video_path"])} for row in rows])
    clips = [f"/elsewhere/frames/{video}/{clip}" for video in ("x", "y") for clip in ("positive", "negative_0")] + ["positive"]
    write_json(tmp_path / "tcots/Video/set_corpus_cot.json", [{"corpus_content": clip, "corpus_cot": tcot(clip[-12:])} for clip in clips])
    task, found = match(official("moments"), tmp_path)
    # The frames of the two videos are the same, so the queries are one item, and so are all clips.
    assert len({item.key for item in task.candidates}) == 1
    assert found.coverage["candidates"].num_found == 1
    assert "4 T-CoTs are its own" in found.coverage["candidates"].ambiguous[0]
    assert found.coverage["candidates"].strangers == ["Video/set_corpus_cot.json, row 5"]
    assert answers(found, task.queries) == ["videos/x.mp4"] * 2


def test_pages_are_found_by_their_id_and_queries_by_their_words(tmp_path: Path):
    pages(tmp_path)
    queries = [{"query-id": 5, "query": "who signed?", "query_cot": tcot("who")}, {"query-id": 1, "query": "ui", "query_cot": tcot("part")}]
    write_json(tmp_path / "tcots/VisDo/set_query.json", queries)
    corpus = [{"corpus-id": 17, "image_path": "x/17.png", "corpus_cot": tcot("17")}, {"corpus-id": "18", "corpus_cot": tcot("18")}]
    write_json(tmp_path / "tcots/VisDo/set_corpus.json", [*corpus, {"corpus-id": 1, "corpus_cot": tcot("1")}])
    task, found = match(official("pages", modality="visdoc"), tmp_path)
    assert answers(found, task.queries) == ["who", "(empty)"]
    assert answers(found, task.candidates) == ["17", "18", "(empty)"]
    coverage = found.coverage["queries"]
    assert coverage.missing == ["'qui?'"]
    assert "'qui?': VisDo/set_query.json, row 2 could be taken for it" in coverage.ambiguous[0]


def test_an_evaluation_takes_them_in_the_place_of_a_reasoner(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data, folder, out = small_benchmark(tmp_path / "mmeb"), tmp_path / "mine", tmp_path / "out"
    queries = [{"query-id": row, "query": f"page {row} is {BRIGHT[row % 7]}", "query_cot": tcot(f"page {row}")} for row in range(51)]
    write_json(folder / "VisDo" / f"{NAME}_query.json", queries)
    corpus = [{"corpus-id": page, "corpus_cot": tcot(name)} for page, name in enumerate(BRIGHT)]
    write_json(folder / "VisDo" / f"{NAME}_corpus.json", corpus)
    words = ("evaluate", "MMEB-V2", "--data", data, "--dataset", NAME, "--tcots", folder, "--out", out)
    assert run(*words, "--embedder", "nowhere") == 2, "names are looked up before anything is read"
    assert not out.exists()
    capsys.readouterr()
    assert run(*words, "--embedder", "fake") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split("\t") == [NAME, "51 of 52", "7 of 7", "1", "0", "0", "0", "0"]
    assert f"{NAME}, queries: 'page 51 is {BRIGHT[2]}': no T-CoT" in said.err
    report = json.loads((out / "report.json").read_text())
    name = report["settings"]["reasoner"]
    assert name.startswith("T-CoTs of mine, ")
    assert list(report["systems"]) == ["tcot"]
    kept = json.loads((out / "tcots.json").read_text())
    assert kept["name"] == name
    assert kept["datasets"][NAME]["queries"]["missing"] == [f"'page 51 is {BRIGHT[2]}'"]
    assert report["systems"]["tcot"]["overall"]["tcot_valid"]["value"] == pytest.approx(1 - 0.5 / 52, abs=1e-4)
    num_tcots = len((out / "cache" / "tcots.jsonl").read_text().splitlines())
    assert run(*words, "--embedder", "fake") == 0
    assert num_tcots == 59
    assert len((out / "cache" / "tcots.jsonl").read_text().splitlines()) == 59
    write_json(folder / "VisDo" / f"{NAME}_corpus.json", [{**corpus[0], "corpus_cot": tcot("else")}, *corpus[1:]])
    assert run(*words, "--embedder", "fake") == 2
    assert "holds a run with other settings (reasoner=" in capsys.readouterr().err
    assert run(*words[:-1], tmp_path / "other", "--embedder", "fake", "--cache", out / "cache") == 0
    assert len((out / "cache" / "tcots.jsonl").read_text().splitlines()) == 2 * num_tcots, "a changed T-CoT is another key"


def test_wrong_folders_and_settings_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pages(tmp_path)
    benchmark = official("pages", modality="visdoc")
    tasks = list(read_tasks(benchmark, tmp_path))

    def refuses(message: str, folder: Path, **settings: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            import_tcots(benchmark, tasks, tmp_path, folder, **settings)

    refuses("there is no such folder; give the one that holds Image", tmp_path / "none")
    refuses(r"set: no T-CoT for it in '.*set_query\.json' nor in '.*set_corpus\.json'", tmp_path)
    refuses("num_frames=4: published T-CoTs count their key frames in 8", tmp_path, num_frames=4)
    (tmp_path / "tcots" / "Image").mkdir(parents=True)
    (tmp_path / "tcots" / "Image" / "set_corpus_cot.json").write_text("[]")
    images(tmp_path, image_row())
    with pytest.raises(ConfigError, match="is no JSON object: download it again"):
        match(official("image_text", 1, "image"), tmp_path)
    assert run("evaluate", "MMEB-V2", "--data", tmp_path, "--tcots", tmp_path, "--no-think") == 2
    assert "leave out --reasoner and --no-think" in capsys.readouterr().err


def test_a_dataset_keeps_its_tcots_whatever_is_evaluated_beside_it(tmp_path: Path):
    """Both datasets offer the text "cat", and each has written a T-CoT of its own for it."""
    images(tmp_path, image_row())
    [source] = official("image_text", 1, "image").sources
    rows = tuple(Dataset(name, "image", (), "hit@1", 1) for name in ("set", "other"))
    both = Official(Benchmark("small", rows, {"all": ("set", "other")}), (source, replace(source, name="other")), "nowhere")
    for name in ("set", "other"):
        write_json(tmp_path / f"tcots/Image/{name}.json", [{**image_row(), "query_cot": tcot("a blue picture"), "error": ""}])
        corpus = {"text": {"cat": tcot(f"a cat of {name}"), "dog": tcot("a dog")}}
        (tmp_path / f"tcots/Image/{name}_corpus_cot.json").write_text(json.dumps(corpus))

    def cosine(*names: str) -> float:
        tasks = list(read_tasks(both, tmp_path, names))
        imported = import_tcots(both, tasks, tmp_path, tmp_path / "tcots")
        out = tmp_path / "-".join(names)
        report = evaluate_files(BenchmarkRun(benchmark="small"), both, tasks, imported, FakeEmbedder(), out, tmp_path / "cache")
        assert report["settings"]["reasoner"] == imported.fingerprint
        return report["systems"]["tcot"]["tasks"]["other"]["positive_cosine"]["value"]

    assert cosine("set", "other") == cosine("other")
    assert cosine("other", "set") == cosine("other")
