"""The Embedder: last-token pooling on a Qwen3-VL."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, ProcessorMixin

from embedrl import log
from embedrl.concurrency import map_concurrently
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.export import read_projection, refuse_other_modules, write_projection, write_serving_files
from embedrl.embedder.inputs import (
    DEFAULT_FORMAT,
    EMBED_RL_FORMAT,
    REQUEST,
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
from embedrl.errors import ModelError
from embedrl.media.passages import TextMeasure
from embedrl.media.resize import PAPER_BUDGET, PixelRange, VisualBudget, grid_as_saved
from embedrl.models.adapters import merge
from embedrl.models.added_tokens import added_tokens
from embedrl.models.architectures import ARCHITECTURES, architecture
from embedrl.models.load import EMB, SETTINGS, LoadOptions, load, load_config, loading, read_settings, token_side
from embedrl.models.qwen3_vl_fast import hidden_states_at
from embedrl.models.tokens import probe_items, save_tokens, tokens_digest, tokens_mark
from embedrl.models.weights import save_bf16

NUM_STREAMS = 2

A = TypeVar("A")


def encode_concurrently(encode: Callable[[A], Tensor], batches: Sequence[A], device: torch.device) -> Iterator[Tensor]:
    """Encode batches, in order, concurrently on a CPU with several threads; otherwise sequentially."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads < NUM_STREAMS or len(batches) < NUM_STREAMS:
        yield from map(encode, batches)
        return

    all_set = threading.Barrier(NUM_STREAMS)

    def start_stream() -> None:
        _use_threads(threads // NUM_STREAMS, others=threads)
        all_set.wait()  # no batch starts while a thread that it starts could be given the number of a stream

    yield from map_concurrently(encode, batches, NUM_STREAMS, initializer=start_stream)


_counting = threading.Lock()


def _use_threads(number: int, *, others: int) -> None:
    """Set the number of torch threads of this thread.

    torch sets the number of the calling thread and that of threads to come in one; another thread sets the latter back to `others`.
    """
    with _counting:
        if torch.get_num_threads() == number:
            return
        torch.set_num_threads(number)
        back = threading.Thread(target=torch.set_num_threads, args=(others,))
        back.start()
        back.join()


_BATCH_TOKENS, _BATCH_TOKENS_CPU = 8192, 2048
"""Padded tokens of a batch. A CPU is as busy with small ones, whose rows are of like length: less padding."""

QWEN3_VL_EMBEDDING_BUDGET = VisualBudget(
    image=PixelRange(min_pixels=4096, max_pixels=1_843_200),
    frame=PixelRange(min_pixels=131_072, max_pixels=786_432),
    crop=PixelRange(min_pixels=4096, max_pixels=1_843_200),
    num_frames=64,
    fps=1.0,
    min_frames=4,
    clip_pixels=7_864_320,
    max_text_tokens=8192,
)
"""The limits of Qwen3-VL-Embedding's own script: a frame a second, 4 to 64 of them, 128 to 768 tokens each, and a limit on the clip."""


EMBED_RL_BUDGET = PAPER_BUDGET.model_copy(update={"max_text_tokens": 8192})
"""What Embed-RL's evaluation shows its checkpoints: texts are not cut at 2,000 characters, as they are for the models trained here."""


class EmbedderSettings(VisualBudget):
    """embedrl.json of an Embedder. Without an image budget it completes what its authors' code shows a published model."""

    image: PixelRange = PAPER_BUDGET.image
    frame: PixelRange = PAPER_BUDGET.frame
    crop: PixelRange = PAPER_BUDGET.crop
    request: str = Field(default=REQUEST, min_length=1)
    """The line that ends the user turn: that of the training. A model of others may have learned another one."""
    wraps_videos: bool = True
    """Whether a video stands in one more pair of vision tokens, around those of its frames, as in the training."""
    as_published: bool = False
    """Whether the user turn is written as Embed-RL's code does (`embedder.inputs.EMBED_RL_FORMAT`)."""

    _grid = model_validator(mode="before")(grid_as_saved)

    def complete(self, end: str) -> tuple[VisualBudget, PromptFormat]:
        """Return the budget and the format of a model whose vector is the state at `end`."""
        is_saved = "image" in self.model_fields_set
        published = EMBED_RL_FORMAT if end == EMB else PromptFormat(end, None, wraps_videos=False)
        layout = DEFAULT_FORMAT if is_saved and end == EMB else published
        if end == EMB:
            saved = self.model_dump(include={"request", "wraps_videos", "as_published"} & self.model_fields_set)
            layout = replace(layout, **saved)
        budget = PAPER_BUDGET if is_saved else EMBED_RL_BUDGET if end == EMB else QWEN3_VL_EMBEDDING_BUDGET
        saved = {name: getattr(self, name) for name in VisualBudget.model_fields if name in self.model_fields_set}
        return budget.model_copy(update=saved), layout


_FOREIGN = dict.fromkeys(("budget", "prompts"), "is the folder of a Reasoner: give it as the Reasoner (--reasoner), or give an Embedder's")
"""Keys of a Reasoner's settings."""


class Embedder:
    """An Embedder on local weights, with last-token pooling. Implements `Embeds`."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        budget: VisualBudget,
        name: str,
        *,
        layout: PromptFormat = DEFAULT_FORMAT,
        projection: Tensor | None = None,
    ) -> None:
        """`projection`, float32 (dim, hidden size): a matrix behind the pooling (sentence-transformers' Dense module)."""
        self.model, self.processor, self.budget, self.layout = model.eval(), processor, budget, layout
        self.projection = None if projection is None else projection.to(model.device)
        self.fingerprint = f"{name}-{budget.fingerprint}"
        self.batch_tokens = _BATCH_TOKENS_CPU if self.model.device.type == "cpu" else _BATCH_TOKENS
        self.factor = token_side(model.config)
        self._collating, self._has_cut = threading.Lock(), False
        self.dim: int = model.config.text_config.hidden_size if projection is None else len(projection)

    @classmethod
    def load(cls, folder: Path, **options: Unpack[LoadOptions]) -> "Embedder":
        """Load a local folder (safetensors only): ours, Embed-RL's, Qwen3-VL-Embedding's, or a LoRA adapter of one of them.

        Raises ModelError if it is not a model that this code knows.
        """
        read_settings(folder, EmbedderSettings, _FOREIGN)  # a folder of the other role is refused before its weights are read
        refuse_other_modules(folder)
        require_embedder(load_config(folder))
        return cls.on(*load(AutoModel, folder, **options), folder)

    @classmethod
    def on(cls, model: PreTrainedModel, processor: ProcessorMixin, name: str, folder: Path) -> "Embedder":
        """Wrap loaded weights with the settings of a folder. Raises ModelError."""
        try:
            end = ending(processor, model.config)
        except ModelError as error:
            raise ModelError(f"{str(folder)!r}: {error}") from error
        budget, layout = (read_settings(folder, EmbedderSettings, _FOREIGN) or EmbedderSettings()).complete(end)
        with loading(folder):
            digest = _probe_digest(processor, budget, token_side(model.config), layout)
        projection, hidden = read_projection(folder), model.config.text_config.hidden_size
        if projection is not None:
            if projection.shape[1] != hidden:
                raise ModelError(
                    f"{str(folder)!r}: its Dense module is for vectors of {projection.shape[1]} numbers, the model has {hidden}"
                )
            name += f"-dense{hashlib.sha256(projection.numpy().tobytes()).hexdigest()[:8]}"
        return cls(model, processor, budget, name + tokens_mark(folder, digest), layout=layout, projection=projection)

    def save(self, folder: Path) -> None:
        """Save weights (bf16, adapter merged), processor, settings, and the files that other engines need for equal vectors."""
        self.model = merge(self.model)
        config = {"emb_token_ids": [self.processor.tokenizer.convert_tokens_to_ids(EMB)]} if self.layout.end == EMB else {}
        save_bf16(self.model, folder, **config)
        self.save_settings(folder)
        hidden = self.model.config.text_config.hidden_size
        write_serving_files(folder, hidden, self.budget, end=EMB if self.layout.end == EMB else "", wraps_videos=self.layout.wraps_videos)
        if self.projection is not None:
            write_projection(folder, self.projection.cpu())

    def save_settings(self, folder: Path) -> None:
        """Save the processor and the settings, without weights."""
        self.processor.save_pretrained(folder)
        settings: dict[str, Any] = self.budget.model_dump()
        if self.layout.request not in (None, REQUEST):
            settings["request"] = self.layout.request
        if self.layout.end == EMB and not self.layout.wraps_videos:
            settings["wraps_videos"] = False
        if self.layout.as_published:
            settings["as_published"] = True
        written = EmbedderSettings.model_validate(settings).model_dump_json(indent=2, exclude_unset=True)
        (folder / SETTINGS).write_text(f"{written}\n", "utf-8")
        save_tokens(folder, _probe_digest(self.processor, self.budget, self.factor, self.layout))

    def build(
        self, item: Item, tcot: TCoT | None, *, show_media: bool = True, show_evidence: bool = True, seen: DecodedItem | None = None
    ) -> EmbedderInput:
        """Build one item's input within this model's pixel budget; see `embedder.inputs.build`."""
        return build(
            self._within_text_limit(item),
            tcot,
            self.budget,
            self.factor,
            show_media=show_media,
            show_evidence=show_evidence,
            seen=seen,
            layout=self.layout,
            special=added_tokens(self.processor).pattern,
        )

    def _within_text_limit(self, item: Item) -> Item:
        with self._collating:
            shortened = within_text_limit(item, self.budget, self.processor.tokenizer)
        if shortened is not item and not self._has_cut:
            log.warn(f"text behind {text_limit(self.budget)} of an item is not seen: all that this Embedder reads")
        self._has_cut |= shortened is not item
        return shortened

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None], *, show_media: bool = True) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order. A None T-CoT gives the plain vector. Raises MediaError."""
        check_inputs(items, tcots)
        places: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(id(item), []).append(place)
        by_place: dict[int, EmbedderInput] = {}
        for rows in places.values():  # one item after the other: it is decoded once for all its T-CoTs, and then let go
            seen = DecodedItem(items[rows[0]], self.budget, self.factor) if show_media else None
            by_place |= {row: self.build(items[row], tcots[row], show_media=show_media, seen=seen) for row in rows}
        return self.embed_built([by_place[row] for row in range(len(items))])

    def embed_built(self, built: Sequence[EmbedderInput]) -> np.ndarray:
        """Return the vectors of inputs of `build`: float32 (N, dim), unit length, in order."""
        vectors = np.zeros((len(built), self.dim), np.float32)
        grouped = batches(self.lengths(built), [1] * len(built), self.batch_tokens)[::-1]  # the longest first: the streams end together
        vectors_of_batches = encode_concurrently(lambda rows: self.encode([built[row] for row in rows]), grouped, self.model.device)
        for rows, batch_vectors in zip(grouped, vectors_of_batches, strict=True):
            vectors[rows] = batch_vectors.float().cpu().numpy()
        return vectors

    @torch.inference_mode()
    def encode(self, inputs: Sequence[EmbedderInput]) -> Tensor:
        """Return the vectors of one batch of inputs: (N, dim), unit length."""
        return self.project(pool(self.model, self.collate(inputs)))

    def project(self, state_NH: Tensor) -> Tensor:
        """Return the vectors of pooled states, (N, dim), unit length: the states of unit length themselves where there is no projection."""
        return state_NH if self.projection is None else torch.nn.functional.normalize(state_NH @ self.projection.T, dim=-1)

    def collate(self, inputs: Sequence[EmbedderInput]) -> dict[str, Tensor]:
        """Return the batch of `embedder.inputs.collate` on the model's device. One thread at a time: a tokenizer is not for several."""
        with self._collating:
            batch = collate(self.processor, inputs)
        return {name: value.to(self.model.device) for name, value in batch.items()}

    @property
    def prompt_settings(self) -> EmbedderPrompt:
        """How its inputs are built, for clients of a server that serves it."""
        return EmbedderPrompt.of(self.budget, self.layout, self.factor)

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        with self._collating:
            return len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def text_measure(self) -> TextMeasure:
        """Its tokens, and how much of a text it reads."""
        return text_measure(self.budget, self._token_ends)

    def _token_ends(self, text: str) -> Sequence[int]:
        with self._collating:
            return token_ends(text, self.processor.tokenizer)

    def lengths(self, built: Sequence[EmbedderInput]) -> list[int]:
        """Return the number of tokens of each input, without those of the chat template."""
        texts = ["".join(part.get("text", "") for part in embedder_input.parts) for embedder_input in built]
        with self._collating:
            counted = self.processor.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return [len(ids) + embedder_input.visual_tokens(self.factor) for ids, embedder_input in zip(counted, built, strict=True)]


def ending(processor: ProcessorMixin, config: PretrainedConfig) -> str:
    """Return a model's pooling token. Raises ModelError if it has none, or its files contradict each other."""
    tokenizer = processor.tokenizer
    require_embedder(config)
    if (token_id := tokenizer.convert_tokens_to_ids(EMB)) not in (None, tokenizer.unk_token_id):
        named = getattr(config, "emb_token_ids", None) or [token_id]
        if named[0] != token_id:
            raise ModelError(f"{EMB} is token {token_id} of the tokenizer, and emb_token_ids of the configuration says {named[0]}")
        return EMB
    if appended := tokenizer("")["input_ids"]:
        return tokenizer.convert_ids_to_tokens(appended[-1])
    raise ModelError(f"this model gives no vectors: its tokenizer knows no {EMB}, and ends no text by itself; train an Embedder from it")


def require_embedder(config: PretrainedConfig) -> None:
    """Raise ModelError for an architecture that is known as a Reasoner only."""
    row = architecture(config.model_type)
    if row is not None and not row.embeds:
        raise ModelError(f"the architecture {config.model_type!r} is known as a Reasoner only; Embedders are of {', '.join(ARCHITECTURES)}")


def _probe_digest(processor: ProcessorMixin, budget: VisualBudget, factor: int, layout: PromptFormat) -> str:
    """Return the digest of the tokens that a text, an image and a video become."""
    special = added_tokens(processor).pattern
    inputs = [build(item, None, budget, factor, layout=layout, special=special) for item in probe_items()]
    return tokens_digest([collate(processor, [built])["input_ids"][0].tolist() for built in inputs])


def batches(lengths: Sequence[int], sizes: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group entries of similar length, each of `sizes` rows, so that a padded batch stays under `batch_tokens`.

    Returns places, each once; an entry that is too large stands alone.
    """
    grouped: list[list[int]] = []
    held = 0
    for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
        if grouped and (held + sizes[place]) * lengths[place] <= batch_tokens:
            grouped[-1].append(place)
            held += sizes[place]
        else:
            grouped.append([place])
            held = sizes[place]
    return grouped


def pool(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Run the model and return the state at each row's last attended token: (N, dim), unit length."""
    inputs = {name: value for name, value in batch.items() if not name.startswith("num_")}
    vectors = hidden_states_at(model, batch["attention_mask"].sum(1) - 1, **inputs, use_cache=False)
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
