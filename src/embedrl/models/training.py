"""Shared pieces of all trainers: metrics callback, checkpoint lookup, memory settings."""

import ctypes
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from embedrl.config import Metrics
from embedrl.log import Bar


class Report(TrainerCallback):
    """Send what a transformers Trainer logs to metrics.jsonl, and the figures named in `shown` to a progress bar."""

    def __init__(self, metrics: Metrics, bar: Bar, stage: str, *, shown: Sequence[str] = ()) -> None:
        self.metrics, self.bar, self.stage, self.shown, self.seen = metrics, bar, stage, shown, 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance the bar; a resumed run jumps to where it was."""
        self.bar.advance(state.global_step - self.seen)
        self.seen = state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Write the figures as `stage/name`."""
        figures = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self.metrics.write(state.global_step, {f"{self.stage}/{name}": value for name, value in figures.items()})
        if shown := {name.split("/")[-1]: round(figures[name], 3) for name in self.shown if name in figures}:
            self.bar.advance(0, **shown)


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back: to fault it in again costs a training step on a CPU up to half of its time.

    It holds for the process and changes nothing where there is another allocator.
    """
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_TRIM_THRESHOLD, 2**31 - 1)
        set_option(_MMAP_MAX, 0)


@contextmanager
def old_names() -> Generator[None]:
    """Keep quiet about gradient checkpointing, which TRL, peft and we still call by the name that all supported versions know."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing.* is deprecated", FutureWarning)
        yield


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint in a folder, or None: what `Trainer.train(resume_from_checkpoint=…)` takes.

    The trainer's state is the last file of a checkpoint: one without it is of a run that was killed as it wrote.
    """
    numbered = [(int(path.name.rpartition("-")[2]), path) for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return str(max(numbered)[1]) if numbered else None


def _is_whole(checkpoint: Path) -> bool:
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError):
        return False
    return True
