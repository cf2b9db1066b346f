"""Memory and FLOPs of a training step from a model configuration alone.

Counted are the tensors that autograd keeps (listed with its hooks on transformers' Qwen3-VL and peft's LoRA layers), for attention
that does not keep its matrix. tests/test_plan.py holds the sum against what torch really allocates.
"""
# h hidden, f inner (MLP), q and k widths of query and key heads; e bytes of a number of the weights, c of what a linear layer gives,
# a of what an adapter is given

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from embedrl.config import Lora
from embedrl.models.adapters import lora_config
from embedrl.models.load import empty_model

FLOAT32 = 4
HALF = 2
"""Bytes of a number in autocast."""
ADAM_STATES = 2


class Load(NamedTuple):
    """Input size of one forward and backward pass."""

    tokens: int
    """Tokens of all rows, padding included."""
    longest: int
    """Tokens of the longest row."""
    patches: int
    """Patches of all images; four make a visual token."""


@dataclass(frozen=True)
class Footprint:
    """Memory and FLOPs of a model and its training settings."""

    config: Any
    """A Qwen3VLConfig."""
    num_bytes: int
    """Of a number of the weights."""
    lora: Lora | None
    trains_vision: bool
    checkpoints: bool
    """Gradient checkpointing: of each layer only the input is kept."""
    autocast: bool
    """Linear layers and attention calculate in half precision, whatever the type of the weights."""
    on_cpu: bool
    """Dropout keeps its mask in the type of its input there, and as bytes on an accelerator."""
    counts: dict[str, int]
    """Parameters: "language" (layers), "embeddings", "vision", "trained"."""

    @classmethod
    def of(
        cls,
        config: Any,
        *,
        dtype: str = "float32",
        lora: Lora | None = None,
        trains_vision: bool = True,
        trainer: Mapping[str, Any] | None = None,
    ) -> "Footprint":
        """Count the parameters of a configuration on the meta device. `trainer` are transformers' TrainingArguments settings."""
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
        num_bytes = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
        checkpoints, bf16, fp16, on_cpu = (
            bool((trainer or {}).get(name)) for name in ("gradient_checkpointing", "bf16", "fp16", "use_cpu")
        )
        return cls(config, num_bytes, lora, trains_vision, checkpoints, bf16 or fp16, on_cpu, counts)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, adapter included."""
        plain = sum(self.counts[part] for part in ("language", "embeddings", "vision")) * self.num_bytes
        return plain + (self.counts["trained"] * FLOAT32 if self.lora else 0)

    @property
    def state_bytes(self) -> int:
        """Bytes of gradients and Adam states of the trained parameters."""
        return self.counts["trained"] * (1 + ADAM_STATES) * (FLOAT32 if self.lora else self.num_bytes)

    @property
    def _linear(self) -> int:
        """Bytes per element of linear-layer outputs."""
        return HALF if self.autocast else self.num_bytes

    def activation_bytes(self, load: Load) -> int:
        """Bytes of activations kept for the backward pass, plus the peak of its first layer."""
        text, vision = self.config.text_config, self.config.vision_config
        h, e, c = text.hidden_size, self.num_bytes, self._linear
        layer = load.tokens * self._text_layer(load.longest)
        casts = self._cast_bytes()
        end = load.tokens * (h * (FLOAT32 + (0 if self.lora else e)) + self._passing())  # the last norm, and what comes and goes
        block = load.patches * self._vision_layer() if self.trains_vision else 0
        mergers = load.patches * self._merger() * (1 + len(vision.deepstack_visual_indexes)) if self.trains_vision else 0
        if not self.checkpoints:
            return layer * text.num_hidden_layers + block * vision.depth + mergers + casts + end
        inputs = load.tokens * e * h * text.num_hidden_layers
        blocks = load.patches * c * vision.hidden_size * vision.depth if self.trains_vision else 0
        # one layer is calculated again at a time; those of the tower when all of the language model is done with
        return blocks + mergers + max(inputs + layer + end + casts // text.num_hidden_layers, block)

    def _text_layer(self, longest: int) -> int:
        """Activation bytes per token of a language-model layer."""
        text, e, c = self.config.text_config, self.num_bytes, self._linear
        h, f = text.hidden_size, text.intermediate_size
        q, k = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
        norms = FLOAT32 * (2 * h + q + k)  # their inputs, in float32
        # query and output, keys and values repeated for each query head; the mask as numbers; the sums of the softmax
        attention = c * 4 * q + c * longest + FLOAT32 * text.num_attention_heads
        mlp = 3 * c * f  # gate, its activation, up
        if self.lora is None:
            inputs = 5 if c != e else 2  # autocast casts the input of each linear layer anew
            return norms + e * 2 * h + c * (q + k) + attention + c * inputs * h + mlp + c * f
        return norms + attention + mlp + self._adapter_inputs([(h, 3), (h, 2), (f, 1)], kept_anyway=q)

    def _vision_layer(self) -> int:
        """Activation bytes per patch of a vision block."""
        vision, c = self.config.vision_config, self._linear
        h, f = vision.hidden_size, vision.intermediate_size
        # the norms' inputs; qkv, rotated query and key, attention's output; before the activation
        kept = 2 * self._layer_norm() * h + c * (6 * h + f)
        if self.lora is None:
            return kept + c * (2 * h + f)
        return kept + self._adapter_inputs([(h, 1), (h, 1), (f, 1)], kept_anyway=h)

    def _merger(self) -> int:
        """Activation bytes per patch of a patch merger, which sees four patches as one of four times the width."""
        c, h = self._linear, self.config.vision_config.hidden_size
        kept = (self._layer_norm() + c) * h  # the norm's input; before the activation
        return kept + (c * 2 * h if self.lora is None else self._adapter_inputs([(4 * h, 1), (4 * h, 1)]) // 4)

    def _layer_norm(self) -> int:
        """Bytes of a number that a LayerNorm keeps: autocast puts it in float32, but not on a CPU."""
        return FLOAT32 if self.autocast and not self.on_cpu else self._linear

    def _adapter_inputs(self, layers: list[tuple[int, int]], *, kept_anyway: int = 0) -> int:
        """Bytes of what adapters keep: their inputs, of (width, number of layers that share it), dropout's masks, their inner states.

        `kept_anyway` is the width of one more input, which something else keeps too.
        """
        assert self.lora is not None
        masks = 0 if not self.lora.dropout else FLOAT32 if self.on_cpu else 1
        a = HALF if self.autocast else FLOAT32
        alone = self._adapters_copy
        inputs = sum(width * (a + masks) * (shared if alone else 1) for width, shared in layers)
        inputs += kept_anyway * (a + masks) if alone else 0
        return inputs + a * self.lora.rank * (sum(shared for _, shared in layers) + bool(kept_anyway))

    @property
    def _adapters_copy(self) -> bool:
        """Whether each adapter has an input of its own: dropped out, or cast to float32 and back."""
        return self.lora is not None and (self.lora.dropout > 0 or self.autocast or self.num_bytes != FLOAT32)

    def _passing(self) -> int:
        """Bytes that a token needs for a moment in the MLP of the last layer, forwards or backwards."""
        f, c = self.config.text_config.intermediate_size, self._linear
        if self.lora is None or not self._adapters_copy:
            return 2 * c * f  # gradients of both factors of the product
        product = c * f
        wide = FLOAT32 * f if c != FLOAT32 else 0  # as the adapter takes it
        dropped = FLOAT32 * f if self.autocast and self.lora.dropout else 0  # kept in half precision
        return product + wide + dropped

    def _cast_bytes(self) -> int:
        """Bytes of the weights in half precision, which autocast makes of those in float32 and the backward pass needs."""
        if not self.autocast:
            return 0
        flown_through = self.counts["language"] + (self.counts["vision"] if self.trains_vision else 0)
        plain = flown_through if self.num_bytes == FLOAT32 else 0
        return HALF * (plain + (self.counts["trained"] if self.lora else 0))

    def forward_flops(self, load: Load) -> float:
        """FLOPs of one forward pass: 2 per weight and token, plus causal attention; attention over patches is left out."""
        text = self.config.text_config
        attention = 2 * load.tokens * load.longest * text.num_attention_heads * text.head_dim * text.num_hidden_layers
        return 2.0 * self.counts["language"] * load.tokens + attention + self._vision_flops(load)

    def _vision_flops(self, load: Load) -> float:
        return 2.0 * self.counts["vision"] * load.patches

    def train_flops(self, load: Load, *, cached: bool) -> float:
        """FLOPs of a forward and backward pass; `cached` adds gradient caching's first forward pass."""
        forwards, backwards = 1 + cached + self.checkpoints, 1 if self.lora else 2
        spared = 0 if self.trains_vision else backwards * self._vision_flops(load)
        return self.forward_flops(load) * (forwards + backwards) - spared


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
