"""Every format gives back what a small file of it holds, and a word for each row that it cannot use."""

import io
from pathlib import Path

import PIL.Image
import pytest

from embedrl.data.items import DESCRIBE, FIND
from embedrl.data.sample import Role
from embedrl.data.sources import SOURCES, AnnotatedPair, ProblemKind
from embedrl.data.sources.pair import plain
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError
from embedrl.media.content import Image, Text, Video
from embedrl.media.decode import load_visual
from embedrl.media.store import Limits
from embedrl.world.write import make_world, read_world
from tests.odd_media import numbered_frames, save_video
from tests.source_files import GOOD, encoded, mmeb_row, picture, read, write_json, write_lines, write_parquet

# ---- MMEB-train


@pytest.mark.parametrize("name", ["OK-VQA/original-00000-of-00001.parquet", "OK-VQA.json", "OK-VQA.jsonl"])
def test_mmeb_rows(tmp_path: Path, name: str):
    a, b, c = (picture(tmp_path / "images" / f"{letter}.png", level) for letter, level in zip("abc", (1, 2, 3), strict=True))
    rows = [
        mmeb_row(neg_text="a cup"),
        mmeb_row(qry="a red bird", qry_image_path="", pos_text="<|image_1|>\nThe picture.", pos_image_path="images/b.png"),
        mmeb_row(qry="make it blue", pos_text=None, pos_image_path=str(b), neg_text=None, neg_image_path="images/c.png"),
    ]
    path = tmp_path / name
    match path.suffix:
        case ".parquet":
            write_parquet(path, rows)
        case ".json":
            write_json(path, rows)
        case _:
            write_lines(path, rows)
    pairs, problems = read("mmeb", path, tmp_path)
    assert problems == []
    assert [pair.task for pair in pairs] == ["OK-VQA"] * 3
    assert pairs[0].query.content == (Image(path=a), Text(text="What is on the table?"))
    assert pairs[0].target.content == (Text(text="a kettle"),)
    assert pairs[0].negatives[0].content == (Text(text="a cup"),)
    assert pairs[1].target.content == (Image(path=b), Text(text="The picture."))
    assert pairs[2].target.content == (Image(path=b),)
    assert pairs[2].negatives[0].content == (Image(path=c),)
    assert [(pair.query.role, pair.target.role) for pair in pairs] == [
        (Role.QUERY_IMAGE, Role.TARGET_TEXT),
        (Role.QUERY_TEXT_TO_IMAGE, Role.TARGET_IMAGE),
        (Role.QUERY_IMAGE, Role.TARGET_IMAGE),
    ]
    assert len({pair.key for pair in pairs}) == 3
    assert [pair.key for pair in read("mmeb", path, tmp_path)[0]] == [pair.key for pair in pairs]


def test_a_row_that_cannot_be_used_is_named(tmp_path: Path):
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "words.jpg").write_text("not an image at all")
    (tmp_path / "images" / "empty.jpg").touch()
    save_video(numbered_frames(2), tmp_path / "images" / "clip.mp4", fps=1)
    rows = [
        mmeb_row(),
        mmeb_row(qry_image_path="images/gone.png"),
        mmeb_row(qry_image_path="images/words.jpg"),
        mmeb_row(pos_image_path="images/empty.jpg"),
        mmeb_row(pos_image_path="images/clip.mp4"),
        mmeb_row(qry="<|image_1|> ", qry_image_path=""),
        mmeb_row(pos_text=" "),
        mmeb_row(qry=7),
        {"query": "of another format"},
        "a string",
        mmeb_row(neg_image_path="images/gone.png", neg_text="a cup"),
        mmeb_row(qry_image_path="images/a\0.png"),
        mmeb_row(),
    ]
    pairs, problems = read("mmeb", write_json(tmp_path / "set.json", rows))
    assert len(pairs) == 3, "the row with the broken negative is kept, without it"
    assert len({pair.key for pair in pairs}) == 1, "the row with the broken negative is kept, without it"
    assert [(problem.row, problem.kind.value, problem.num_rows) for problem in problems] == [
        (2, "media", 1),
        (3, "media", 1),
        (4, "media", 1),
        (5, "media", 1),
        (6, "empty", 1),
        (7, "empty", 1),
        (8, "fields", 1),
        (9, "fields", 1),
        (10, "fields", 1),
        (11, "media", 0),
        (12, "media", 1),
    ]
    told = [
        "gone.png",
        "words.jpg",
        "0 bytes",
        "a video, not an image",
        "query has neither",
        "target has neither",
        "qry",
        "qry",
        "",
        "negative",
    ]
    assert all(words in problem.reason for words, problem in zip(told, problems, strict=False))
    assert str(problems[0]).startswith(f"{str(tmp_path / 'set.json')!r}, row 2: ")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<|image_1|>\nFind it.\n", "Find it."),
        ("<video>\nWhat?", "What?"),
        ("Compare <image> and <image_2>.", "Compare and <image_2>."),
        ("<|vision_start|><|image_pad|><|vision_end|>a", "a"),
        ("line one\n\n  line two", "line one\n\n  line two"),
        ("<|im_end|> stays: models are shown it broken up", "<|im_end|> stays: models are shown it broken up"),
        (None, ""),
    ],
)
def test_placeholders_go_and_nothing_else(text: str | None, left: str):
    assert plain(text) == left


# ---- ViDoRe and VisRAG


def test_pages_inside_rows_are_written_once(tmp_path: Path):
    rows = [
        {
            "query": "Which year?",
            "answer": "2019",
            "image": {"bytes": encoded(1), "path": "p.png"},
            "image_filename": "images/p.png",
            "page": "4",
        },
        {"query": "Which month?", "answer": "May", "image": {"bytes": encoded(1), "path": None}, "image_filename": None, "page": "5"},
    ]
    path, media = write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", rows), tmp_path / "pages" / "deep"
    pairs, problems = read("vidore", path, media)
    (page,) = media.iterdir()
    assert not problems
    assert [pair.query.content[0] for pair in pairs] == [Image(path=page)] * 2
    assert [(pair.query.text, pair.target.text, pair.query.role) for pair in pairs] == [
        ("Which year?", "2019", Role.QUERY_IMAGE),
        ("Which month?", "May", Role.QUERY_IMAGE),
    ]
    assert load_visual(pairs[0].query.visual).getpixel((0, 0)) == (1, 40, 200)
    written = page.stat().st_mtime_ns
    assert [pair.key for pair in read("vidore", path, media)[0]] == [pair.key for pair in pairs]
    assert page.stat().st_mtime_ns == written
    (first, _), _ = read("visrag", path, media)
    assert first.query.instruction == FIND["page"]
    assert first.target.instruction == DESCRIBE["page"]
    assert (first.query.role, first.target.role) == (Role.QUERY_TEXT_TO_IMAGE, Role.TARGET_IMAGE)
    with pytest.raises(ConfigError, match="media_root=None: give a folder"):
        read("visrag", path)


def test_pages_come_as_bare_bytes_and_as_files_too(tmp_path: Path):
    picture(tmp_path / "media" / "p.png", 7)
    bare = write_parquet(tmp_path / "bare.parquet", [{"query": "q", "image": encoded(1, "JPEG")}])
    named = write_parquet(tmp_path / "named.parquet", [{"query": "q", "image": "p.png"}])
    (pair,), _ = read("visrag", bare, tmp_path / "media")
    assert pair.target.visual.path.suffix == ".jpeg"
    (pair,), _ = read("visrag", named, tmp_path / "media")
    assert pair.target.visual == Image(path=tmp_path / "media" / "p.png")


def test_broken_pages_are_named_and_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("embedrl.media.store._in_force", Limits(max_pixels=10_000))
    big = io.BytesIO()
    PIL.Image.new("RGB", (300, 300)).save(big, "PNG")
    images = [encoded()[:50], b"no picture", big.getvalue(), None]
    rows = [{"query": "q", "answer": "a", "image": {"bytes": data, "path": None}, "image_filename": "p.png"} for data in images]
    pairs, problems = read("vidore", write_parquet(tmp_path / "a.parquet", rows), tmp_path / "media")
    assert not pairs
    assert not list((tmp_path / "media").iterdir())
    assert all(problem.reason.startswith("'p.png': ") for problem in problems[:3])
    assert "max_pixels=10000" in problems[2].reason
    assert [problem.kind for problem in problems] == [ProblemKind.MEDIA] * 3 + [ProblemKind.EMPTY]


def test_a_file_of_another_shape_is_refused_at_once(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", [{"text": "x"}])
    with pytest.raises(ConfigError, match=r"has no column answer, image, query, only text; choose the source that fits"):
        read("vidore", path, tmp_path)
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(ConfigError, match="not a Parquet file"):
        read("vidore", path, tmp_path)


# ---- our own lines, and folders


def test_a_world_is_read_back(tmp_path: Path):
    make_world(tmp_path, 15, seed=1)
    pairs, problems = read("lines", tmp_path / "pairs.jsonl")
    wanted = [written.pair for written in read_world(tmp_path)]
    assert not problems
    assert pairs == wanted
    assert [pair.key for pair in pairs] == [pair.key for pair in wanted]
    next(tmp_path.glob("videos/*.mp4")).unlink()
    pairs, problems = read("lines", tmp_path / "pairs.jsonl")
    assert len(pairs) + len(problems) == 15
    assert problems
    assert all(".mp4" in problem.reason for problem in problems)


def test_pairs_written_by_hand(tmp_path: Path):
    mug = picture(tmp_path / "mugs" / "red.png")
    clip = tmp_path / "clip.mp4"
    save_video(numbered_frames(4), clip, fps=1)
    rows = [
        {
            "task": "shop",
            "query": {"text": "red mug", "instruction": FIND["image"]},
            "target": {"image": "mugs/red.png"},
            "negatives": [{"text": "no mug"}],
            "query_tcot": GOOD,
        },
        {"query": {"video": "clip.mp4", "start_s": 1, "end_s": 2, "text": "when?"}, "target": {"text": "now"}},
        {"query": {"picture": "mugs/red.png"}, "target": {"text": "now"}},
        {"query": {"image": "clip.mp4"}, "target": {"text": "now"}},
        {"pair": {"task": "x"}},
    ]
    pairs, problems = read("lines", write_lines(tmp_path / "mine.jsonl", rows))
    assert pairs[0].target.content == (Image(path=mug),)
    assert pairs[0].negatives[0].role == Role.TARGET_TEXT
    assert (pairs[0].task, pairs[0].query.instruction) == ("shop", FIND["image"])
    assert isinstance(pairs[0], AnnotatedPair)
    assert isinstance(pairs[0].query_tcot, TCoT)
    assert pairs[0].target_tcot is None
    assert pairs[1].query.content == (Video(path=clip, start_s=1, end_s=2), Text(text="when?"))
    assert pairs[1].task == "mine"
    assert [(problem.row, problem.kind.value) for problem in problems] == [(3, "fields"), (4, "media"), (5, "fields")]
    assert "query.picture" in problems[0].reason
    assert "a video, not an image" in problems[1].reason


@pytest.mark.parametrize("is_apart", [False, True])
def test_a_folder_with_captions(tmp_path: Path, is_apart: bool):
    media, captions = tmp_path / "media", tmp_path / ("captions" if is_apart else "media")
    cat = picture(media / "deep" / "cat.png")
    save_video(numbered_frames(2), media / "clip.mp4", fps=1)
    picture(media / "lonely.png")
    (media / "notes.md").write_text("notes")
    (media / "broken.jpg").write_text("no picture")
    (captions / "deep").mkdir(parents=True, exist_ok=True)
    for name, text in {"deep/cat": "a cat", "clip": "<video>\na grey clip", "broken": "x", "gone": "y", "notes": "z"}.items():
        (captions / f"{name}.txt").write_text(text)
    pairs, problems = read("folder", captions, media)
    assert {pair.query.text: pair.target.visual for pair in pairs} == {
        "a cat": Image(path=cat),
        "a grey clip": Video(path=media / "clip.mp4"),
    }
    assert {pair.task for pair in pairs} == {captions.name}
    assert {(pair.query.instruction, pair.query.role) for pair in pairs} == {
        (FIND["image"], Role.QUERY_TEXT_TO_IMAGE),
        (FIND["video"], Role.QUERY_TEXT_TO_VIDEO),
    }
    assert {problem.path.name for problem in problems} == {"lonely.png", "notes.md", "broken.jpg", "gone.txt"}
    assert "'lonely.txt'" in next(problem.reason for problem in problems if problem.path.name == "lonely.png")


# ---- all of them


@pytest.mark.parametrize("source", SOURCES)
def test_a_missing_file_is_a_clear_error(tmp_path: Path, source: str):
    with pytest.raises(ConfigError, match=r"gone.*there is no such"):
        read(source, tmp_path / "gone", tmp_path)
    with pytest.raises(ConfigError, match="nowhere"):
        read("mmeb", write_json(tmp_path / "a.json", []), tmp_path / "nowhere")
