"""The readers of the official files, on invented files of every layout."""

import re
from pathlib import Path
from typing import Any

import pytest

from embedrl.data.sample import Role
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.mmeb_v2 import MMEB_V2, MMEB_V2_FILES
from embedrl.evaluation.benchmarks.pages import image_name
from embedrl.evaluation.benchmarks.reading import choose, read_pool, read_tasks, with_instructions
from embedrl.evaluation.benchmarks.rows import row_files, rows_folder
from embedrl.evaluation.benchmarks.source import Official
from embedrl.evaluation.benchmarks.uvrb import UVRB, UVRB_FILES
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import Image, Video
from tests.official_files import ROWS, frames, image_row, images, lines, official, pages, uvrb
from tests.source_files import encoded, picture, write_parquet


def read(benchmark: Official, data: Path) -> RetrievalTask:
    (task,) = read_tasks(benchmark, data)
    return task


def labels(task: RetrievalTask) -> list[dict[Any, float]]:
    return [{task.names[key]: grade for key, grade in row.items()} for row in task.relevant]


def pools(task: RetrievalTask) -> list[list[str | int]]:
    assert task.local is not None
    return [[task.names[key] for key in row] for row in task.local]


def shown(task: RetrievalTask, query: int = 0) -> list[str]:
    """Name the frames of a query's video."""
    visual = task.queries[query].visual
    assert isinstance(visual, Video)
    assert visual.frame_files is not None
    return [f"{path.parent.name}/{path.stem}" for path in visual.frame_files.paths]


def refuses(benchmark: Official, data: Path, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(benchmark, data)


def test_every_dataset_of_both_benchmarks_has_its_files():
    for files, benchmark in ((MMEB_V2_FILES, MMEB_V2), (UVRB_FILES, UVRB)):
        assert {source.name for source in choose(files)} == {row.name for row in benchmark.datasets}
        for source in files.sources:
            row = benchmark.find(source.name)
            assert source.modality == (row.modality if row else benchmark.unscored[source.name])
    assert {source.name for source in MMEB_V2_FILES.sources} - {row.name for row in MMEB_V2.datasets} == {
        name for name in MMEB_V2.unscored if name.startswith("ViDoRe")
    }
    assert [source.name for source in choose(MMEB_V2_FILES, ["ViDoSeek-page-fixed", "GQA"])] == ["ViDoSeek-page", "GQA"]
    with pytest.raises(ConfigError, match="dataset 'GQB': MMEB-V2 has ImageNet-1K, "):
        choose(MMEB_V2_FILES, ["GQB"])


def test_image_rows_with_texts_to_choose_from(tmp_path: Path):
    images(tmp_path, image_row(), image_row(qry_img_path="b.png", tgt_text=["dog", "cat", "owl"], tgt_img_path=["", "", ""]))
    task = read(official("image_text", modality="image"), tmp_path)
    assert labels(task) == [{"cat": 1.0}, {"dog": 1.0}]
    assert pools(task) == [["cat", "dog"], ["dog", "cat", "owl"]]
    assert [item.text for item in task.candidates] == ["cat", "dog", "owl"]
    assert task.queries[0].instruction == "Name it."
    assert task.queries[0].role == Role.QUERY_IMAGE
    assert task.candidates[0].role == Role.TARGET_TEXT


def test_image_rows_with_pictures_to_choose_from(tmp_path: Path):
    row = image_row(qry_img_path="", qry_text="a cat", tgt_inst="<|image_1|>\nLook.", tgt_text=["", ""], tgt_img_path=["b.png", "a.png"])
    images(tmp_path, row, row)
    task = read(official("image_path", modality="image"), tmp_path)
    assert labels(task) == [{"b.png": 1.0}] * 2
    assert task.queries[0].role == Role.QUERY_TEXT_TO_IMAGE
    assert task.candidates[0].instruction == "Look."
    assert isinstance(task.candidates[0].visual, Image)
    captioned = image_row(tgt_text=['the "left" cat', "a dog"], tgt_img_path=["b.png", "b.png"])
    images(tmp_path, captioned, captioned)
    assert [len(read(official(name, modality="image"), tmp_path).candidates) for name in ("image_path", "image_both")] == [1, 2]


def test_equal_pictures_under_two_names_stay_two_candidates(tmp_path: Path):
    images(tmp_path, *[image_row(tgt_text=["", ""], tgt_img_path=["c.png", "b.png"], qry_text="x", qry_img_path="")] * 2)
    picture(tmp_path / "media" / "c.png", 90)
    task = read(official("image_path", modality="image"), tmp_path)
    one, other = task.candidates
    assert one.key == other.key
    assert task.candidate_ids == (one.key, f"{one.key}#2")
    assert list(task.names.values()) == ["c.png", "b.png"]


def test_rows_may_come_in_pieces_and_one_that_is_missing_is_named(tmp_path: Path):
    images(tmp_path, image_row())
    for number in range(2):
        write_parquet(tmp_path / ROWS / f"test-{number:05}-of-00002.parquet", [image_row()])
    (tmp_path / ROWS / "test-00000-of-00001.parquet").unlink()
    assert len(read(official("image_text", modality="image"), tmp_path).queries) == 2
    (tmp_path / ROWS / "test-00001-of-00002.parquet").unlink()
    refuses(official("image_text", modality="image"), tmp_path, r"set: 1 of 00002 pieces in .*; download the others")


def test_videos_and_their_labels(tmp_path: Path):
    frames(tmp_path, "v1", "v2")
    lines(tmp_path / ROWS / "test.jsonl", [{"video_id": "v1", "pos_text": "run"}, {"video_id": "v2.mp4", "pos_text": "swim"}])
    benchmark = official("video_label", num_labels=3)
    refuses(benchmark, tmp_path, r"set: its rows are of 2 of 3 classes; write the names of all into '.*labels\.txt', one a line")
    (tmp_path / ROWS / "labels.txt").write_text("fly\nrun\nswim\n")
    task = read(benchmark, tmp_path)
    assert labels(task) == [{"run": 1.0}, {"swim": 1.0}]
    assert len(task.candidates) == 3
    assert task.local is None
    assert shown(task, 1) == ["v2/c01_1", "v2/c01_2", "v2/c01_3"]
    assert task.queries[0].instruction == "Find it."


def test_videos_and_texts_to_choose_from(tmp_path: Path):
    frames(tmp_path, "v1")
    row = {"video_id": "v1", "pos_text": "lift a cup", "neg_text": ["drop a cup", "lift a cup"]}
    lines(tmp_path / ROWS / "test.jsonl", [row] * 3)
    task = read(official("video_texts", max_rows=2), tmp_path)
    assert labels(task) == [{"lift a cup": 1.0}] * 2
    assert pools(task)[0] == row["neg_text"]
    lines(tmp_path / ROWS / "test.jsonl", [row, {**row, "neg_text": ["drop a cup"]}])
    refuses(official("video_texts"), tmp_path, "set, row 2: the right candidate 'lift a cup' is not in its list")


QUESTIONS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "mvbench": ({"video": "v.mp4", "candidates": ["red", "blue"], "answer": "blue"}, "(B) blue", "(B) blue", "part/v.mp4"),
    "videomme": ({"videoID": "v", "options": ["A. red", "B. blue"], "answer": "B"}, "B. blue", "blue", "v"),
    "nextqa": ({"video": 7, "answer": 1, "a0": "red", "a1": "blue", "a2": "c", "a3": "d", "a4": "e"}, "blue", "blue", "7"),
    "egoschema": ({"video_idx": "v", "option": ["A. red", "B. blue"], "answer": "1"}, "B. blue", "blue", "v"),
    "activitynetqa": ({"video_name": "v", "answer": "no"}, "no", "no", "v_v"),
}


@pytest.mark.parametrize("layout", QUESTIONS)
def test_questions_about_videos(tmp_path: Path, layout: Any):
    row, name, text, folder = QUESTIONS[layout]
    frames(tmp_path, folder)
    home = tmp_path / ROWS / ("part" if layout == "mvbench" else "")
    path = lines(home / "test.jsonl", [{"question": "Which one?", **row}] * 2)
    benchmark = official(layout, config="part" if layout == "mvbench" else "")
    task = read(benchmark, tmp_path)
    assert labels(task) == [{name: 1.0}] * 2
    assert name in pools(task)[0]
    assert next(item.text for item, key in zip(task.candidates, task.candidate_ids, strict=True) if task.names[key] == name) == text
    assert task.queries[0].text.startswith("Which one?\n")
    assert shown(task)[0] == f"{Path(folder).name}/c01_1"
    lines(path, [{"question": "Which one?", **row, "answer": "9"}] * 2)
    refuses(benchmark, tmp_path, "set, row 1: its answer '9' does not name an option")


@pytest.mark.parametrize("caption", ["it runs", ["it runs", "it goes"]])
def test_captions_that_look_for_a_video(tmp_path: Path, caption: Any):
    frames(tmp_path, "v1", "v2")
    lines(tmp_path / ROWS / "test.jsonl", [{"video": f"clips/{name}.mp4", "caption": caption} for name in ("v1", "v2")])
    task = read(official("text_video", columns=("video", "caption")), tmp_path)
    assert labels(task) == [{"v1": 1.0}, {"v2": 1.0}]
    assert task.queries[0].text == "it runs"
    assert task.queries[0].role == Role.QUERY_TEXT_TO_VIDEO
    assert len(task.candidates) == 2


def test_moments_of_a_video(tmp_path: Path):
    frames(tmp_path, "v1/query", "v1/positive_0", "v1/negative_clip_0", "v1/negative_clip_1")
    lines(tmp_path / ROWS / "test.jsonl", [{"query": "she laughs", "video_path": "long/v1.mp4"}] * 2)
    task = read(official("moments"), tmp_path)
    assert labels(task) == [{"v1/positive_0": 1.0}] * 2
    assert len(pools(task)[0]) == 3
    assert task.queries[0].role == Role.QUERY_VIDEO
    assert shown(task)[0] == "query/c01_1"
    lines(tmp_path / ROWS / "test.jsonl", [{"query": "she laughs", "video_path": "long/v2.mp4"}] * 2)
    refuses(official("moments"), tmp_path, "set, row 1: .*v2.* lacks `query` or `positive…`; unpack the frames again")


def test_moments_with_pictures_and_clips_as_queries(tmp_path: Path):
    frames(tmp_path, "video_frames/a_0", "video_frames/a_1", "video_frames/q_7")
    picture(tmp_path / "media" / "query_p.jpg")
    clips = {"positive_frames": [{"output_path": "a/0.mp4"}], "negative_frames": [{"output_path": "a/1.mp4"}]}
    lines(tmp_path / ROWS / "test.jsonl", [{"query": "x", "input_frames": name, **clips} for name in ("", "p.jpg", "q/7.mp4")])
    task = read(official("momentseeker", 3), tmp_path)
    assert [item.role for item in task.queries] == [Role.QUERY_TEXT_TO_VIDEO, Role.QUERY_IMAGE, Role.QUERY_VIDEO]
    assert labels(task)[0] == {"video_frames/a_0": 1.0}
    assert len(task.candidates) == 2


def test_pages_with_grades(tmp_path: Path):
    pages(tmp_path)
    task = read(official("pages", modality="visdoc"), tmp_path)
    assert labels(task) == [{18: 3.0, 17: 2.0}, {19: 1.0}]
    assert list(task.names.values()) == [17, 18, 19]
    english = read(official("pages", 1, "visdoc", language="english"), tmp_path)
    assert [item.text for item in english.queries] == ["who signed?"]


def test_a_page_without_a_file_is_taken_from_its_row(tmp_path: Path):
    pages(tmp_path)
    (tmp_path / "media" / "18.png").unlink()
    refuses(official("pages", modality="visdoc"), tmp_path, r"set, row 2: candidate '18' cannot be used: .*18\.png")
    (tmp_path / ROWS / "corpus" / "test.jsonl").unlink()
    rows = [{"corpus-id": page, "image": {"bytes": encoded(level), "path": None}} for level, page in enumerate((17, 18, 19))]
    write_parquet(tmp_path / ROWS / "corpus" / "test-00000-of-00001.parquet", rows)
    assert len(read(official("pages", modality="visdoc"), tmp_path).candidates) == 3
    assert (tmp_path / "media" / "18.png").read_bytes() == encoded(1)


def test_names_of_pages():
    assert image_name(17) == "17.png"
    assert image_name("17") == "17.png"
    for odd in ("../x", "/tmp/x", "a/b", ".", "", "x" * 300):
        assert Path(image_name(odd)).name == image_name(odd), "it stays in its folder"
        assert re.fullmatch(r"[^/]{0,100}_[0-9a-f]{8}\.png", image_name(odd)), odd
    assert image_name("..") == "...png"
    name = image_name(f"{'long' * 20}.jpeg")
    assert name.startswith("long" * 12 + "lo_")
    assert name.endswith(".jpeg")
    assert len(name) == 50 + 1 + 8 + 5


def test_uvrb(tmp_path: Path):
    uvrb(tmp_path)
    task = read(official("uvrb", num_candidates=2), tmp_path)
    assert labels(task) == [{"d1": 1.0}, {"d1": 1.0, "d2": 1.0}]
    assert isinstance(task.queries[1].visual, Image), "a picture counts before a video"
    refuses(official("uvrb", num_candidates=3), tmp_path, "set: 2 candidates, where the benchmark has 3; complete its files")


WRONG: dict[str, tuple[dict[str, list[dict[str, Any]]], str]] = {
    "a query twice": (
        {"queries": [{"query-id": 0, "query": "a"}] * 2},
        "set, row 2: queries: the id 0 stands in row 1 too; download it again",
    ),
    "a page twice": ({"corpus": [{"corpus-id": 17}] * 2}, "set, row 2: corpus: the id 17 stands in row 1 too; download it"),
    "an unknown page": ({"qrels": [{"query-id": 0, "corpus-id": 5, "score": 1}]}, "set, row 1: qrels: there is no page 5; download"),
    "too few queries": ({"queries": [{"query-id": 0, "query": "a"}]}, "set: 1 queries, where the benchmark has 2; download its rows"),
    "a row without a field": ({"queries": [{"query-id": 0}]}, "set, row 1: .*the row has no query, only query-id; download it again"),
    "no text": ({"queries": [{"query-id": 0, "query": " "}]}, "set, row 1: its query cannot be used"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_pages_name_the_task_the_row_and_the_fix(tmp_path: Path, what: str):
    changes, message = WRONG[what]
    pages(tmp_path, **changes)
    refuses(official("pages", modality="visdoc"), tmp_path, message)


def test_wrong_files_name_the_task_the_row_and_the_fix(tmp_path: Path):
    benchmark = official("image_text", modality="image")
    refuses(benchmark, tmp_path / "nowhere", "there is no such folder; give the one")
    refuses(benchmark, tmp_path, "set: the folder '.*media' is missing; unpack its images or frames there")
    images(tmp_path, image_row(), image_row(tgt_text=[], tgt_img_path=[]))
    refuses(benchmark, tmp_path, "set, row 2: its list of candidates is empty; download the rows again")
    images(tmp_path, image_row(), image_row(qry_img_path="z.png"))
    refuses(benchmark, tmp_path, r"set, row 2: its query cannot be used: .*z\.png.*; unpack or download its files again")
    images(tmp_path, image_row(tgt_img_path=[""]))
    refuses(benchmark, tmp_path, "set, row 1: 2 texts of candidates with 1 images")
    (tmp_path / ROWS / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    refuses(benchmark, tmp_path, "set: .*is not a Parquet file")
    (tmp_path / ROWS / "test-00000-of-00001.parquet").unlink()
    refuses(benchmark, tmp_path, "set: no file of the split 'test' in .*; download the dataset rows/set there")
    lines(tmp_path / ROWS / "test.jsonl", [image_row()])
    with (tmp_path / ROWS / "test.jsonl").open("a") as file:
        file.write('{"tgt_text": ["a"')
    refuses(benchmark, tmp_path, "set, row 2: .*not JSON")


def test_wrong_uvrb_files(tmp_path: Path):
    refuses(official("uvrb"), tmp_path, r"set: no folder of it with jsonl/queries\.jsonl")
    uvrb(tmp_path, queries=[{"id": "q1", "text": "a"}, {"id": "q1", "text": "b"}])
    refuses(official("uvrb"), tmp_path, "set, row 2: queries: the id 'q1' stands in row 1 too")
    uvrb(tmp_path, instances=[{"qid": "q1", "pos": ["d9"]}, {"qid": "q2", "pos": ["d1"]}])
    refuses(official("uvrb"), tmp_path, "set: query 1: its label 'd9' is no candidate")
    uvrb(tmp_path, instances=[{"qid": "q1", "pos": ["d1"]}])
    uvrb(tmp_path, corpus=[{"id": "d1", "video": "one.mp4"}, {"id": "d2", "video": "gone.mp4"}])
    refuses(official("uvrb"), tmp_path, "set, row 2: candidate 'd2' cannot be used: .*gone.*frames cannot be listed")


def test_an_inspection_gathers_everything(tmp_path: Path):
    images(tmp_path, image_row(qry_img_path="y.png"), image_row(), image_row(tgt_text=[], tgt_img_path=[]))
    benchmark = official("image_text", 3, "image")
    pool = read_pool(benchmark.sources[0], tmp_path, inspection := Inspection(gather=True))
    pool.check(3)
    assert [(problem.dataset, problem.row) for problem in inspection.problems] == [("set", 1), ("set", 3), ("set", None)]


CARD = """---
license: cc
configs:
- config_name: default
  data_files: [{split: train, path: "raw/*.json"}, {split: test, path: [one.json, "more/*.json"]}]
- config_name: part
  data_dir: data
  data_files: part.json
---
# A dataset
"""


def test_the_card_names_the_files(tmp_path: Path):
    for name in ("one.json", "more/b.json", "more/a.json", "data/part.json", "test.json"):
        lines(tmp_path / name, [{}])
    (tmp_path / "README.md").write_text(CARD)
    assert row_files(tmp_path, "", "test") == [tmp_path / "more/a.json", tmp_path / "more/b.json", tmp_path / "one.json"]
    assert row_files(tmp_path, "part", "train") == [tmp_path / "data/part.json"], "without splits all is of train"
    assert row_files(tmp_path, "", "val") == [], "a split that the card does not name"
    assert row_files(tmp_path, "other", "test", "more/{config}.json") == [], "neither on the card nor published"
    (tmp_path / "more/other.json").write_text("[]")
    assert row_files(tmp_path, "other", "test", "more/{config}.json") == [tmp_path / "more/other.json"]


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("---\nconfigs: [a\n---\n", "its front matter is no YAML"),
        ("---\nconfigs: [{data_files: [{split: test, path: gone.json}]}]\n---\n", "its card names 'gone.json'.*download them"),
        ("---\nconfigs: [{data_files: [{split: test, path: ../a.json}]}]\n---\n", "outside of the repository"),
    ],
)
def test_a_card_that_cannot_be_used_is_named(tmp_path: Path, card: str, message: str):
    (tmp_path / ROWS).mkdir(parents=True)
    (tmp_path / "media").mkdir()
    (tmp_path / ROWS / "README.md").write_text(card)
    refuses(official("text_video"), tmp_path, f"set: .*{message}")


@pytest.mark.parametrize(
    ("dataset", "repository", "file"),
    [
        ("MSR-VTT", "VLM2Vec/MSR-VTT", "msrvtt_test_1k.json"),
        ("MSR-VTT", "friedrichor/MSR-VTT", "msrvtt_test_1k.json"),
        ("MSVD", "VLM2Vec/MSVD", "msvd_test.json"),
        ("DiDeMo", "VLM2Vec/DiDeMo", "didemo_test.json"),
        ("VATEX", "lmms-lab/VATEX", "vatex_test/test-00000-of-00001.parquet"),
        ("Video-MME", "lmms-lab/Video-MME", "videomme/test-00000-of-00001.parquet"),
        ("MVBench", "OpenGVLab/MVBench", "json/action_sequence.json"),
    ],
)
def test_video_datasets_are_found_under_their_published_names(tmp_path: Path, dataset: str, repository: str, file: str):
    path = tmp_path / repository / file
    path.parent.mkdir(parents=True)
    path.touch()
    [source] = choose(MMEB_V2_FILES, [dataset])
    folder = rows_folder(source, tmp_path)
    assert row_files(folder, (source.config.split() or [""])[0], source.split, source.published) == [path]


def test_instructions_of_a_file_take_the_place_of_all_others(tmp_path: Path):
    images(tmp_path, image_row(), image_row(qry_img_path="b.png"))
    path = tmp_path / "instructions.toml"
    path.write_text('[set]\nquery = "Which one?"\ncandidate = ""\n')
    task = read(with_instructions(official("image_text", modality="image"), path), tmp_path)
    assert {query.instruction for query in task.queries} == {"Which one?"}
    assert {candidate.instruction for candidate in task.candidates} == {""}
    path.write_text('[image]\ncandidate = ""\n[set]\nquery = "Which one?"\n')
    assert with_instructions(official("image_text", modality="image"), path).sources[0].replaced == ("Which one?", None)
    path.write_text('[image]\ncandidate = ""\n')
    assert with_instructions(official("image_text", modality="image"), path).sources[0].replaced == (None, "")
    for text, message in (("[gone]\nquery='a'", "dataset 'gone'"), ("[set]\nqery='a'", "give `query`, `candidate`"), ("set", "TOML")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            with_instructions(official("image_text"), path)


def test_a_query_of_uvrb_without_labels_counts_as_nothing_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    uvrb(tmp_path, instances=[{"qid": "q1", "pos": ["d1"]}])
    task = read(official("uvrb"), tmp_path)
    assert labels(task) == [{"d1": 1.0}, {}]
    assert "set: nothing is right for 1 queries (rows 2): they count as 0" in " ".join(capsys.readouterr().err.split())


def test_options_are_embedded_as_the_benchmark_does(tmp_path: Path):
    frames(tmp_path, "v")
    options = ["A. C cooks a meal.", "B. C sleeps."]
    lines(tmp_path / ROWS / "test.jsonl", [{"video_idx": "v", "question": "What?", "option": options, "answer": "0"}] * 2)
    task = read(official("egoschema"), tmp_path)
    assert [item.text for item in task.candidates] == ["C cooks a meal", "C sleeps"]
    assert list(task.names.values()) == options
