"""Parity of an Embedder with plain transformers and sentence-transformers, stage by stage.

A cosine that is a little low says that something differs, not what. So each engine leaves a trace of what it made of a message, and
the first stage that differs is named: everything behind it differs too.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoModel, AutoProcessor

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.export import AREA_GRID, MODULES, SMALL_FRAMES
from embedrl.embedder.inputs import DecodedItem, EmbedderInput, collate, metadata
from embedrl.errors import ModelError
from embedrl.models.load import loading

MIN_COSINE = 0.999
"""Below this two vectors are not the same one: arithmetic in bf16 stays above."""

_PAD = re.compile(r"(<\|(?:image|video)_pad\|>)+")
_PIXEL_TOLERANCE = 0.035
"""Two of 255 levels, normalised: libraries that scale by the same rule round otherwise."""
_GRIDS = ("image_grid_thw", "video_grid_thw")
_PIXELS = ("pixel_values", "pixel_values_videos")


@dataclass(frozen=True)
class Trace:
    """What an engine made of one message; None where it does not show it."""

    vector: np.ndarray
    """float32 (D,), unit length."""
    text: str | None = None
    """What its tokens say, one placeholder for each image or pair of frames."""
    ids: tuple[int, ...] | None = None
    """Its tokens, likewise: how many placeholders there are follows from the grid."""
    grid: tuple[tuple[int, ...], ...] | None = None
    """Frames, rows and columns of patches of each image and video."""
    pixels: Tensor | None = None
    """All patches, normalised."""
    position: int | None = None
    """Place of the token whose state is the vector; -1 if it is no single one."""


class Comparison:
    """One engine's trace of one item beside ours."""

    def __init__(self, ours: Trace, theirs: Trace) -> None:
        fits = ours.vector.shape == theirs.vector.shape
        self.cosine = float(ours.vector @ theirs.vector) if fits else float("nan")
        self.stage = _first_difference(ours, theirs, self.cosine)
        """The first stage that differs: "" for none."""


def _first_difference(ours: Trace, theirs: Trace, cosine: float) -> str:
    shown = theirs.text is not None
    stages: dict[str, Callable[[], bool]] = {
        "text": lambda: ours.text == theirs.text,
        "token ids": lambda: ours.ids == theirs.ids,
        "pixel grid": lambda: ours.grid == theirs.grid,
        "pixels": lambda: _same_pixels(ours.pixels, theirs.pixels),
        "pooled position": lambda: ours.position == theirs.position,
    }
    differing = (stage for stage, same in stages.items() if shown and not same())
    return next(differing, "" if cosine >= MIN_COSINE else "vector")


def _same_pixels(ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= _PIXEL_TOLERANCE)


def with_originals(embedder: Embedder, item: Item, tcot: TCoT | None) -> EmbedderInput:
    """Build an input for engines that scale by themselves: its item's media as they are, evidence cut out and scaled as for ours."""
    return embedder.build(item, tcot, seen=DecodedItem(item, embedder.budget, embedder.factor, scale=False))


def own_scaling(embedder: Embedder, built: EmbedderInput) -> str:
    """Return why an engine that scales this input by itself sees another grid, as designed; "" if it should see ours.

    What stands here is documented in docs/parity.md; `built` is an input of `with_originals`.
    """
    budget, factor = embedder.budget, embedder.factor
    if budget.grid == "area" and (built.images or built.videos):
        return AREA_GRID
    smallest = budget.frame.min_pixels
    sizes = (frame.size for video in built.videos for frame in video.images[:1])
    if budget.fps and any(round(width / factor) * round(height / factor) * factor**2 < smallest for width, height in sizes):
        return SMALL_FRAMES
    return ""


def trace_ours(embedder: Embedder, inputs: Sequence[EmbedderInput]) -> list[Trace]:
    """Trace our own path."""
    traces = []
    for built in inputs:
        batch = collate(embedder.processor, [built])
        vector = embedder.encode([built])[0].float().cpu().numpy()
        traces.append(_trace(embedder.processor, batch, vector, int(batch["attention_mask"].sum()) - 1))
    return traces


def trace_plain(embedder: Embedder, folder: Path, inputs: Sequence[EmbedderInput]) -> list[Trace]:
    """Trace transformers alone, as any engine with last-token pooling works: its own model and processor, its own chat template.

    Raises ModelError if transformers cannot load the folder by itself.
    """
    with loading(folder):
        model = AutoModel.from_pretrained(folder, dtype=embedder.model.dtype, local_files_only=True, trust_remote_code=False)
        model = model.eval().to(embedder.model.device)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    traces = []
    for built in inputs:
        videos = {"video_metadata": [metadata(video) for video in built.videos], "do_sample_frames": False} if built.videos else {}
        batch = processor(
            text=[processor.apply_chat_template(built.messages, add_generation_prompt=True)],
            images=list(built.images) or None,
            videos=[list(video.images) for video in built.videos] or None,
            return_tensors="pt",
            **videos,
        )
        with torch.inference_mode():
            state = model(**batch.to(model.device)).last_hidden_state[0, -1]
        vector = embedder.project(torch.nn.functional.normalize(state.float(), dim=-1)).cpu().numpy()
        traces.append(_trace(processor, batch, vector, batch["input_ids"].shape[1] - 1))
    return traces


def trace_sentence_transformers(
    embedder: Embedder, folder: Path, inputs: Sequence[EmbedderInput], *, with_times: bool = True
) -> list[Trace]:
    """Trace sentence-transformers on the files that `Embedder.save` writes for it.

    Without `with_times` it is not told when the frames of a video were seen, as a caller may forget. Raises ModelError.
    """
    if not (folder / MODULES).is_file():
        raise ModelError(f"{str(folder)!r} has no {MODULES}: save the model with embedrl first (Embedder.load(…).save(…))")
    with loading(folder):
        model = SentenceTransformer(
            str(folder),
            device=str(embedder.model.device),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": embedder.model.dtype},
        )
    traces = []
    for built in inputs:
        videos: dict[str, Any] = {"do_sample_frames": False}
        if with_times and built.videos:
            videos["video_metadata"] = [metadata(video) for video in built.videos]
        batch = model.preprocess([filled(built)], processing_kwargs={"video": videos} if built.videos else None)
        shown = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
        on_device = {name: value.to(embedder.model.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        with torch.inference_mode():
            outputs = model.forward(on_device)
        vector, states = outputs["sentence_embedding"][0].float(), outputs["token_embeddings"][0].float()
        cosines = embedder.project(torch.nn.functional.normalize(states, dim=-1)) @ vector
        best = int(cosines.argmax())
        position = best if float(cosines[best]) >= MIN_COSINE else -1
        traces.append(_trace(embedder.processor, shown, vector.cpu().numpy(), position))
    return traces


def filled(built: EmbedderInput) -> list[dict[str, Any]]:
    """Return the messages with their images and frames in them."""
    images, videos = iter(built.images), iter(built.videos)
    parts = []
    for part in built.parts:
        match part["type"]:
            case "image":
                parts.append({**part, "image": next(images)})
            case "video":
                parts.append({**part, "video": np.stack([np.asarray(frame) for frame in next(videos).images])})
            case _:
                parts.append(part)
    return [*built.messages[:-1], {"role": "user", "content": parts}]


def collapse(processor: Any, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Return what tokens say, and the tokens, each run of placeholders of an image or a pair of frames as one."""
    text = _PAD.sub(r"\1", processor.tokenizer.decode(ids))
    pads = set(processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>"]))
    return text, tuple(token for token, before in zip(ids, [None, *ids], strict=False) if token != before or token not in pads)


def _trace(processor: Any, batch: Any, vector: np.ndarray, position: int) -> Trace:
    text, ids = collapse(processor, batch["input_ids"][0].tolist())
    grid = tuple(tuple(row) for name in _GRIDS if name in batch for row in batch[name].tolist())
    patches = [batch[name].float().cpu() for name in _PIXELS if name in batch]
    return Trace(vector, text, ids, grid, torch.cat(patches) if patches else None, position)
