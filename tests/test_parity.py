"""Other engines beside ours: the same vectors from the same messages, and the first stage that differs where they are not."""

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedrl.cli.main import main
from embedrl.data import items
from embedrl.data.sample import Item, Role
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.export import AREA_GRID, SMALL_FRAMES
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.parity import Comparison, Trace, trace_ours, trace_sentence_transformers, with_originals
from embedrl.errors import ConfigError, ModelError
from embedrl.integrations.parity import Probe, ask_server, compare_engines, probes
from embedrl.media.content import Frames, Video
from embedrl.models.names import shipped
from embedrl.models.weights import save_bf16
from tests.checkpoints import write_embed_rl, write_qwen3_vl_embedding

FOLDER = shipped("embedder")["nano"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(FOLDER)


@pytest.fixture(scope="module")
def folder(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What other engines load: the shipped folder is older than the files that let them scale."""
    saved = tmp_path_factory.mktemp("saved") / "nano"
    embedder.save(saved)
    return saved


class Engine(ThreadingHTTPServer):
    """Serves embeddings of chat messages as an engine on the saved folder does."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.embedder = embedder
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.answer: Any = None
        """What it answers instead of a vector."""
        self.scales = True
        """Whether it takes images that are no whole grid."""

    def embed(self, asked: dict[str, Any]) -> list[float]:
        images, videos, parts = [], [], []
        for part in asked["messages"][-1]["content"]:
            match part["type"]:
                case "image_url":
                    images += pictures(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
                    parts.append({"type": "image"})
                case "video_url":
                    told = asked["media_io_kwargs"]["video"]
                    frames = pictures(part["video_url"]["url"].removeprefix("data:video/jpeg;base64,"))
                    videos.append(Frames(tuple(frames), tuple(number / told["fps"] for number in told["frames_indices"])))
                    parts.append({"type": "video"})
                case _:
                    parts.append(part)
        assert asked["model"] == "mine"
        assert asked["add_generation_prompt"] is True
        own = tuple(part["text"] for part in parts if part["type"] == "text")  # it trusts its client
        budget, factor = self.embedder.budget, self.embedder.factor  # an engine scales by itself
        if not self.scales and any(side % factor for image in images for side in image.size):
            return []
        images = [budget.fit(image, "image", factor) for image in images]
        videos = [Frames(tuple(budget.fit(frame, "frame", factor) for frame in video.images), video.times_s) for video in videos]
        built = EmbedderInput([{"role": "user", "content": parts}], tuple(images), tuple(videos), own=own)
        return (3 * self.embedder.encode([built])[0]).tolist()


def pictures(data: str) -> list[PIL.Image.Image]:
    return [PIL.Image.open(io.BytesIO(base64.b64decode(picture))) for picture in data.split(",")]


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        self._send({"data": [{"id": "mine"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self.server.answer or {"data": [{"embedding": self.server.embed(asked)}]})

    def _send(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(200 if not self.path.startswith("/none/") else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def engine(embedder: Embedder) -> Iterator[Engine]:
    with Engine(embedder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_every_engine_gives_our_vectors_from_original_media(embedder: Embedder, folder: Path, engine: Engine):
    """Engines are given media as they are. This model's grids are those nearest to the area: a wide image differs as it should."""
    given = probes()
    sizes = [image.size for probe in given for image in with_originals(embedder, probe.item, probe.tcot).images]
    assert (250, 90) in sizes, "not scaled by us"
    findings = compare_engines(embedder, folder, given, engine.url)
    assert len(findings) == 3 * len(given)
    assert all(found.is_same for found in findings)
    for found in findings:
        if found.probe == "wide image, text" and found.engine != "server":
            assert found.said == "ours: pixel grid"
            assert found.by_design == AREA_GRID
        else:
            assert found.said == "", found
            assert found.cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("changed", "stage"), [("weights", "vector"), ("template", "text")])
def test_a_difference_by_design_hides_no_other(embedder: Embedder, folder: Path, engine: Engine, tmp_path: Path, changed: str, stage: str):
    """A folder with other weights, or another template, fails for the wide image too, whose grid may differ."""
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    if changed == "weights":
        other = Embedder.load(folder)
        with torch.no_grad():
            for weight in other.model.language_model.norm.parameters():
                weight[: len(weight) // 2] *= -1
        save_bf16(other.model, broken)
    else:
        template = (broken / "chat_template.jinja").read_text("utf-8")
        (broken / "chat_template.jinja").write_text(template.replace("<emb>", "<|im_end|>"), "utf-8")
    [wide] = [probe for probe in probes() if "wide" in probe.name]
    findings = compare_engines(embedder, broken, [wide])
    assert [(found.stage, found.by_design, found.is_same) for found in findings] == [(stage, "", False)] * 2


def test_a_server_that_does_not_scale_is_given_what_embedrl_has_scaled(embedder: Embedder, engine: Engine, tmp_path: Path):
    """vLLM on the shipped folder, whose processor does not scale: it refused the wide image, and there was no report at all."""
    (tmp_path / "config.json").write_text("{}")
    engine.scales = False
    given = [probe for probe in probes() if probe.name in ("text", "wide image, text")]
    findings = [found for found in compare_engines(embedder, tmp_path, given, engine.url) if found.engine == "server"]
    assert [(found.said, found.is_same) for found in findings] == [("", True), ("ours: pixel grid", True)]
    assert min(found.cosine or 0 for found in findings) > 0.99999


def test_frames_without_their_times_are_found_in_the_text(embedder: Embedder, folder: Path):
    [clip] = [probe for probe in probes() if "video" in probe.name]
    inputs = [embedder.build(clip.item, clip.tcot)]
    [ours] = trace_ours(embedder, inputs)
    [theirs] = trace_sentence_transformers(embedder, folder, inputs, with_times=False)
    found = Comparison(ours, theirs)
    assert found.stage == "text"
    assert "seconds>" in str(ours.text)
    assert found.cosine < 1 - 1e-5


def test_the_first_stage_that_differs_is_named():
    ours = Trace(np.array([1, 0], np.float32), "a", (1, 2), ((1, 2, 2),), torch.zeros(4, 3), 1)
    pixels = torch.zeros(4, 3)
    pixels[0, 0] = 0.1
    changes = {
        "text": {"text": "b", "ids": (1, 3)},
        "token ids": {"ids": (1, 3), "grid": ()},
        "pixel grid": {"grid": ((1, 2, 4),), "pixels": torch.zeros(8, 3)},
        "pixels": {"pixels": pixels, "position": 0},
        "pooled position": {"position": 0},
        "vector": {"vector": np.array([0, 1], np.float32)},
        "": {"vector": np.array([0.99999, 0.0044], np.float32)},
    }
    for stage, change in changes.items():
        assert Comparison(ours, replace(ours, **change)).stage == stage
    assert Comparison(ours, Trace(np.array([0, 1], np.float32))).stage == "vector", "a server shows nothing else"
    assert Comparison(ours, Trace(np.ones(3, np.float32))).stage == "vector"
    assert Comparison(ours, replace(ours, pixels=None)).stage == "pixels"


@pytest.mark.parametrize(("write", "end"), [(write_embed_rl, "<emb>"), (write_qwen3_vl_embedding, "")])
def test_what_is_saved_of_a_published_model_gives_other_engines_our_vectors(tmp_path: Path, write: Any, end: str):
    """All probes, from original media. A published folder of Embed-RL writes no `<emb>`.

    Qwen3-VL-Embedding's least size is that of a frame, a processor's that of a clip: tiny frames differ, and that is said. A large clip
    of few frames was four times as large for others: their limit was that of the clip alone.
    """
    model = Embedder.load(write(tmp_path / "published"), dtype=torch.float32)
    if end:
        plain = compare_engines(model, tmp_path / "published", probes()[:1])[:1]
        assert {found.stage for found in plain} == {"text"}
    model.save(tmp_path / "saved")
    saved = Embedder.load(tmp_path / "saved", dtype=torch.float32)
    frames = tuple(PIL.Image.effect_mandelbrot((1216, 832), (-2, -1.5 + step, 1, 1.5), 20).convert("RGB") for step in (0, 0.5))
    clip = Probe("large clip", Item(content=(Video(frames=Frames(frames, (0.0, 1.0))),), role=Role.TARGET_VIDEO))
    findings = compare_engines(saved, tmp_path / "saved", [*probes(), clip] if not end else probes())
    assert all(found.is_same for found in findings)
    assert len(findings) == 2 * (len(probes()) + (not end))
    said = {(found.probe, found.said, found.by_design) for found in findings if found.stage}
    assert said == (set() if end else {("video, T-CoT, key frames", "ours: pixel grid", SMALL_FRAMES)})
    assert "normalise" not in (tmp_path / "saved" / "README.md").read_text("utf-8"), "as published, alike"
    card = (tmp_path / "saved" / "README.md").read_text("utf-8")
    assert (SMALL_FRAMES[1:] in card) is not bool(end)
    assert "library_name: sentence-transformers" in card


def test_a_saved_model_tells_others_its_default_instruction(tmp_path: Path):
    """sentence-transformers' `encode("text")` of a saved Qwen3-VL-Embedding was another vector: nothing told it the system turn."""
    model = Embedder.load(write_qwen3_vl_embedding(tmp_path / "published"), dtype=torch.float32)
    model.save(tmp_path / "saved")
    other = SentenceTransformer(str(tmp_path / "saved"), device="cpu", local_files_only=True)
    ours = model.embed([items.query("a red star", "")], [None])[0]
    assert float(other.encode("a red star") @ ours) > 0.999
    Embedder.load(tmp_path / "saved").save(tmp_path / "again")
    written = [(tmp_path / name / "chat_template.jinja").read_text() for name in ("saved", "again")]
    assert written[0] == written[1]


def test_an_engine_that_cannot_be_used_is_told(embedder: Embedder, engine: Engine, tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    findings = compare_engines(embedder, tmp_path, probes()[:1])
    assert [found.cosine for found in findings] == [None, None]
    assert "cannot be loaded: ValueError" in findings[0].stage
    assert "has no modules.json" in findings[1].stage
    built = embedder.build(probes()[0].item, None)
    for answer, message in (({"data": []}, "0 vectors for 1 inputs"), ({"data": [{"embedding": [0.0]}]}, "a vector of zeros")):
        engine.answer = answer
        with pytest.raises(ModelError, match=message):
            ask_server(engine.url, built)
    with pytest.raises(ModelError, match="404"):
        ask_server(engine.url.replace("/v1", "/none"), built)
    with pytest.raises(ConfigError, match="give a URL that starts with http"):
        ask_server("localhost:8000", built)


def test_doctor_parity_prints_a_table(capsys: pytest.CaptureFixture[str]):
    for words, code in ((("parity",), 0), (("parity", "--embedder", "fake"), 2), (("--server", "http://localhost"), 2)):
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *words])
        assert int(ended.value.code or 0) == code
        if code == 0:
            printed = capsys.readouterr()
            rows = [line.split("\t") for line in printed.out.splitlines()]
            assert rows[0] == ["engine", "item", "cosine", "first stage that differs"]
            assert len(rows) == 15
            assert {row[1]: row[3] for row in rows[1:] if row[3] != "none"} == {"wide image, text": "ours: pixel grid"}
            assert AREA_GRID in printed.err
            assert {row[0] for row in rows[1:]} == {"transformers", "sentence-transformers"}
