"""`embedrl doctor parity`: one model through several engines, item by item, with the first stage that differs."""

import base64
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from embedrl import log
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.parity import Comparison, Trace, trace_ours, trace_plain, trace_sentence_transformers
from embedrl.errors import ConfigError, EmbedRLError, ModelError
from embedrl.media.content import Image, Text
from embedrl.models.names import resolve
from embedrl.reasoner.remote import ENDPOINT, ChatFailure, ChatFailureReason, ChatServer
from embedrl.runtime.names import load_embedder
from embedrl.world.scenes import sample_scene
from embedrl.world.tasks import draw_family

TIMEOUT_S = 120.0
"""Of one request to a server."""


@dataclass(frozen=True)
class Probe:
    """One thing to embed."""

    name: str
    item: Item
    tcot: TCoT | None = None


@dataclass(frozen=True)
class Finding:
    """One engine on one probe."""

    probe: str
    engine: str
    cosine: float | None
    """None if it was not compared."""
    stage: str
    """The first stage that differs, why it was not compared, or nothing."""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs, as far as it was compared."""
        return self.cosine is None or not self.stage


def probes() -> list[Probe]:
    """Make what is compared: a text, a picture, several pictures with crops, a page, a video with key frames."""
    rng = random.Random(0)
    pictures = tuple(Image(pixels=sample_scene(rng, "train").draw()) for _ in range(3))
    boxes = ((80, 60, 520, 480), (400, 350, 960, 940))
    pointing = TCoT(thinking="Two things matter.", evidence=Evidence(boxes=boxes), rethink="Both are there.", answer="two shapes")
    _, page = draw_family("visdoc_notes", "train", rng, num_variants=0)[0]
    _, clip = draw_family("video_t2v", "train", rng, num_variants=0)[0]
    asked = Item(
        content=(*pictures, Text(text="What changes from one to the next? <|image_pad|>")), instruction="Answer.", role=Role.QUERY_IMAGE
    )
    return [
        Probe("text", Item(content=(Text(text="a red star <emb>"),), instruction="Find the picture.", role=Role.QUERY_TEXT_TO_IMAGE)),
        Probe("picture", Item(content=pictures[:1], role=Role.TARGET_IMAGE)),
        Probe("three pictures, T-CoT, crops", asked, pointing),
        Probe("page, T-CoT", page.item, page.truth),
        Probe("video, T-CoT, key frames", clip.item, clip.truth),
    ]


def compare_engines(embedder: Embedder, folder: Path, probes: Sequence[Probe], server: str | None = None) -> list[Finding]:
    """Send every probe through every engine. One that cannot be used is told with its reason, and does not stop the others."""
    inputs = [embedder.build(probe.item, probe.tcot) for probe in probes]
    ours = trace_ours(embedder, inputs)
    findings: list[Finding] = []
    for engine, trace in {"transformers": trace_plain, "sentence-transformers": trace_sentence_transformers}.items():
        try:
            theirs = trace(embedder, folder, inputs)
        except EmbedRLError as error:
            findings += [Finding(probe.name, engine, None, f"not compared: {error}") for probe in probes]
            continue
        findings += [_finding(probe, engine, *pair) for probe, *pair in zip(probes, ours, theirs, strict=True)]
    for probe, built, mine in zip(probes, inputs, ours, strict=True) if server else ():
        if built.videos:
            findings.append(Finding(probe.name, "server", None, "not compared: requests carry no times of frames"))
        else:
            findings.append(_finding(probe, "server", mine, Trace(ask_server(str(server), built))))
    return findings


def _finding(probe: Probe, engine: str, ours: Trace, theirs: Trace) -> Finding:
    comparison = Comparison(ours, theirs)
    return Finding(probe.name, engine, comparison.cosine, comparison.stage)


def ask_server(url: str, built: EmbedderInput) -> np.ndarray:
    """Ask an engine with OpenAI-shaped embeddings of chat messages for a vector: `url` ends with /v1. Raises ModelError.

    It must serve the folder of the model, pool the last token, and use the folder's chat template (vLLM does all three).
    """
    images = iter(built.images)
    parts = [
        {"type": "image_url", "image_url": {"url": _data_url(next(images))}} if part["type"] == "image" else part for part in built.parts
    ]
    messages = [*built.messages[:-1], {"role": "user", "content": parts}]
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--server {url!r}: give a URL that starts with http:// or https:// and ends with /v1")
    server = ChatServer(f"{url.rstrip('/')}{ENDPOINT}", "", timeout_s=TIMEOUT_S)  # as it is given, with no /v1 added
    asked = {"model": _served(server), "messages": messages, "encoding_format": "float", "add_generation_prompt": True}
    answer = _fetch(server, "/embeddings", asked)
    try:
        vector = np.asarray(answer["data"][0]["embedding"], dtype=np.float32)
        norm = float(np.linalg.norm(vector))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{url}: the answer holds no embedding ({error})") from error
    if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
        raise ModelError(f"{url}: the answer is no vector of finite numbers")
    return vector / norm


def _served(server: ChatServer) -> str:
    try:
        return str(_fetch(server, "/models")["data"][0]["id"])
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(f"{server.url}: it does not say which model it serves ({error})") from error


def _fetch(server: ChatServer, path: str, asked: dict[str, Any] | None = None) -> Any:
    answer = server.fetch(path, asked)
    if isinstance(answer, ChatFailure):
        status = "status " if answer.reason == ChatFailureReason.REFUSED else ""
        raise ModelError(f"{server.url}{path}: no usable answer ({answer.reason}: {status}{answer.text})")
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{server.url}{path}: no usable answer ({error})") from error


def _data_url(picture: PIL.Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def examine_parity(name: str = "nano", server: str | None = None) -> bool:
    """Print a table of engines and probes; say whether all that could be compared is the same. Raises ConfigError, ModelError."""
    embedder = load_embedder(name)
    if not isinstance(embedder, Embedder):
        raise ConfigError(f"--embedder {name!r}: it is no model that other engines could load; give a folder")
    findings = compare_engines(embedder, resolve(name, "embedder"), probes(), server)
    rows = [
        (finding.engine, finding.probe, _DASH if finding.cosine is None else f"{finding.cosine:.6f}", finding.stage or "none")
        for finding in findings
    ]
    log.table(f"{embedder.fingerprint} and other engines", ["engine", "item", "cosine", "first stage that differs"], rows)
    return all(finding.is_same for finding in findings) and any(finding.cosine is not None for finding in findings)


_DASH = "\u2013"
