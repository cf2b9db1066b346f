"""How many frames a Reasoner sees is read from the Reasoner: evaluation, report card and index agree on a T-CoT's key frames.

Reported: with a Reasoner of 16 frames and key frame 12, evaluation called the T-CoT invalid, the card drew it dashed, and the index called
it right (house_today.md 1.2).
"""

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pytest

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, ParseFailure, TCoT
from embedrl.errors import ConfigError
from embedrl.evaluation.compare import compare
from embedrl.evaluation.evaluate import evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import FrameFiles, Frames, Text, Video
from embedrl.media.decode import count_frames, load_visual
from embedrl.media.video import save_video
from embedrl.pipelines.compare import case_card
from embedrl.pipelines.evaluate_world import evaluate_systems
from embedrl.reports.cards import checked_side, content
from embedrl.testing import FakeEmbedder, FakeReasoner

FRAMES = [PIL.Image.new("RGB", (32, 32), (10 * number, 80, 90)) for number in range(16)]


class Pointing(FakeReasoner):
    """Points at one frame of every video."""

    def __init__(self, name: str, *, num_frames: int, key_frame: int = 12) -> None:
        super().__init__(name, num_frames=num_frames)
        self.key_frame = key_frame

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        return [
            TCoT(thinking="x", evidence=Evidence(key_frames=(self.key_frame,) if item.visual else ()), rethink="r", answer="a clip")
            for item in items
        ]


@pytest.fixture
def clip(tmp_path: Path) -> Item:
    place = tmp_path / "media" / "clip.mp4"
    place.parent.mkdir()
    save_video(FRAMES, place, fps=2)
    return Item(content=(Video(path=place),), role=Role.TARGET_VIDEO)


def task_of(clip: Item) -> RetrievalTask:
    query = Item(content=(Text(text="a clip"),), role=Role.QUERY_TEXT_TO_VIDEO)
    return RetrievalTask("t", "video", (query,), (clip,), ({clip.key: 1.0},))


@pytest.mark.parametrize(("num_frames", "holds"), [(16, True), (12, True), (8, False)])
def test_all_who_check_evidence_agree(clip: Item, num_frames: int, holds: bool):
    reasoner, embedder = Pointing("pointing", num_frames=num_frames), FakeEmbedder()
    _, evaluated, _ = evaluate_systems([task_of(clip)], embedder, {"pointing": reasoner})
    assert evaluated.tasks[0].figures["tcot_valid"].tolist() == [1.0 if holds else 0.5]
    assert evaluated.num_frames == num_frames
    (tcot,) = reasoner.reason([clip])
    assert isinstance(tcot, TCoT)
    side = checked_side(clip, tcot, reasoner.num_frames)
    assert side.verification
    assert side.verification.key_frames == (holds,)
    assert str(content(side)).count("<img") == num_frames, "the card shows the frames that the numbers count"
    folder = clip.content[0].path.parent  # ty: ignore[unresolved-attribute]
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, reasoner, embedder)
    (hit,) = search(index, Query((Text(text="a clip"),)), embedder, reasoner).hits
    assert hit.verification
    assert hit.verification.key_frames == (holds,)


def test_a_comparison_draws_each_side_with_the_frames_of_its_own_reasoner(clip: Item):
    task, embedder = task_of(clip), FakeEmbedder()
    systems = [evaluate([task], embedder, name=str(count), reasoner=Pointing(str(count), num_frames=count)) for count in (4, 16)]
    (case,) = compare([task], *systems)
    assert case.target.num_frames == (4, 16)
    page = str(case_card(case))
    assert page.count("<img") == 4 + 16


def test_without_a_number_frames_in_memory_and_in_files_of_their_own_are_all_there_are(clip: Item, tmp_path: Path):
    times = tuple(map(float, range(16)))
    paths = []
    for number, frame in enumerate(FRAMES):
        paths.append(tmp_path / f"{number:02}.png")
        frame.save(paths[-1])
    for video in (Video(frames=Frames(tuple(FRAMES), times)), Video(frame_files=FrameFiles(paths=tuple(paths), times_s=times))):
        assert count_frames(video) == 16
        assert count_frames(video, num_frames=5) == 5
        seen = load_visual(video)
        assert isinstance(seen, Frames)
        assert seen.times_s == times
    with pytest.raises(ConfigError, match="say how many frames of a video file"):
        count_frames(clip.visual)
