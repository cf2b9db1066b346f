"""Shared pieces of all trainers: run folder and lock, metrics callback, checkpoint lookup, non-finite checks, memory settings."""

import ctypes
import errno
import math
import os
import re
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from embedrl.config import METRICS, Metrics, write_run_config
from embedrl.data.records import WriterLock
from embedrl.errors import ModelError, unreadable, unwritable
from embedrl.files import expanded
from embedrl.log import Bar, is_main_process, warn
from embedrl.media.content import file_sha256
from embedrl.models.load import quietly
from embedrl.models.weights import model_fingerprint, tensor_shapes

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
_NEEDED = ("*.safetensors", "optimizer.*", "scheduler.pt", "rng_state*")
"""Files of a checkpoint without which a run would not go on as it was."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
_TORCH_WRITES = re.compile(r"PytorchStreamWriter failed|file write failed|unexpected pos \d+ vs")
"""What torch says where a file of the optimiser cannot be written."""
LOCK = "run.lock"
"""File in a run folder that its writer holds locked."""


class Report(TrainerCallback):
    """Trainer callback that writes logs to metrics.jsonl, and the figures named in `shown` to a progress bar."""

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


class StopIfNotFinite(TrainerCallback):
    """Trainer callback that stops a run at non-finite losses, gradients or weights, before they reach a checkpoint."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Look at the gradients. In fp16 the loss scaler does: it lowers its scale and skips the step."""
        if not args.fp16 and model is not None:
            require_finite(state.global_step + 1, "a gradient", (weight.grad for weight in model.parameters()), Path(args.output_dir or ""))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Look at the weights that are trained."""
        if model is not None:
            trained = (weight for weight in model.parameters() if weight.requires_grad)
            require_finite(state.global_step, "a weight", trained, Path(args.output_dir or ""))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Look at the loss."""
        if not math.isfinite(loss := (logs or {}).get("loss", 0.0)):
            require_finite(state.global_step, "the loss", [torch.tensor(loss)], Path(args.output_dir or ""))


def require_finite(step: int, name: str, tensors: Iterable[Tensor | None], checkpoints: Path | None = None) -> None:
    """Raise ModelError, naming the step, if any number is infinite or none. Sharded tensors: this process's share."""
    local = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors if tensor is not None)
    if all(bool(torch.isfinite(tensor).all()) for tensor in local):
        return
    last = last_checkpoint(checkpoints) if checkpoints else None
    kept = f"the checkpoint before it is kept ({last!r})" if last else "there is no checkpoint before it"
    raise ModelError(
        f"step {step}: {name} is not finite, so the run ends without a model; {kept}. "
        "Give a lower learning_rate, more warm-up or a smaller max_grad_norm, and another out=..."
    )


def fit(trainer: Trainer, out: Path, bar: Bar, stage: str, *, checkpoint: str | None, shown: Sequence[str] = ()) -> None:
    """Train from a checkpoint, or from the start, with our reports. Raises ModelError for what is not finite."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StopIfNotFinite())
    trainer.add_callback(Report(Metrics(out / METRICS), bar, stage, shown=shown))
    trainer.train(resume_from_checkpoint=checkpoint)


def _write_failure(error: Exception) -> OSError | None:
    """Return the OSError of a file that could not be written; libraries wrap it in errors of their own, some without its number."""
    if isinstance(error, OSError):
        return error if error.errno in _FULL else None
    if isinstance(error, SafetensorError):
        number = re.search(r"os error (\d+)", str(error))
        return None if number is None else _write_failure(OSError(int(number[1]), os.strerror(int(number[1]))))
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if _TORCH_WRITES.search(str(error)) else None


@contextmanager
def run_folder(
    folder: Path,
    config: BaseModel,
    *,
    prompt_hashes: Mapping[str, str] | None = None,
    inputs: Mapping[str, Path | str | None] | None = None,
) -> Generator[None]:
    """Context manager that locks a run folder and writes config.json, in the main process.

    `inputs` are the files and models that settings name, by setting. Raises StoreError if another run writes there, or if what is done in
    it fails since a file cannot be written (earlier checkpoints are kept); ConfigError if the folder holds a run with other settings, of
    other data or another number of processes.
    """
    if not is_main_process():
        with quietly():
            yield
        return
    lock = WriterLock(folder / LOCK)
    try:
        num_processes = int(os.environ.get("WORLD_SIZE", "1"))
        write_run_config(folder, config, prompt_hashes=prompt_hashes, num_processes=num_processes, inputs=_fingerprints(inputs or {}))
        with quietly():
            yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if (failure := _write_failure(error)) is None:
            raise
        raise unwritable(folder, failure) from error
    finally:
        lock.release()


def _fingerprints(inputs: Mapping[str, Path | str | None]) -> dict[str, str]:
    """Return the fingerprint of each file and model folder; shipped models, servers and what is not there are left out."""
    paths = {name: expanded(value) for name, value in inputs.items() if value is not None}
    try:
        files = {name: file_sha256(path).hex()[:12] for name, path in paths.items() if path.is_file()}
        return files | {name: model_fingerprint(path) for name, path in paths.items() if path.is_dir()}
    except OSError as error:
        raise unreadable(Path(error.filename or ""), error) from error


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of glibc's mallopt."""


def keep_freed_memory() -> None:
    """Stop glibc from returning freed memory to the system; page faults otherwise take up to half of a CPU training step.

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


def last_checkpoint(folder: Path, *, also: Callable[[Path], bool] = lambda _: True) -> str | None:
    """Return the newest complete checkpoint of a folder, or None, for `Trainer.train(resume_from_checkpoint=…)`.

    The trainer's state is the last file of a checkpoint: one without it is of a run that was killed as it wrote. `also` asks for more.
    """
    numbered = [(int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _CHECKPOINT.fullmatch(path.name))]
    for _, path in sorted(numbered, reverse=True):
        if _is_written(path) and also(path):
            if not (damaged := _damaged(path)):
                return str(path)
            warn(f"{str(path)!r} is damaged ({', '.join(damaged)}): the run goes on from the checkpoint before it, if there is one")
    return None


def _is_written(checkpoint: Path) -> bool:
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError, TypeError):
        return False
    return True


def _damaged(checkpoint: Path) -> list[str]:
    """Return the files of weights and of the optimiser that are missing or not whole, as a power cut or a full disk leaves them.

    The trainer would begin anew with an optimiser that it does not find. Sharded checkpoints hold folders in place of some files.
    """
    paths = list(checkpoint.iterdir())
    missing = [] if any(path.is_dir() for path in paths) else [name for name in _NEEDED if not any(path.match(name) for path in paths)]
    return missing + sorted(path.name for path in paths if path.is_file() and not _is_whole(path))


def _is_whole(file: Path) -> bool:
    if file.suffix in (".pt", ".pth"):  # torch writes archives, whose directory is at the end
        return is_zipfile(file)
    if file.suffix != ".safetensors":
        return True
    try:
        tensor_shapes(file)
    except ModelError:
        return False
    return True
