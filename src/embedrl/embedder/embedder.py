"""The Embedder: a Qwen3-VL whose state at the last token, `<emb>`, is the vector of an item."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, ProcessorMixin

from embedrl.backbone import SETTINGS, load, save_bf16, token_side
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.inputs import EmbedderInput, Seen, build, collate
from embedrl.errors import ConfigError
from embedrl.media.resize import PAPER_BUDGET, VisualBudget

_CHARS_PER_TOKEN = 3


class Embedder:
    """Loaded weights that embed items. Fulfils the `Embeds` role."""

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, budget: VisualBudget, name: str, *, batch_tokens: int = 8192
    ) -> None:
        self.model, self.processor, self.budget = model.eval(), processor, budget
        self.name = f"{name}-{budget.mark}"
        self.batch_tokens = batch_tokens
        self.factor = token_side(model)
        self.dim: int = model.config.text_config.hidden_size

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Embedder":
        """Load a local folder (safetensors only). Raises ModelError if it is not a model that this code knows."""
        model, processor, name = load(AutoModel, folder, device=device, dtype=dtype)
        settings = folder / SETTINGS
        budget = VisualBudget.model_validate_json(settings.read_text("utf-8")) if settings.is_file() else PAPER_BUDGET
        return cls(model, processor, budget, name)

    def save(self, folder: Path) -> None:
        """Write weights (bf16), processor and pixel budget."""
        save_bf16(self.model, self.processor, folder)
        (folder / SETTINGS).write_text(self.budget.model_dump_json(indent=2) + "\n", "utf-8")

    def build(
        self, item: Item, tcot: TCoT | None, *, show_media: bool = True, show_evidence: bool = True, seen: Seen | None = None
    ) -> EmbedderInput:
        """Build one item's input within this model's pixel budget; see `embedder.inputs.build`."""
        return build(item, tcot, self.budget, self.factor, show_media=show_media, show_evidence=show_evidence, seen=seen)

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None], *, show_media: bool = True) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order. A None T-CoT gives the plain vector. Raises MediaError."""
        if len(items) != len(tcots):
            raise ConfigError(f"{len(items)} items with {len(tcots)} T-CoTs: give one (or None) for each item")
        built = [self.build(item, tcot, show_media=show_media) for item, tcot in zip(items, tcots, strict=True)]
        vectors = np.zeros((len(built), self.dim), np.float32)
        for rows in batches([self.length(one) for one in built], [1] * len(built), self.batch_tokens):
            vectors[rows] = self.encode([built[row] for row in rows]).float().cpu().numpy()
        return vectors

    @torch.inference_mode()
    def encode(self, inputs: Sequence[EmbedderInput]) -> Tensor:
        """Return the vectors of one batch of inputs: (N, dim), unit length."""
        batch = {name: value.to(self.model.device) for name, value in collate(self.processor, inputs).items()}
        return pool(self.model, batch)

    def length(self, built: EmbedderInput) -> int:
        """Estimate the number of tokens of an input."""
        chars = sum(len(part.get("text", "")) for part in built.messages[0]["content"])
        return built.visual_tokens(self.factor) + chars // _CHARS_PER_TOKEN


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
    states = model(**inputs, use_cache=False).last_hidden_state
    last = batch["attention_mask"].sum(1) - 1
    vectors = states[torch.arange(len(last), device=states.device), last]
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
