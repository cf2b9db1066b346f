"""mteb encoder: a Reasoner and an Embedder on tasks of texts, images, document pages and videos.

    import mteb
    from embedrl.integrations.mteb import MTEBEncoder

    encoder = MTEBEncoder.named("path/to/embedder", "path/to/reasoner")
    mteb.evaluate(encoder, mteb.get_tasks(["VidoreDocVQARetrieval"]))

Items get the instruction of their task; where it has none, the one that our models were trained with. mteb is the extra "mteb".
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from embedrl import log
from embedrl.data import items
from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.reasoning import Patience, TCoTCounts, ask
from embedrl.data.sample import Item
from embedrl.data.sources.media_folder import FRAME_INTERVAL_S, NUM_FRAMES, evenly
from embedrl.data.sources.pair import plain
from embedrl.data.tcot import TCoT, tcot_or_none
from embedrl.data.vectors import embed_unit
from embedrl.errors import ConfigError, MediaError
from embedrl.evaluation.cache import Cache, CachedEmbedder, CachedReasoner
from embedrl.media.content import Content, Frames, Image, Text, Video
from embedrl.runtime.names import load_both

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import PromptType

MODALITIES = ("text", "image", "video")
BLANK = "(blank)"
"""Placeholder for empty texts, since mteb needs a vector per row."""
INSTALL = "pip install 'embedrl[mteb]'"

_Vectors = np.ndarray | Tensor


class MTEBEncoder:
    """Implements mteb's EncoderProtocol. Without a T-CoT an item is embedded plain."""

    def __init__(self, embedder: Embeds, reasoner: Reasons | None = None, *, num_frames: int | None = None) -> None:
        """Take models; of a video they are given `num_frames` frames, or else as many as the Reasoner sees.

        Raises ConfigError if mteb is not installed.
        """
        if importlib.util.find_spec("mteb") is None:
            raise ConfigError(f"mteb is not installed, and its tasks need it: {INSTALL}")
        self.embedder, self.reasoner, self.patience = embedder, reasoner, Patience()
        seen = reasoner.num_frames if reasoner else NUM_FRAMES
        self.num_frames = seen if num_frames is None else num_frames
        self.num_reasoned = self.num_plain = 0
        """Items that were given to the Reasoner, and those of them for which it wrote no T-CoT."""
        self.tcots = TCoTCounts()
        """What came of them, by reason."""

    @classmethod
    def named(cls, embedder: str, reasoner: str | None = None, *, cache: Path | None = None) -> "MTEBEncoder":
        """Load models by name. With a folder `cache`, T-CoTs and vectors are cached across runs.

        Raises ConfigError and ModelError.
        """
        reasons, embeds = load_both(reasoner, embedder)
        if cache is None:
            return cls(embeds, reasons)
        kept = Cache(cache)
        return cls(CachedEmbedder(embeds, kept.vectors), CachedReasoner(reasons, kept) if reasons else None)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """Model metadata of mteb's result files."""
        from mteb.models import ModelMeta

        parts = [self.embedder.fingerprint, *([self.reasoner.fingerprint] if self.reasoner else [])]
        return ModelMeta(
            loader=None,
            name=f"embedrl/{'--'.join(re.sub(r'[^A-Za-z0-9._-]+', '-', part) for part in parts)}",
            revision="local",
            release_date=None,
            languages=None,
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=None,
            embed_dim=self.embedder.dim,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=True,
            training_datasets=None,
            modalities=list(MODALITIES),
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[Any]]],
        *,
        task_metadata: "TaskMetadata",
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: "PromptType | None" = None,
        **settings: Any,
    ) -> np.ndarray:
        """Return float32 (N, dim), unit length, of the rows of all batches. Raises ConfigError for a row with nothing that we read."""
        vectors, num_blank = [np.empty((0, self.embedder.dim), np.float32)], 0
        for batch in inputs:
            items = [self._item(row, task_metadata, prompt_type) for row in _rows(batch)]
            num_blank += sum(item.visual is None and item.text == BLANK for item in items)
            vectors.append(embed_unit(self.embedder, items, self._reason(items)))
        if num_blank:
            log.warn(f"{task_metadata.name}: {num_blank:,} rows hold no text; {BLANK!r} is embedded in their place")
        if self.num_plain:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.tcots.failed.items())
            log.warn(f"{self.num_plain:,} of {self.num_reasoned:,} items have no T-CoT and are embedded plain ({reasons})")
        return np.concatenate(vectors)

    def similarity(self, embeddings1: _Vectors, embeddings2: _Vectors) -> Tensor:
        """Return the cosine of every pair: (N, M)."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: _Vectors, embeddings2: _Vectors) -> Tensor:
        """Return the cosine of each vector and the one beside it: (N,)."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)

    def _reason(self, items: Sequence[Item]) -> list[TCoT | None]:
        if self.reasoner is None:
            return [None] * len(items)
        outcomes = ask(self.reasoner, items, self.patience)
        self.patience.require(self.reasoner.fingerprint)
        self.tcots += TCoTCounts.of(outcomes)
        tcots = list(map(tcot_or_none, outcomes))
        self.num_reasoned += len(tcots)
        self.num_plain += sum(tcot is None for tcot in tcots)
        return tcots

    def _item(self, row: Mapping[str, Any], task: "TaskMetadata", prompt_type: "PromptType | None") -> Item:
        content = _content(row, self.num_frames)
        if not content:
            raise ConfigError(f"{task.name}: a row with {', '.join(sorted(row)) or 'nothing'}; we read {', '.join(MODALITIES)}")
        wording = plain(_prompt(task, prompt_type)) or None
        if prompt_type is None or prompt_type.value != "query":
            return items.candidate(content, wording)
        kinds = task.get_modalities(_document())
        wanted = next((kind for kind in ("video", "image") if kind in kinds), "text")
        return items.query(content, wording, looking_for=wanted)


def _document() -> "PromptType":
    from mteb.types import PromptType

    return PromptType.document


def _prompt(task: "TaskMetadata", prompt_type: "PromptType | None") -> str:
    """Return the task's own instruction: a query's, unless it says which side it is of."""
    prompt, name = task.prompt, prompt_type.value if prompt_type else "query"
    if isinstance(prompt, str):
        return prompt if name == "query" else ""
    return (prompt or {}).get(name) or ""


def _rows(batch: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    columns = {name: values for name, values in batch.items() if name in MODALITIES}
    count = max((len(values) for values in batch.values()), default=0)
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _content(row: Mapping[str, Any], num_frames: int) -> Content:
    """Return what a row shows, then its text; a document's title stands in its text already."""
    parts: list[Image | Video | Text] = []
    if (image := row.get("image")) is not None:
        if not isinstance(image, PIL.Image.Image):
            raise MediaError(f"an image of the type {type(image).__name__}: pixels that Pillow has decoded are needed")
        parts.append(Image(pixels=image.convert("RGB")))
    if (clip := row.get("video")) is not None:
        parts.append(Video(frames=_frames(clip, num_frames)))
    text = row.get("text")
    if isinstance(text, str) and (text.strip() or not parts):
        parts.append(Text(text=text if text.strip() else BLANK))
    return tuple(parts)


def _frames(clip: Any, num_frames: int) -> Frames:
    """Choose frames of a decoder (torchcodec's, which mteb uses) or of a uint8 tensor (T, 3, H, W), evenly from first to last."""
    if isinstance(clip, Tensor):
        places = evenly(len(clip), num_frames)
        pixels, times_s = clip[places], [place * FRAME_INTERVAL_S for place in places]
    else:
        batch = clip.get_frames_at(evenly(clip.metadata.num_frames, num_frames))
        pixels, times_s = batch.data, batch.pts_seconds.tolist()
    images = [PIL.Image.fromarray(frame.permute(1, 2, 0).contiguous().cpu().numpy()) for frame in pixels]
    return Frames(tuple(images), tuple(times_s))


def _unit(vectors: _Vectors) -> Tensor:
    tensor = torch.as_tensor(vectors).float()
    return torch.nn.functional.normalize(tensor, dim=-1)
