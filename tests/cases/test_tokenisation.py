"""The tokens that a library makes of an input are part of a model's name, and the layout of videos is that of the model's training.

Report: vllm-project/vllm 46817 (transformers 5.10 and later wrap each video in one more pair of vision tokens than 4.57 to 5.9).
"""

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import Qwen3VLProcessor

from embedrl.data.sample import Item, Role
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import collate
from embedrl.embedder.parity import Comparison, trace_ours, trace_plain, trace_sentence_transformers
from embedrl.errors import StoreError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.media.content import Frames, Video
from embedrl.models.load import load, load_parts
from embedrl.models.names import shipped
from embedrl.models.tokens import TOKENS
from embedrl.reasoner.local import LocalReasoner
from embedrl.testing import FakeReasoner
from tests.checkpoints import write_embed_rl, write_qwen3_vl_embedding
from tests.test_checkpoints import SMALL

NANO = shipped("embedder")["nano"]
PADS = "<|video_pad|>"
FRAME = f"<|vision_start|>{PADS}<|vision_end|>"


class OtherProcessor(Qwen3VLProcessor):
    """Of a version that writes one token less around each pair of frames."""

    def replace_video_token(self, video_inputs: dict, video_idx: int, **kwargs) -> str:
        return super().replace_video_token(video_inputs, video_idx, **kwargs).removeprefix("<")


def video(num_frames: int = 4) -> Item:
    rng = np.random.default_rng(0)
    frames = tuple(PIL.Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(num_frames))
    return Item(content=(Video(frames=Frames(frames, tuple(number / 2 for number in range(num_frames)))),), role=Role.TARGET_VIDEO)


def prompt(embedder: Embedder) -> str:
    """What the tokens of a video say, each run of placeholders as one."""
    batch = collate(embedder.processor, [embedder.build(video(), None)])
    text = embedder.processor.tokenizer.decode(batch["input_ids"][0])
    while PADS + PADS in text:
        text = text.replace(PADS + PADS, PADS)
    return text


def test_the_shipped_models_see_the_tokens_they_were_trained_on() -> None:
    """Their names are those of before, and so are indexes and caches."""
    assert "tokens" not in Embedder.load(NANO).fingerprint
    for name, folder in shipped("reasoner").items():
        assert "tokens" not in LocalReasoner.load(folder).fingerprint, name
    assert f"<|vision_start|><0.2 seconds>{FRAME}<1.2 seconds>{FRAME}<|vision_end|>" in prompt(Embedder.load(NANO))


def test_an_index_of_other_tokens_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.txt").write_text("a red star", "utf-8")
    embedder = Embedder.load(NANO)
    assert ingest(tmp_path, Index.open(tmp_path, embedder=embedder), FakeReasoner(), embedder).added == 1
    model, _, name = load(type(embedder.model), NANO)
    assert "makes other tokens" not in capfd.readouterr().err
    other = Embedder.on(model, OtherProcessor.from_pretrained(NANO, local_files_only=True), name, NANO)
    assert "makes other tokens of the same input than the version that the model was saved with" in " ".join(capfd.readouterr().err.split())
    assert other.fingerprint != embedder.fingerprint
    with pytest.raises(StoreError, match=rf"holds vectors of '{embedder.fingerprint}'.*not of '{other.fingerprint}'"):
        len(Index.open(tmp_path, embedder=other))


def test_a_model_without_a_digest_carries_its_tokens_in_its_name(tmp_path: Path) -> None:
    folder = shutil.copytree(NANO, tmp_path / "embedder")
    (folder / TOKENS).unlink()
    marked = Embedder.load(folder)
    assert "-tokens" in marked.fingerprint
    marked.save(tmp_path / "saved")
    assert "-tokens" not in Embedder.load(tmp_path / "saved").fingerprint
    config, processor = load_parts(folder)
    assert config.model_type == "qwen3_vl"
    assert isinstance(processor, Qwen3VLProcessor)


@pytest.mark.parametrize(("write", "end"), [(write_embed_rl, "<emb>"), (write_qwen3_vl_embedding, "<|endoftext|>")])
def test_published_models_see_videos_as_in_their_training(write, end: str, tmp_path: Path) -> None:
    """By hand: transformers 4.57 writes the time of a pair of frames and their tokens, and nothing around the whole."""
    folder = write(tmp_path / "model")
    embedder = Embedder.load(folder, dtype=torch.float32)
    expected = f"<|im_start|>user\n<0.2 seconds>{FRAME}<1.2 seconds>{FRAME}"
    assert expected in prompt(embedder)
    assert prompt(embedder).endswith(end)
    embedder.budget = SMALL
    embedder.save(tmp_path / "saved")
    saved = Embedder.load(tmp_path / "saved", dtype=torch.float32)
    assert expected in prompt(saved)
    inputs = [saved.build(video(saved.budget.num_frames), None)]  # a processor's limits are for a clip of so many
    ours = trace_ours(saved, inputs)[0]
    for trace in (trace_plain, trace_sentence_transformers):
        found = Comparison(ours, trace(saved, tmp_path / "saved", inputs)[0])
        assert found.stage == "", trace.__name__
        assert found.cosine > 0.9999, trace.__name__
