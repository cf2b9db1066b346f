"""Supervised fine-tuning of a Reasoner on prompts and answers (T-CoTs, judge verdicts).

Left out on purpose: packing and prompt masking by template tricks. A batch is padded, and the loss covers the answer only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin, Trainer, TrainingArguments

from embedrl.errors import ModelError
from embedrl.log import progress
from embedrl.models.trainer_settings import make_arguments, read_settings
from embedrl.models.training import fit, keep_freed_memory, last_checkpoint
from embedrl.reasoner.prompts import Prompt


@dataclass(frozen=True)
class SFTExample:
    """A prompt and its target answer."""

    prompt: Prompt
    completion: str


class Config(BaseModel):
    """Settings of a supervised run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    """Run folder: checkpoints and metrics.jsonl."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Settings of transformers.TrainingArguments."""


class SFTCollator:
    """Data collator: one padded batch with labels on the answers only."""

    def __init__(self, processor: ProcessorMixin) -> None:
        """Take the model's processor. Raises ModelError for a tokenizer without a token that ends an answer."""
        if processor.tokenizer.eos_token is None:
            raise ModelError(
                "the tokenizer has no token that ends an answer (eos_token in tokenizer_config.json), so that none could be taught"
            )
        self.processor = processor

    def __call__(self, examples: Sequence[SFTExample]) -> dict[str, Tensor]:
        """Return the model's inputs and `labels`; everything but the answers is -100."""
        end = self.processor.tokenizer.eos_token
        answers = [f"{example.completion}{end}" for example in examples]
        texts = [
            self.processor.apply_chat_template(example.prompt.messages, add_generation_prompt=True) + answer
            for example, answer in zip(examples, answers, strict=True)
        ]
        images = [image for example in examples for image in example.prompt.images]
        batch = self.processor(text=texts, images=images or None, padding=True, padding_side="right", return_tensors="pt")
        labels = torch.full_like(batch["input_ids"], -100)
        for row, answer in enumerate(self.processor.tokenizer(answers, add_special_tokens=False)["input_ids"]):
            stop = int(batch["attention_mask"][row].sum())
            labels[row, stop - len(answer) : stop] = torch.tensor(answer)
        return {**batch, "labels": labels}


def read_trainer(settings: Mapping[str, Any], out: Path, *, refused: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return trainer settings, typed; `refused` says of some what to set instead. Raises ConfigError; needs no model."""
    typed = read_settings(TrainingArguments, settings, refused=refused)
    make_arguments(TrainingArguments, out, typed)
    return typed


def train(model: PreTrainedModel, processor: ProcessorMixin, examples: Dataset[SFTExample], config: Config) -> None:
    """Train in the order of the data set; resume from the run folder's last checkpoint if there is one.

    The data set is not shuffled: its order is its own business, so that a resumed run sees exactly what it missed.
    """
    keep_freed_memory()
    settings = read_settings(TrainingArguments, config.trainer)
    order: dict[str, Any] = {"train_sampling_strategy": "sequential", "remove_unused_columns": False}
    arguments = make_arguments(TrainingArguments, config.out, settings, logging_steps=25, **order)
    steps = arguments.max_steps
    with progress(steps if steps > 0 else None, "reasoner-sft") as bar:
        trainer = Trainer(model=model, args=arguments, train_dataset=examples, data_collator=SFTCollator(processor))
        fit(trainer, config.out, bar, "sft", checkpoint=last_checkpoint(config.out / "checkpoints"))
