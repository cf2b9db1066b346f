"""Our models as an encoder of mteb, on small tasks of local data."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from embedrl.data.sample import Item, Role
from embedrl.errors import ConfigError
from embedrl.integrations.mteb import MTEBEncoder
from embedrl.media.content import Image, Video
from embedrl.testing import COLOURS, FakeEmbedder, FakeReasoner

BRIGHT = [name for name in COLOURS if name not in ("black", "white", "grey")]


class Recorder(FakeEmbedder):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []

    def embed(self, items, tcots):
        self.items += items
        return super().embed(items, tcots)


def task(corpus: dict[str, list[Any]], category: str, prompt: Any = None) -> Any:
    """Make a retrieval task: query n is about colour n, and so is document n."""
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Local(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Local",
            description="colours",
            type="Any2AnyRetrieval" if category == "t2i" else "Retrieval",
            dataset={"path": "local", "revision": "1"},
            prompt=prompt,
            modalities=["image", "text"] if category == "t2i" else ["text"],
            category=category,
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *args: Any, **settings: Any) -> None:
            names = [str(number) for number in range(len(BRIGHT))]
            queries = datasets.Dataset.from_dict({"id": names, "text": [f"something {name}" for name in BRIGHT]})
            documents = datasets.Dataset.from_dict({"id": names, **corpus})
            if "image" in corpus:
                documents = documents.cast_column("image", datasets.Image())
            split = {"corpus": documents, "queries": queries, "relevant_docs": {name: {name: 1} for name in names}, "top_ranked": None}
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Local()


def score(encoder: MTEBEncoder, made: Any) -> float:
    import mteb

    result = mteb.evaluate(encoder, made, cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].get_score()


def test_a_task_of_texts():
    embedder = Recorder()
    encoder = MTEBEncoder(embedder, FakeReasoner())
    texts = {"title": ["" for _ in BRIGHT], "text": [f"a {name} thing" for name in BRIGHT]}
    assert score(encoder, task(texts, "t2t", prompt="Find it.")) == 1.0
    assert encoder.num_reasoned == 2 * len(BRIGHT)
    assert encoder.num_plain == 0
    assert {(item.role, item.instruction) for item in embedder.items} == {
        (Role.QUERY_TEXT_TO_IMAGE, "Find it."),
        (Role.TARGET_TEXT, "Describe the text."),
    }


def test_a_task_of_pictures(tmp_path: Path):
    for name in BRIGHT:
        PIL.Image.new("RGB", (32, 24), COLOURS[name]).save(tmp_path / f"{name}.png")
    embedder = Recorder()
    pictures = task({"image": [str(tmp_path / f"{name}.png") for name in BRIGHT]}, "t2i", {"document": "Look."})
    assert score(MTEBEncoder(embedder), pictures) == 1.0
    assert {(item.role, item.instruction) for item in embedder.items} == {
        (Role.QUERY_TEXT_TO_IMAGE, "Find the picture that fits the text."),
        (Role.TARGET_IMAGE, "Look."),
    }


class Decoded:
    """What torchcodec's decoder answers: frames of one brightness each, four a second."""

    class metadata:
        num_frames = 17

    def get_frames_at(self, places: list[int]) -> Any:
        found = type("Batch", (), {})()
        found.data = torch.stack([torch.full((3, 8, 8), place, dtype=torch.uint8) for place in places])
        found.pts_seconds = torch.tensor([place / 4 for place in places], dtype=torch.float64)
        return found


def test_videos_are_sampled_evenly_and_keep_their_times():
    embedder = Recorder()
    encoder = MTEBEncoder(embedder, num_frames=5)
    tensor = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 3, 8, 8)
    metadata = task({"text": ["a"]}, "t2t").metadata
    vectors = encoder.encode([{"video": [Decoded(), tensor], "text": ["", "a clip"]}], task_metadata=metadata)
    assert vectors.shape == (2, encoder.embedder.dim)
    assert vectors.dtype == np.float32
    one, other = (item.visual for item in embedder.items)
    assert isinstance(one, Video)
    assert isinstance(other, Video)
    assert one.frames
    assert other.frames
    assert one.frames.times_s == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert other.frames.times_s == (0.0, 2.0, 4.0, 6.0, 8.0)
    assert [image.getpixel((0, 0)) for image in one.frames.images] == [(place, place, place) for place in (0, 4, 8, 12, 16)]
    assert embedder.items[0].role == Role.TARGET_VIDEO
    assert embedder.items[1].text == "a clip"


def test_what_has_no_tcot_is_embedded_plain_and_counted(capsys: pytest.CaptureFixture[str]):
    metadata = task({"text": ["a"]}, "t2t").metadata
    plain = MTEBEncoder(FakeEmbedder())
    red, blue = (PIL.Image.new("RGB", (8, 8), COLOURS[name]) for name in ("red", "blue"))
    item = Item(content=(Image(pixels=red),), instruction="Describe the picture.", role=Role.TARGET_IMAGE)
    encoder = MTEBEncoder(FakeEmbedder(), FakeReasoner(fail_keys={item.key}))
    vectors = encoder.encode([{"image": [red, blue]}], task_metadata=metadata)
    assert "1 of 2 items have no T-CoT and are embedded plain" in capsys.readouterr().err
    cosines = plain.similarity(vectors, plain.encode([{"image": [red, blue]}], task_metadata=metadata))
    assert cosines[0, 0] == pytest.approx(1)
    assert cosines[1, 1] < 0.99
    assert plain.similarity_pairwise(vectors, torch.from_numpy(vectors)) == pytest.approx([1, 1])
    with pytest.raises(ConfigError, match="a row with nothing; we read text, image, video"):
        encoder.encode([{"audio": [None]}], task_metadata=metadata)


def test_models_are_named_and_kept(tmp_path: Path):
    metadata = task({"text": ["a"]}, "t2t").metadata
    first, second = (
        MTEBEncoder.named("fake", "fake", cache=tmp_path).encode([{"text": ["red"]}], task_metadata=metadata) for _ in range(2)
    )
    assert (first == second).all()
    assert len((tmp_path / "vectors.jsonl").read_text().splitlines()) == 1
    meta = MTEBEncoder.named("fake", "fake").mteb_model_meta
    assert meta.name == "embedrl/fake-embedder--fake-reasoner"
    assert meta.embed_dim == 64


def test_without_mteb_the_command_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"mteb is not installed.*pip install 'embedrl\[mteb\]'"):
        MTEBEncoder(FakeEmbedder())
