"""What supervised and contrastive training share: reporting to our metrics and progress bar, and finding the checkpoint."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from embedrl.config import Metrics
from embedrl.log import Bar


class Report(TrainerCallback):
    """Send what a transformers Trainer logs to metrics.jsonl and to a progress bar."""

    def __init__(self, metrics: Metrics, bar: Bar, stage: str) -> None:
        self.metrics, self.bar, self.stage, self.seen = metrics, bar, stage, 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance the bar; a resumed run jumps to where it was."""
        self.bar.advance(state.global_step - self.seen)
        self.seen = state.global_step

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Write the figures as `stage/name`."""
        figures = {f"{self.stage}/{name}": float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self.metrics.write(state.global_step, figures)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint in a folder, or None: what `Trainer.train(resume_from_checkpoint=…)` takes."""
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None
