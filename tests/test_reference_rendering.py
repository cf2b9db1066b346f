"""What published models are shown, held against facts of their authors' code (not against our own builder).

Sources: Embed-RL 87b52f7 (eval/mmeb_eval) and Qwen3-VL-Embedding 8ce3aab (its script, with qwen-vl-utils 0.0.14).
"""

import json
import shutil
from pathlib import Path

import PIL.Image
import pytest
import torch

from embedrl.data import items
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import QWEN3_VL_EMBEDDING_BUDGET, Embedder
from embedrl.embedder.inputs import DecodedItem, render_text
from embedrl.media.content import Frames, Image, Text, Video
from embedrl.media.video import save_video
from tests.checkpoints import write_embed_rl, write_qwen3_vl_embedding

REQUEST = "Summarize the above content in one word:"
PIXEL = PIL.Image.new("RGB", (64, 48), "red")
TCOT = TCoT(thinking="A cup.", evidence=Evidence(boxes=((0, 0, 500, 1000),)), rethink="It fits.", answer="a red cup")


@pytest.fixture(scope="module")
def embed_rl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed-rl") / "model"
    write_embed_rl(folder)
    (folder / "embedrl.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = tmp_path_factory.mktemp("embedding") / "model"
    write_qwen3_vl_embedding(folder)
    (folder / "embedrl.json").unlink(missing_ok=True)
    return Embedder.load(folder, dtype=torch.float32)


def user_turn(embedder: Embedder, *args: object) -> str:
    text = render_text(embedder.processor, embedder.build(*args))  # ty: ignore
    return text.split("<|im_start|>user\n")[1].split("<|im_end|>")[0]


def test_embed_rl_is_asked_as_published(embed_rl: Path):
    embedder = Embedder.load(embed_rl, dtype=torch.float32)
    image, video = Image(pixels=PIXEL), Video(frames=Frames((PIXEL,) * 2, (0.0, 1.0)))
    seen = "<|vision_start|><|image_pad|><|vision_end|>"
    assert user_turn(embedder, items.query("a red star", ""), None) == f"a red star{REQUEST}"
    assert user_turn(embedder, items.query("a red star", "Find it."), None) == f"Find it. a red star{REQUEST}"
    assert user_turn(embedder, items.query((image, Text(text="what?")), ""), None) == f"{seen}what?{REQUEST}"
    clip = user_turn(embedder, items.query((video, Text(text="what?")), ""), None)
    assert clip == f"what?<|video_pad|>{REQUEST}", "text before a video, which the processor spreads into frames"
    reasoned = user_turn(embedder, items.query((image, Text(text="what?")), ""), TCOT)
    evidence = '{"bbox_2d": [[0, 0, 500, 1000]]}'
    assert reasoned == (
        f"{seen}what?<thinking>A cup. {evidence}</thinking>\n{seen}<rethink>It fits.</rethink>\n<answer>a red cup</answer>{REQUEST}"
    )


def test_a_request_alone_completes_what_is_published(embed_rl: Path, tmp_path: Path):
    folder = shutil.copytree(embed_rl, tmp_path / "other")
    (folder / "embedrl.json").write_text(json.dumps({"request": "One word:"}))
    assert user_turn(Embedder.load(folder, dtype=torch.float32), items.query("a red star", ""), None) == "a red starOne word:"


def test_what_is_saved_of_a_published_model_is_asked_as_before(embed_rl: Path, tmp_path: Path):
    embedder = Embedder.load(embed_rl, dtype=torch.float32)
    embedder.save(tmp_path / "saved")
    saved = Embedder.load(tmp_path / "saved", dtype=torch.float32)
    assert saved.layout == embedder.layout
    assert saved.budget == embedder.budget


@pytest.mark.parametrize(("duration_s", "num_frames"), [(2, 4), (10, 10), (100, 64)])
def test_videos_are_sampled_by_the_second(embedding: Embedder, tmp_path: Path, duration_s: int, num_frames: int):
    save_video([PIL.Image.new("RGB", (64, 48), (number % 255, 90, 90)) for number in range(4 * duration_s)], tmp_path / "clip.mp4", fps=4)
    seen = DecodedItem(items.candidate(tmp_path / "clip.mp4"), embedding.budget, embedding.factor)
    (clip,) = seen.own
    assert isinstance(clip, Frames)
    assert len(clip.images) == num_frames


@pytest.mark.parametrize(
    ("num_frames", "size", "expected"),
    [
        (8, (1280, 720), (1152, 640)),  # 768 tokens a frame: 2,880 of the 3,079 that the script counts
        (8, (128, 96), (448, 320)),  # 128 tokens at least: 20 x 28 patches of 16 pixels
        (64, (320, 180), (512, 288)),  # 18 x 32 patches
        (64, (1280, 720), (640, 352)),  # the clip's limit: 7,864,320 / 64 * 2 pixels a frame
    ],
)
def test_frames_share_the_limit_of_their_clip(num_frames: int, size: tuple[int, int], expected: tuple[int, int]):
    frame = PIL.Image.new("RGB", size)
    assert QWEN3_VL_EMBEDDING_BUDGET.for_clip(num_frames).fit(frame, "frame", 32).size == expected


def test_texts_end_at_the_limit_of_tokens_and_it_is_said(embedding: Embedder, embed_rl: Path, capsys: pytest.CaptureFixture[str]):
    def num_tokens(text: str) -> int:
        return len(embedding.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    long = "a red star, " * 9000
    texts = [part["text"] for part in embedding.build(items.query(long, ""), None).parts]
    assert num_tokens(texts[0]) <= 8192
    assert num_tokens(texts[0]) > 8192 - 8
    assert long.startswith(texts[0])
    assert "behind 8,192 tokens" in capsys.readouterr().err
    whole = "a red star, " * 500
    assert Embedder.load(embed_rl, dtype=torch.float32).build(items.query(whole, ""), None).parts[0]["text"] == whole
    assert embedding.build(items.query(whole, ""), None).parts[0]["text"] == whole, "6,000 characters are no limit"
