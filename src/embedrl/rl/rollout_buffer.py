"""Checkpoints of EG-RL between two generations, with the rollouts that are not yet trained on.

TRL generates once and trains on it for `steps_per_generation` x `num_iterations` micro-steps, and keeps neither the rollouts nor its
count of micro-steps in a checkpoint: a run resumed between would sample others (https://github.com/huggingface/trl/pull/3148).
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_OTHERS = "others"
"""Metadata key of the values that are not tensors, as JSON."""


class KeepRollouts(TrainerCallback):
    """Trainer callback that saves a GRPOTrainer's unused rollouts with each checkpoint, one file per process."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the file atomically."""
        if is_between(self.trainer.args, state.global_step) and self.trainer._buffered_inputs is not None:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            _write(self.trainer._buffered_inputs, _file(folder, args.process_index))


def is_between(arguments: Any, step: int) -> bool:
    """Return whether a step lies between two generations."""
    return bool(step * arguments.gradient_accumulation_steps % (arguments.steps_per_generation * arguments.num_iterations))


def is_whole(arguments: Any, checkpoint: Path) -> bool:
    """Return whether a checkpoint has all files of an exact resumption."""
    step = int(checkpoint.name.rpartition("-")[2])
    return not is_between(arguments, step) or all(_file(checkpoint, rank).is_file() for rank in range(arguments.world_size))


def restore(trainer: Any, checkpoint: Path) -> None:
    """Restore a trainer's micro-step count and unused rollouts from a checkpoint."""
    step = int(checkpoint.name.rpartition("-")[2])
    trainer._step = step * trainer.args.gradient_accumulation_steps
    if is_between(trainer.args, step):
        trainer._buffered_inputs = _read(_file(checkpoint, trainer.args.process_index), trainer.accelerator.device)


def _file(checkpoint: Path, rank: int) -> Path:
    return checkpoint / f"rollouts-{rank}.safetensors"


def _write(batches: list[dict[str, Any]], path: Path) -> None:
    tensors, others = {}, []
    for number, batch in enumerate(batches):
        tensors |= {f"{number}.{name}": value.contiguous() for name, value in batch.items() if isinstance(value, Tensor)}
        others.append({name: value for name, value in batch.items() if not isinstance(value, Tensor)})
    draft = path.with_suffix(".draft")
    save_file({name: value.clone() for name, value in tensors.items()}, draft, metadata={_OTHERS: json.dumps(others)})
    os.replace(draft, path)


def _read(path: Path, device: torch.device) -> list[dict[str, Any]]:
    with safe_open(path, framework="pt", device=str(device)) as file:
        batches: list[dict[str, Any]] = json.loads(file.metadata()[_OTHERS])
        for key in list(file.keys()):
            number, name = key.split(".", 1)
            batches[int(number)][name] = file.get_tensor(key)
    return batches
