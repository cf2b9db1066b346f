"""`embedrl doctor parity`: one model in several engines, item by item, with the first stage that differs."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedrl import log
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.export import MODULES
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.parity import Comparison, Trace, own_scaling, trace_ours, trace_plain, trace_sentence_transformers, with_originals
from embedrl.embedder.requests import SHAPES, read_vectors, write_request
from embedrl.errors import ConfigError, EmbedRLError, ModelError
from embedrl.media.content import Image, Text
from embedrl.models.model_server import ModelServer
from embedrl.models.names import is_server, resolve
from embedrl.models.server_answers import ServerFailure
from embedrl.models.weights import read_model_json
from embedrl.runtime.names import load_embedder
from embedrl.world.scenes import sample_scene
from embedrl.world.tasks import draw_family

TIMEOUT_S = 120.0
"""Of one request to a server."""


@dataclass(frozen=True)
class Probe:
    """One input to compare."""

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
    by_design: str = ""
    """Why the stage differs by design, if it does: from media scaled by embedrl, the engine's vector is ours."""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs but what should, as far as it was compared."""
        return self.cosine is None or not self.stage or bool(self.by_design)

    @property
    def said(self) -> str:
        """The stage, as a table says it."""
        return f"ours: {self.stage}" if self.by_design else self.stage


def probes() -> list[Probe]:
    """Make the inputs to compare: texts, images of two sizes, several with crops, a page, a video with key frames."""
    rng = random.Random(0)
    images = tuple(Image(pixels=sample_scene(rng, "train").draw()) for _ in range(3))
    wide = Image(pixels=sample_scene(rng, "train").draw().resize((250, 90)))
    boxes = ((80, 60, 520, 480), (400, 350, 960, 940))
    pointing = TCoT(thinking="Two things matter.", evidence=Evidence(boxes=boxes), rethink="Both are there.", answer="two shapes")
    _, page = draw_family("visdoc_notes", "train", rng, num_variants=0)[0]
    _, clip = draw_family("video_t2v", "train", rng, num_variants=0)[0]
    asked = Item(
        content=(*images, Text(text="What changes from one to the next? <|image_pad|>")), instruction="Answer.", role=Role.QUERY_IMAGE
    )
    return [
        Probe("text", Item(content=(Text(text="a red star <emb>"),), instruction="Find the picture.", role=Role.QUERY_TEXT_TO_IMAGE)),
        Probe("text without an instruction", Item(content=(Text(text="größe"),), role=Role.TARGET_TEXT)),
        Probe("image", Item(content=images[:1], role=Role.TARGET_IMAGE)),
        Probe("wide image, text", Item(content=(wide, Text(text="what is left?")), instruction="Answer.", role=Role.QUERY_IMAGE)),
        Probe("three images, T-CoT, crops", asked, pointing),
        Probe("page, T-CoT", page.item, page.truth),
        Probe("video, T-CoT, key frames", clip.item, clip.truth),
    ]


def compare_engines(embedder: Embedder, folder: Path, probes: Sequence[Probe], server: str | None = None) -> list[Finding]:
    """Send every probe through every engine, with its media as they are: each engine scales them by itself.

    Where its grid should differ (`own_scaling`), the engine gets the media as embedrl scales them as well; only if it then gives our
    vector, the difference is one by design. An engine that cannot be used is reported with its reason, and does not stop the others.
    """
    scaled = [embedder.build(probe.item, probe.tcot) for probe in probes]
    ours = trace_ours(embedder, scaled)
    originals = [with_originals(embedder, probe.item, probe.tcot) for probe in probes]
    reasons = [own_scaling(embedder, built) for built in originals]
    again = [row for row, reason in enumerate(reasons) if reason]
    findings: list[Finding] = []
    for engine, trace in {"transformers": trace_plain, "sentence-transformers": trace_sentence_transformers}.items():
        try:
            theirs = trace(embedder, folder, [*originals, *(scaled[row] for row in again)])
        except EmbedRLError as error:
            findings += [Finding(probe.name, engine, None, f"not compared: {error}") for probe in probes]
            continue
        from_scaled = dict(zip(again, theirs[len(probes) :], strict=True))
        for row, probe in enumerate(probes):
            second = Comparison(ours[row], from_scaled[row]) if row in again else None
            findings.append(_finding(probe, engine, Comparison(ours[row], theirs[row]), second, reasons[row]))
    for row, probe in enumerate(probes) if server else ():
        try:
            first = Comparison(ours[row], Trace(ask_server(str(server), originals[row])))
        except ModelError as error:
            if originals[row].videos:  # vLLM takes times of frames if it is told to
                findings.append(Finding(probe.name, "server", None, f"not compared: {error}"))
                continue
            if row not in again:
                raise
            first = None  # its processor does not scale: it refuses what is no whole grid
        second = Comparison(ours[row], Trace(ask_server(str(server), scaled[row]))) if row in again else None
        findings.append(_finding(probe, "server", first, second, reasons[row]))
    return findings


def _finding(probe: Probe, engine: str, first: Comparison | None, second: Comparison | None, reason: str) -> Finding:
    """Report a comparison (None: refused), and the one from media scaled by embedrl where there is one. A server shows no grid."""
    if first is None:
        assert second is not None, "what is not scaled anew is not refused"
        return Finding(probe.name, engine, second.cosine, second.stage or "pixel grid", "" if second.stage else reason)
    if second is None or first.stage != ("vector" if engine == "server" else "pixel grid"):
        return Finding(probe.name, engine, first.cosine, first.stage)
    if second.stage:
        return Finding(probe.name, engine, second.cosine, second.stage)
    return Finding(probe.name, engine, first.cosine, first.stage, reason)


def ask_server(url: str, built: EmbedderInput) -> np.ndarray:
    """Request a vector from an engine with OpenAI-compatible embeddings of chat messages; `url` ends with /v1. Raises ModelError.

    It must serve the folder of the model, pool the last token, and use the folder's chat template (vLLM does all three).
    """
    if not is_server(url):
        raise ConfigError(f"--server {url!r}: give a URL that starts with http:// or https:// and ends with /v1")
    server = ModelServer(url, "", timeout_s=TIMEOUT_S)
    names = server.models()
    if not names:
        raise ModelError(f"{server.url}: it does not say which model it serves")
    content = server.fetch("/embeddings", write_request(SHAPES["messages"], [built], {"model": names[0]}))
    vectors = content if isinstance(content, ServerFailure) else read_vectors(content, 1)
    if isinstance(vectors, ServerFailure):
        raise ModelError(f"{server.url}: no usable answer ({vectors.reason}: {vectors.text})")
    return vectors[0]


def compare_by_name(embedder: Embedder, name: str, probes: Sequence[Probe], server: str | None = None) -> list[Finding]:
    """Compare as `compare_engines` does, with the folder of a name, or with what `Embedder.save` writes if it is not for other engines.

    Raises ConfigError, ModelError.
    """
    folder = resolve(name, "embedder")
    if not (why := _unfit(folder)):
        return compare_engines(embedder, folder, probes, server)
    log.info(f"{str(folder)!r}: {why}; compared is what Embedder.save writes of it")
    with tempfile.TemporaryDirectory() as saved:
        embedder.save(Path(saved))
        return compare_engines(embedder, Path(saved), probes, server)


def examine_parity(name: str = "nano", server: str | None = None) -> bool:
    """Print a table of engines and probes; say whether all that could be compared is the same. Raises ConfigError, ModelError."""
    embedder = load_embedder(name)
    if not isinstance(embedder, Embedder):
        raise ConfigError(f"--embedder {name!r}: it is no model that other engines could load; give a folder")
    findings = compare_by_name(embedder, name, probes(), server)
    rows = [
        (finding.engine, finding.probe, _DASH if finding.cosine is None else f"{finding.cosine:.6f}", finding.said or "none")
        for finding in findings
    ]
    log.table(f"{embedder.fingerprint} and other engines", ["engine", "item", "cosine", "first stage that differs"], rows)
    for reason in dict.fromkeys(finding.by_design for finding in findings if finding.by_design):
        log.info(f"ours: {reason}; from media scaled by embedrl they give our vectors (docs/parity.md)")
    return all(finding.is_same for finding in findings) and any(finding.cosine is not None for finding in findings)


def _unfit(folder: Path) -> str:
    """Return why other engines cannot be given a folder as it is, or ""."""
    path = folder / "processor_config.json"
    if path.is_file() and read_model_json(path).get("image_processor", {}).get("do_resize") is False:
        return "its processor does not scale images (do_resize is false)"
    return "" if (folder / MODULES).is_file() else f"it does not say how engines pool and scale ({MODULES} is missing)"


_DASH = "\u2013"
