"""`embedrl doctor BENCHMARK DIR --extract-frames`: raw videos become the folders of frames that readers look for, whole or not at all."""

from pathlib import Path

import pytest

from embedrl.cli.main import main
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.reading import read_tasks
from embedrl.media.content import Video
from embedrl.media.video import save_video
from embedrl.pipelines.inspect_files import extract_frames
from tests.odd_media import numbered_frames
from tests.official_files import ROWS, lines, official


def raw(folder: Path, *names: str, num_frames: int = 5) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_video(numbered_frames(num_frames), folder / name, fps=2)


def captions(data: Path, *videos: str) -> None:
    lines(data / ROWS / "test.jsonl", [{"video": name, "caption": f"{name} runs"} for name in videos])


def folders(data: Path) -> dict[str, list[str]]:
    return {path.name: sorted(frame.name for frame in path.iterdir()) for path in (data / "media").iterdir()}


FIVE = [f"frame_{number:04}.jpg" for number in range(1, 6)]


def test_missing_frames_are_extracted_and_read(tmp_path: Path):
    captions(tmp_path, "clips/v1.mp4", "v2", "a_b")
    raw(tmp_path / "raw", "deep/v1.mp4", "v2.mp4", "a/b.mp4")
    benchmark = official("text_video", 3, columns=("video", "caption"))
    extract_frames(benchmark, tmp_path, (), tmp_path)
    assert folders(tmp_path) == {"v1": FIVE, "v2": FIVE, "a_b": FIVE}
    (task,) = read_tasks(benchmark, tmp_path)
    visual = task.candidates[0].visual
    assert isinstance(visual, Video)
    assert visual.frame_files is not None
    assert [path.name for path in visual.frame_files.paths] == FIVE


def test_a_killed_extraction_is_gone_on_with(tmp_path: Path):
    """What it left lies beside the folder, which is not there until it is whole; whole ones are not extracted again."""
    captions(tmp_path, "v1", "v2")
    raw(tmp_path / "raw", "v1.mp4", "v2.mp4")
    (tmp_path / "media" / "v1").mkdir(parents=True)
    (tmp_path / "media" / "v1" / "0001.jpeg").write_bytes(b"as it was")
    left = tmp_path / "media" / ".v2.part"
    left.mkdir()
    (left / "frame_0009.jpg").write_bytes(b"half")
    extract_frames(official("text_video", columns=("video", "caption")), tmp_path, (), tmp_path / "raw")
    assert folders(tmp_path) == {"v1": ["0001.jpeg"], "v2": FIVE}


def test_what_cannot_be_extracted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    captions(tmp_path, "v1", "v2", "v3")
    raw(tmp_path / "raw", "one/v1.mp4", "two/v1.mp4")
    (tmp_path / "raw" / "v2.mp4").write_bytes(b"no video")
    benchmark = official("text_video", 3, columns=("video", "caption"))
    extract_frames(benchmark, tmp_path, (), tmp_path / "raw")
    said = " ".join(capsys.readouterr().err.split())
    assert "2 videos are called 'v1'; rename or move" in said
    assert "is called 'v3'; download it, or the archive of frames" in said
    assert "frames of 0 extracted, of 3 not" in said
    assert folders(tmp_path) == {}
    with pytest.raises(ConfigError, match="there is no such folder; give the one that holds the raw videos"):
        extract_frames(benchmark, tmp_path, (), tmp_path / "nowhere")


def test_the_command_belongs_to_a_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for words in (["--extract-frames"], ["MMEB-V2", str(tmp_path), "--videos", str(tmp_path)]):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *words])
        assert ended.value.code == 2
        assert "--extract-frames and --videos belong to" in " ".join(capsys.readouterr().err.split())
    lines(tmp_path / "VLM2Vec/MSVD/msvd_test.json", [])
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "MMEB-V2", str(tmp_path), "--dataset", "MSVD", "--extract-frames"])
    assert ended.value.code == 1
    assert "0 videos in" in " ".join(capsys.readouterr().err.split())
