"""An Embedder behind a server: `embedrl serve`, vLLM's pooling, llama.cpp, Ollama, or any OpenAI-compatible endpoint of embeddings.

Inputs are built here, as those of a local Embedder: images scaled, evidence cut out, special tokens broken up. A server is tried with
probes first; its answers to them are part of the fingerprint, so that another model behind the same name is another Embedder
(`data.vectors.same_embedder` compares them within what rounding changes).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pydantic import BaseModel, ValidationError

from embedrl import log
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import SPECIAL_TOKEN, TCoT
from embedrl.data.vectors import probes_mark
from embedrl.embedder.embedder import Embedder, EmbedderSettings, ending
from embedrl.embedder.inputs import (
    DecodedItem,
    EmbedderInput,
    EmbedderPrompt,
    PromptFormat,
    build,
    check_inputs,
    collate,
    text_limit,
    text_measure,
    token_ends,
    within_text_limit,
)
from embedrl.embedder.requests import MARKER, SHAPES, RequestShape, read_vectors, write_request
from embedrl.errors import MediaError, ModelError
from embedrl.media.content import Frames, Image, Text, Video, part_files
from embedrl.media.passages import TextMeasure
from embedrl.media.resize import PAPER_BUDGET
from embedrl.models.added_tokens import added_tokens
from embedrl.models.hub import locate
from embedrl.models.load import load_parts, read_settings, token_side
from embedrl.models.model_server import ModelServer
from embedrl.models.server_answers import ServerFailure, ServerFailureReason, read
from embedrl.models.server_name import read_server_name

MIN_COSINE = 0.999
"""Below this two vectors of the same input are not the same one: arithmetic in bf16 stays above."""
MAX_COSINE = 1 - 1e-6
"""From this on the server does not tell two inputs apart."""

_GENERAL = EmbedderPrompt.of(PAPER_BUDGET, PromptFormat(end="", request=None, wraps_videos=False), 32)
"""How a model is asked of which nothing is known: the instruction as a system turn, then what is embedded."""


def probe_items() -> dict[str, Item]:
    """Return what a server is tried with, always the same: two texts, two images, a video."""
    striped, checked = (PIL.Image.new("RGB", (64, 64), colour) for colour in ((230, 30, 30), (20, 60, 220)))
    for step in range(0, 64, 16):
        striped.paste((250, 240, 40), (0, step, 64, step + 8))
        checked.paste((240, 240, 240), (step, step, step + 16, step + 16))
    frames = Frames((striped, checked, striped, checked), (0.0, 0.5, 1.0, 1.5))
    return {
        "text": Item(content=(Text(text="a small red star above 12 blue cards"),), instruction="Find the image.", role=Role.TARGET_TEXT),
        "other text": Item(content=(Text(text="Wie wird das Wetter? 天气"),), instruction="Describe the text.", role=Role.TARGET_TEXT),
        "image": Item(content=(Image(pixels=striped),), instruction="Describe the image.", role=Role.TARGET_IMAGE),
        "other image": Item(content=(Image(pixels=checked),), instruction="Describe the image.", role=Role.TARGET_IMAGE),
        "video": Item(content=(Video(frames=frames),), instruction="Describe the video.", role=Role.TARGET_VIDEO),
    }


class RemoteEmbedder:
    """A model on a server that embeds items. Fulfils `Embeds`."""

    def __init__(self, server: ModelServer, prompt: EmbedderPrompt = _GENERAL, processor: Any = None, *, like: Path | None = None) -> None:
        """Try a server with probes.

        `processor` is that of the model that is served, if its folder is here; `like` is a folder whose own vectors it must give.
        Raises ModelError if it is not reached, or if its vectors differ in size, are not finite, not repeatable, or all the same.
        """
        self.server, self.prompt, self.processor = server, prompt, processor
        self.where = f"{server.model!r} at {server.url}"
        self._special = SPECIAL_TOKEN if processor is None else added_tokens(processor).pattern
        self._has_cut = self._has_said_blind = False
        self._marker = MARKER
        self.shape = self._find_shape()
        vectors = self._probe()
        self.dim: int = len(next(iter(vectors.values())))
        if like is not None:
            self._compare(like, vectors)
        renders = self.processor is not None and self.shape.name != "messages"  # else the server renders
        asked = json.dumps([self.shape.name, prompt.model_dump(), server.extra, renders, list(vectors)], sort_keys=True)
        mark = probes_mark(np.stack(list(vectors.values())))
        self.fingerprint = f"{server.model}-{self.dim}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}{mark}"

    @classmethod
    def from_url(cls, url: str, **options: Any) -> "RemoteEmbedder":
        """Make one from `http://host:8000/v1#model?timeout_s=60`, with options of `ModelServer`. Raises as its `from_url`.

        `embedrl serve` tells how its model is asked. For another engine that serves a folder which is here too, `settings=FOLDER` says it;
        `like=FOLDER` compares with the folder's own vectors as well. Without, it is asked as a general model.
        """
        name = read_server_name(url)
        server, asked = ModelServer.from_url(url, **options), name.client
        folder = asked.get("like") or asked.get("settings")
        if folder is not None:
            prompt, processor = _of_folder(locate(folder))
            return cls(server, prompt, processor, like=locate(folder) if asked.get("like") else None)
        settings = next((model.embeds for model in server.listed().data if model.id == server.model), None)
        if settings is None:
            return cls(server)
        try:
            return cls(server, EmbedderPrompt.model_validate(settings))
        except ValidationError as error:
            raise ModelError(f"{server.url}: says of {server.model!r} what cannot be read ({error.errors()[0]['msg']})") from error

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order. A None T-CoT gives the plain vector.

        Raises MediaError for an item that cannot be read, or that the server does not take, and ModelError if it does not answer.
        """
        check_inputs(items, tcots)
        seen = {id(item): item for item in items}
        decoded = {key: DecodedItem(item, self.prompt.budget, self.prompt.factor) for key, item in seen.items() if self._sees(item)}
        built = [self._build(item, tcot, decoded.get(id(item))) for item, tcot in zip(items, tcots, strict=True)]
        outcomes = self._ask(self.shape, built)
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, ServerFailure):
                raise self._error(item, outcome)
            if outcome.size != self.dim:
                raise ModelError(
                    f"{self.where}: a vector of {outcome.size} numbers, where the probes had {self.dim}: another model is served"
                )
        vectors = [outcome for outcome in outcomes if not isinstance(outcome, ServerFailure)]
        return np.stack(vectors) if vectors else np.empty((0, self.dim), np.float32)

    @property
    def text_measure(self) -> TextMeasure:
        """How much of a text is sent to it, and its tokens, if its folder is here."""
        return text_measure(self.prompt.budget, None if self.processor is None else partial(token_ends, tokenizer=self.processor.tokenizer))

    def _error(self, item: Item, failure: ServerFailure) -> ModelError | MediaError:
        text = f"{self.where} has no vector ({failure.reason}: {failure.text})"
        if not failure.about_item:
            return ModelError(text)
        files = [str(path) for part in item.content for path in part_files(part)]
        return MediaError(f"{', '.join(map(repr, files)) or repr(item.text[:60])}: {text}")

    def _sees(self, item: Item) -> bool:
        """Say whether the images of an item are shown; warn once if they are not."""
        if item.visual is None or self.shape.takes_images:
            return item.visual is not None
        if not self._has_said_blind:
            self._has_said_blind = True
            log.warn(f"{self.where} takes texts only: images and videos are embedded as what their T-CoTs say; without one, all are alike")
        return False

    def _build(self, item: Item, tcot: TCoT | None, seen: DecodedItem | None) -> EmbedderInput:
        shortened = within_text_limit(item, self.prompt.budget, self.processor and self.processor.tokenizer)
        if shortened is not item and not self._has_cut:
            self._has_cut = True
            log.warn(f"text behind {text_limit(self.prompt.budget)} of an item is not seen: all that {self.where} reads")
        item = shortened
        return build(
            item,
            tcot,
            self.prompt.budget,
            self.prompt.factor,
            show_media=seen is not None,
            seen=seen,
            layout=self.prompt.layout,
            special=self._special,
        )

    def _ask(self, shape: RequestShape, built: Sequence[EmbedderInput]) -> list[np.ndarray | ServerFailure]:
        """Return a vector or a failure for each input, in order. Of several in one request that is refused, each is asked for alone."""
        size = shape.num_at_once
        groups = [built[start : start + size] for start in range(0, len(built), size)]
        outcomes: list[np.ndarray | ServerFailure] = []
        for group, content in zip(
            groups, self.server.post_each("/embeddings", [self._body(shape, group) for group in groups]), strict=True
        ):
            vectors = content if isinstance(content, ServerFailure) else read_vectors(content, len(group))
            if isinstance(vectors, ServerFailure) and vectors.about_item and len(group) > 1:
                outcomes += [outcome for one_input in group for outcome in self._ask(shape, [one_input])]
            else:
                outcomes += [vectors] * len(group) if isinstance(vectors, ServerFailure) else list(vectors)
        return outcomes

    def _body(self, shape: RequestShape, inputs: Sequence[EmbedderInput]) -> Callable[[], bytes]:
        settings = {"model": self.server.model} | {name: value for name, value in self.server.extra.items() if value is not None}
        return partial(write_request, shape, inputs, settings, processor=self.processor, marker=self._marker)

    # ---- probes

    def _find_shape(self) -> RequestShape:
        """Return the shape of requests that the server takes."""
        text = self._build(probe_items()["text"], None, None)
        if (marker := self._media_marker()) is not None:
            self._marker = marker
            return SHAPES["prompts"]
        failures = []
        for name in ("messages", "texts"):
            [outcome] = self._ask(SHAPES[name], [text])
            if not isinstance(outcome, ServerFailure):
                return SHAPES[name]
            failures.append(outcome)
            if not outcome.about_item and outcome.reason != ServerFailureReason.MALFORMED:
                break
        raise ModelError(f"{self.where} gives no vectors ({failures[-1].reason}: {failures[-1].text})")

    def _media_marker(self) -> str | None:
        """Return what stands for an image in a prompt of llama.cpp, or None for another server."""
        content = self.server.fetch(f"{self.server.url}/props")
        props = content if isinstance(content, ServerFailure) else read(content, _Props)
        return None if isinstance(props, ServerFailure) else props.media_marker or MARKER

    def _probe(self) -> dict[str, np.ndarray]:
        """Return the vectors of the probes that the server takes. Raises ModelError for a server that cannot be used."""
        items = probe_items()
        shown = {name: item for name, item in items.items() if item.visual is None or self.shape.takes_images}
        built = {
            name: self._build(item, None, DecodedItem(item, self.prompt.budget, self.prompt.factor) if item.visual else None)
            for name, item in shown.items()
        }
        vectors: dict[str, np.ndarray] = {}
        for name, probe in built.items():
            [outcome] = self._ask(self.shape, [probe])
            if not isinstance(outcome, ServerFailure):
                vectors[name] = outcome
            elif items[name].visual is None or not outcome.about_item:
                raise ModelError(f"{self.where} has no vector for the probe {name!r} ({outcome.reason}: {outcome.text})")
            else:
                log.warn(f"{self.where} does not take the probe {name!r} ({outcome.text}): such items will fail")
        if len(sizes := {vector.size for vector in vectors.values()}) > 1:
            raise ModelError(f"{self.where}: vectors of {' and '.join(map(str, sorted(sizes)))} numbers; an Embedder gives one size")
        again = self._ask(self.shape, [built[name] for name in vectors])
        for (name, vector), second in zip(vectors.items(), again, strict=True):
            if isinstance(second, ServerFailure):
                raise ModelError(f"{self.where} has no vector for the probe {name!r} the second time ({second.reason}: {second.text})")
            cosine = float(vector @ second) if vector.shape == second.shape else 0.0
            if cosine < MIN_COSINE:
                raise ModelError(
                    f"{self.where}: its vectors are not repeatable (the probe {name!r} has cosine {cosine:.4f} to itself); "
                    "what it gives today cannot be compared with what it gave yesterday"
                )
        for name in ("text", "image"):
            if {name, f"other {name}"} <= set(vectors) and float(vectors[name] @ vectors[f"other {name}"]) > MAX_COSINE:
                raise ModelError(
                    f"{self.where}: two different {name}s have the same vector: the server does not pass {name}s to its model "
                    "(does its chat template, or its model, take them?)"
                )
        return vectors

    def _compare(self, folder: Path, vectors: dict[str, np.ndarray]) -> None:
        """Raise ModelError if the probes' vectors are not those of a folder, naming the first stage that differs."""
        local, items = Embedder.load(folder), probe_items()
        for name, theirs in vectors.items():
            ours = local.embed([items[name]], [None])[0]
            if ours.shape != theirs.shape:
                raise ModelError(f"{self.where} is not {str(folder)!r}: vectors of {theirs.size} numbers, not of {ours.size}")
            if (cosine := float(ours @ theirs)) < MIN_COSINE:
                stage = self._first_difference(local, local.build(items[name], None))
                raise ModelError(
                    f"{self.where} is not {str(folder)!r}: the probe {name!r} has cosine {cosine:.4f} to its own; "
                    f"the first stage that differs: {stage}"
                )

    def _first_difference(self, local: Embedder, built: EmbedderInput) -> str:
        """Name the stage: "tokens" where the server shows others than the folder makes, else "vector"."""
        asked = json.loads(write_request(SHAPES["messages"], [built], {"model": self.server.model}))
        asked.pop("encoding_format")
        content = self.server.fetch(f"{self.server.url}/tokenize", asked)
        shown = content if isinstance(content, ServerFailure) else read(content, _Tokens)
        if isinstance(shown, ServerFailure):
            return "vector (the server does not show its tokens)"
        pads = set(local.processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"]))
        ours, theirs = (
            [token for token, before in zip(ids, [None, *ids], strict=False) if token != before or token not in pads]
            for ids in (collate(local.processor, [built])["input_ids"][0].tolist(), shown.tokens)
        )
        return "vector" if ours == theirs else "tokens"


class _Props(BaseModel):
    """What llama.cpp tells of itself."""

    default_generation_settings: dict[str, Any]
    media_marker: str | None = None


class _Tokens(BaseModel):
    tokens: list[int]


def _of_folder(folder: Path) -> tuple[EmbedderPrompt, Any]:
    """Return how the Embedder of a folder is asked, and its processor. Raises ModelError."""
    config, processor = load_parts(folder)
    budget, layout = (read_settings(folder, EmbedderSettings, {}) or EmbedderSettings()).complete(ending(processor, config))
    return EmbedderPrompt.of(budget, layout, token_side(config)), processor
