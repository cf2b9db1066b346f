"""LLaVA-Hound, and the published Embed-RL files that are built on it: videos as frames, T-CoTs that are read or reported."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from embedrl.data.items import FIND
from embedrl.data.sample import Role
from embedrl.data.sources import SOURCES, AnnotatedPair, ProblemKind, SourceReport
from embedrl.data.sources.media_folder import evenly
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.media.content import Text, Video
from embedrl.media.decode import load_visual
from tests.odd_media import corner_image, frame_number
from tests.source_files import GOOD, encoded, frame_folder, picture, read, tcot_row, write_json, write_lines

# ---- LLaVA-Hound


def hound_row(video: str = "v_ab", human: str = "<video>\nWhat does the cook add last?", gpt: str = "Salt.") -> dict[str, Any]:
    return {"id": "x", "video": video, "conversations": [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]}


def test_llava_hound_is_read_in_three_ways(tmp_path: Path):
    frame_folder(tmp_path / "frames" / "train_300k" / "v_ab", 15)
    path = write_lines(tmp_path / "sft.jsonl", [hound_row()])
    for use, query, target, instruction in (
        ("caption", (Video,), (Text,), "What does the cook add last?"),
        ("video", (Text,), (Video,), FIND["video"]),
        ("qa", (Video, Text), (Text,), "Answer the question about the clip."),
    ):
        (pair,), problems = read(f"llava-hound-{use}", path, tmp_path / "frames")
        assert not problems
        assert pair.query.instruction == instruction
        assert use in pair.task
        assert tuple(map(type, pair.query.content)) == query
        assert tuple(map(type, pair.target.content)) == target
        video = next(part for part in (*pair.query.content, *pair.target.content) if isinstance(part, Video))
        frames = load_visual(video)
        assert [frame_number(image) for image in frames.images] == [0, 2, 4, 6, 8, 10, 12, 14]
        assert frames.times_s == (0, 2, 4, 6, 8, 10, 12, 14)
    assert pair.query.role == Role.QUERY_VIDEO
    assert pair.query.text == "What does the cook add last?"


def test_broken_llava_hound_rows_are_named(tmp_path: Path):
    frame_folder(tmp_path / "v_ab", 3)
    frame_folder(tmp_path / "torn", 3)
    (tmp_path / "torn" / "c01_2.png").write_bytes(encoded()[:40])
    frame_folder(tmp_path / "mixed", 3)
    corner_image(80, 80).save(tmp_path / "mixed" / "c01_3.png")
    (tmp_path / "bare").mkdir()
    long = {**hound_row(), "conversations": hound_row()["conversations"] * 2}
    rows = [
        hound_row("gone"),
        hound_row("torn"),
        hound_row("mixed"),
        hound_row("bare"),
        long,
        hound_row(gpt=" "),
        hound_row(human="<video>"),
    ]
    rows += [{"video": "v_ab"}, hound_row("")]
    pairs, problems = read("llava-hound-qa", write_lines(tmp_path / "sft.jsonl", rows))
    told = ["gone", "c01_2.png", "c01_3.png", "no frames", "2 turns", "target has neither", "question is empty", "conversations", "video"]
    assert not pairs
    assert all(words in problem.reason for words, problem in zip(told, problems, strict=True))
    with pytest.raises(ConfigError, match="num_frames=0: give at least 1"):
        read("llava-hound-qa", write_lines(tmp_path / "one.jsonl", [hound_row()]), num_frames=0)


def test_frames_are_chosen_evenly_with_both_ends():
    assert evenly(3, 8) == [0, 1, 2]
    assert evenly(8, 8) == list(range(8))
    assert evenly(5, 1) == [0]
    assert evenly(22, 8) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert evenly(10, 4) == [0, 3, 6, 9]


def test_two_questions_on_one_picture_stay_apart(tmp_path: Path):
    picture(tmp_path / "images" / "a.png")
    other = GOOD.replace("a green bus", "a red sign")
    rows = [tcot_row(), tcot_row(other, None, qry="<|image_1|>\nWhat is behind it?\n", pos_text="a sign")]
    pairs, problems = read("embed-rl", write_json(tmp_path / "OK-VQA.json", rows))
    assert not problems
    assert pairs[0].query.key != pairs[1].query.key
    assert pairs[0].key != pairs[1].key
    assert [pair.query_tcot.answer for pair in pairs] == ["a green bus", "a red sign"]


# ---- the published Embed-RL files


def written(thinking: str) -> str:
    return f"<thinking>{thinking}</thinking><rethink>r</rethink><answer>a</answer>"


def test_embed_rl_tcots_are_read_or_reported_but_never_lost(tmp_path: Path):
    picture(tmp_path / "images" / "a.png")
    tcots = [
        written('{"bbox_2d": [1, 2, 3, 4]}'),
        written('{"bbox_2d": []} {"text_keywords": ["green"]}'),
        GOOD.replace("</thinking>", "").replace("</rethink>", ""),
        GOOD.replace("rethink>", "rethinking>"),
        written('{"bbox_2d": [[1, 2, 3, 4]'),
        GOOD.removesuffix("</answer>"),
        "<thinking>a</thinking><answer>b</answer>",
        "",
        None,
    ]
    rows = [tcot_row(tcot, qry=f"<|image_1|>\nQuestion {number}?") for number, tcot in enumerate(tcots)]
    rows += [tcot_row(error="timed out"), tcot_row(qry_image_path="images/gone.png"), tcot_row(3)]
    report = SourceReport()
    outcomes = list(report.watch(SOURCES["embed-rl"](write_json(tmp_path / "A-OKVQA.json", rows))))
    pairs = [outcome for outcome in outcomes if isinstance(outcome, AnnotatedPair)]
    assert len(pairs) == 10
    assert all(isinstance(pair.target_tcot, TCoT) for pair in pairs)
    first = pairs[0].query_tcot
    assert isinstance(first, TCoT)
    assert first.evidence.boxes == ((1, 2, 3, 4),)
    assert [type(pair.query_tcot) for pair in pairs[:4]] == [TCoT] * 4
    failures = [pair.query_tcot for pair in pairs[4:8]]
    assert all(isinstance(failure, ParseFailure) for failure in failures)
    assert [failure.text for failure in failures] == list(tcots[4:8])
    coverage = report.tasks["A-OKVQA"]
    assert (coverage.num_pairs, coverage.num_tcots, coverage.num_without) == (10, 15, 1)
    assert coverage.failures == Counter(
        [FailureReason.BAD_EVIDENCE, FailureReason.TRUNCATED, FailureReason.MISSING_RETHINK, FailureReason.EMPTY]
    )
    assert (report.num_lost, report.problems) == (2, Counter({ProblemKind.ANNOTATION: 1, ProblemKind.MEDIA: 1, ProblemKind.FIELDS: 1}))
    assert report.lines() == [
        "A-OKVQA: 10 pairs, T-CoTs of 15 of 20 sides (bad_evidence 1, empty 1, missing_rethink 1, none 1, truncated 1)",
        "2 rows gave no pair; problems: annotation 1, fields 1, media 1",
    ]


def video_row(name: str, frames: Any, **changes: Any) -> dict[str, Any]:
    human, gpt = {"from": "human", "value": "<video>\nWhat is added last?"}, {"from": "gpt", "value": "Salt."}
    shown, told = {"conversations": [human], "video": frames}, {"conversations": [gpt], "video": ["images/blank.jpg"], "image": ""}
    query, target = (told, shown) if name == "llavahound_video_retrieval" else (shown, told)
    return {"dataset_name": name, "qry": query, "pos": target, "query_cot": GOOD, "pos_cot": GOOD, "error": "", **changes}


def test_embed_rl_rows_about_videos(tmp_path: Path):
    names = [f"train_300k/v/{name}" for name in frame_folder(tmp_path / "train_300k" / "v", 4)]
    blank = {"conversations": [{"from": "gpt", "value": "Salt."}], "video": "images/blank.jpg"}
    rows = [
        video_row("llavahound_caption_retrieval", names),
        video_row("llavahound_video_retrieval", names),
        video_row("llavahound_qa", names, pos=blank),
        video_row("llavahound_qa", ["images/blank.jpg"]),
        video_row("llavahound_qa", [*names, "train_300k/v/gone.png"]),
        video_row("llavahound_other", names),
        video_row("llavahound_qa", names, pos={**blank, "video": names}),
        video_row("llavahound_qa", names, pos={**blank, "conversations": []}),
    ]
    pairs, problems = read("embed-rl", write_json(tmp_path / "llavahound_qa_1.json", rows))
    assert [pair.task for pair in pairs] == ["llavahound_caption_retrieval", "llavahound_video_retrieval", "llavahound_qa"]
    caption, video, qa = pairs
    assert (caption.query.instruction, caption.target.text) == ("What is added last?", "Salt.")
    assert (video.query.text, video.target.instruction) == ("Salt.", "What is added last?")
    assert (video.query.role, video.target.role) == (Role.QUERY_TEXT_TO_VIDEO, Role.TARGET_VIDEO)
    assert (qa.query.text, qa.target.text) == ("What is added last?", "Salt.")
    frames = load_visual(video.target.visual)
    assert [frame_number(image) for image in frames.images] == [0, 1, 2, 3]
    told = ["names no frames", "gone.png", "llavahound_other", "c01_1.png", "0 turns"]
    assert [problem.row for problem in problems] == [4, 5, 6, 7, 8]
    assert all(words in problem.reason for words, problem in zip(told, problems, strict=True))
