"""What a training step needs of a device, from a model's configuration alone: bytes held, and arithmetic done.

Counted are the tensors that autograd keeps (read off transformers' Qwen3-VL and peft's LoRA layers), for attention that does not
keep its matrix. tests/test_plan.py holds the sum against what torch really allocates, in float32.
"""
# h hidden, f inner (MLP), q and k widths of query and key heads; e bytes of a number of the weights' type

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from embedrl.backbone import empty_model, lora_config
from embedrl.config import Lora

FLOAT32 = 4
ADAM_STATES = 2


class Load(NamedTuple):
    """What one forward and backward pass is run on."""

    tokens: int
    """Of all rows, padding included."""
    longest: int
    """Tokens of one row."""
    patches: int
    """Of all pictures; four make a visual token."""


@dataclass(frozen=True)
class Footprint:
    """A model and how it is trained."""

    config: Any
    """A Qwen3VLConfig."""
    num_bytes: int
    """Of a number of the weights."""
    lora: Lora | None
    trains_vision: bool
    checkpoints: bool
    """Gradient checkpointing: of each layer only the input is kept."""
    counts: dict[str, int]
    """Parameters: "language" (layers), "embeddings", "vision", "trained"."""

    @classmethod
    def of(
        cls, config: Any, *, dtype: str = "float32", lora: Lora | None = None, trains_vision: bool = True, checkpoints: bool = False
    ) -> "Footprint":
        """Count the parameters of a configuration, without making them."""
        model = empty_model(config)
        vision, embeddings = _size(model.visual), _size(model.language_model.embed_tokens)
        total = _size(model)
        if lora is None:
            trained = total - (0 if trains_vision else vision)
        else:
            targets: list[Any] = [model.get_submodule(name) for name in lora_config(model, lora).target_modules or ()]
            trained = sum(lora.rank * (layer.in_features + layer.out_features) for layer in targets)
            trains_vision = lora.vision
        counts = {"language": total - vision - embeddings, "embeddings": embeddings, "vision": vision, "trained": trained}
        return cls(config, torch.empty(0, dtype=getattr(torch, dtype)).element_size(), lora, trains_vision, checkpoints, counts)

    @property
    def weight_bytes(self) -> int:
        """The weights, and those of an adapter."""
        plain = sum(self.counts[part] for part in ("language", "embeddings", "vision")) * self.num_bytes
        return plain + (self.counts["trained"] * FLOAT32 if self.lora else 0)

    @property
    def state_bytes(self) -> int:
        """Gradients and Adam's two states, of what is trained."""
        return self.counts["trained"] * (1 + ADAM_STATES) * (FLOAT32 if self.lora else self.num_bytes)

    def activation_bytes(self, load: Load) -> int:
        """What is kept for the backward pass, and what its first layer needs besides."""
        text, vision = self.config.text_config, self.config.vision_config
        h, f, e = text.hidden_size, text.intermediate_size, self.num_bytes
        layer = load.tokens * self._text_layer()
        kept = load.tokens * e * h * text.num_hidden_layers + layer if self.checkpoints else layer * text.num_hidden_layers
        kept += load.tokens * (FLOAT32 * h + e * h * (1 + len(vision.deepstack_visual_indexes)))
        if self.trains_vision:
            block = load.patches * self._vision_layer()
            kept += load.patches * e * vision.hidden_size * vision.depth + block if self.checkpoints else block * vision.depth
            kept += load.patches * e * vision.hidden_size * 4 * (1 + len(vision.deepstack_visual_indexes))
        return kept + load.tokens * e * 3 * f

    def _text_layer(self) -> int:
        """Bytes that a token leaves in a layer of the language model."""
        text, e = self.config.text_config, self.num_bytes
        h, f = text.hidden_size, text.intermediate_size
        q, k = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
        norms = 2 * FLOAT32 * h + FLOAT32 * (q + k)
        attention = e * (2 * q + 2 * (k if q == k else q))  # query and output; keys and values are repeated for each query head
        mlp = 3 * e * f  # gate, its activation, up
        if self.lora is None:
            return norms + e * (2 * h + q + k) + attention + e * 2 * h + mlp + e * f
        return norms + attention + mlp + self._adapter_inputs([(h, 3), (q, 1), (h, 2), (f, 1)])

    def _vision_layer(self) -> int:
        """Bytes that a patch leaves in a block of the vision tower."""
        vision, e = self.config.vision_config, self.num_bytes
        h, f = vision.hidden_size, vision.intermediate_size
        kept = e * (2 * h + 3 * h + 2 * h + h + f)  # norms, qkv, rotated query and key, attention's output, before the activation
        if self.lora is None:
            return kept + e * (2 * h + h + f)
        return kept + self._adapter_inputs([(h, 1), (h, 1), (h, 1), (f, 1)])

    def _adapter_inputs(self, layers: list[tuple[int, int]]) -> int:
        """Bytes of what adapters keep: their inputs, of (width, number of layers that share it), in float32, and their inner states."""
        assert self.lora is not None
        alone = self.num_bytes != FLOAT32 or self.lora.dropout > 0
        masks = 1 if self.lora.dropout else 0
        inputs = sum(width * ((FLOAT32 + masks) * shared if alone else FLOAT32) for width, shared in layers)
        return inputs + FLOAT32 * self.lora.rank * sum(shared for _, shared in layers)

    def forward_flops(self, load: Load) -> float:
        """Arithmetic of one forward pass: two for each weight and token, attention over the tokens before, not that over patches."""
        text = self.config.text_config
        attention = 2 * load.tokens * load.longest * text.num_attention_heads * text.head_dim * text.num_hidden_layers
        return 2.0 * self.counts["language"] * load.tokens + attention + self._vision_flops(load)

    def _vision_flops(self, load: Load) -> float:
        return 2.0 * self.counts["vision"] * load.patches

    def train_flops(self, load: Load, *, cached: bool) -> float:
        """Arithmetic of a forward and backward pass; `cached` adds the first forward pass of gradient caching."""
        forwards, backwards = 1 + cached + self.checkpoints, 1 if self.lora else 2
        spared = 0 if self.trains_vision else backwards * self._vision_flops(load)
        return self.forward_flops(load) * (forwards + backwards) - spared


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
