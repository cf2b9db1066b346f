"""Device, dtype and attention implementation of models: explicit, set for a whole command, or automatic."""

import os
import re
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from embedrl.errors import ConfigError

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
"""How attention may be calculated. Kernels that transformers would fetch from a hub are code of others, and are not among them."""


QUANTIZATIONS = ("int8", "int4")
"""Of the weights of linear layers, as bitsandbytes does it: LLM.int8, and 4-bit NormalFloat."""

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
"""Of Linux: where a process begins anew to count its peak, and where that stands."""


@dataclass(frozen=True)
class Placement:
    """Placement settings; None is chosen automatically."""

    device: str | None = None
    """cpu, cuda, cuda:1, xpu or mps."""
    dtype: str | None = None
    attention: str | None = None
    quantize: str | None = None
    """int8 or int4, of models that are used and not trained."""


_default = Placement()


@contextmanager
def default_placement(placement: Placement) -> Generator[None]:
    """Context manager that sets the default placement of models loaded inside it. Raises ConfigError."""
    global _default
    if placement.device is not None:
        choose_device(placement.device)
    before, _default = _default, placement
    try:
        yield
    finally:
        _default = before


def accelerators() -> dict[str, int]:
    """Return kind -> number of the accelerators present, preferred ones first."""
    counts = {"cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    counts["xpu"] = torch.xpu.device_count() if torch.xpu.is_available() else 0
    counts["mps"] = int(torch.backends.mps.is_available())
    return {kind: count for kind, count in counts.items() if count}


def choose_device(name: str | None = None) -> str:
    """Return a device of torch: the named one, or the best that is there (of several, that of this process). Raises ConfigError."""
    there = accelerators()
    if name is None:
        kind = next(iter(there), "cpu")
        return f"{kind}:{os.environ.get('LOCAL_RANK', '0')}" if kind in ("cuda", "xpu") else kind
    kind, _, number = name.partition(":")
    if name == "cpu" or (kind in there and (not number or (number.isdecimal() and int(number) < there[kind]))):
        return name
    known = ", ".join(["cpu", *(f"{kind} ({count})" for kind, count in there.items())])
    raise ConfigError(f"device={name!r}: not on this machine, which has {known}")


def chosen_device() -> torch.device:
    """Return the device of models that are loaded now: as set for the command, else the best that is there. Raises ConfigError."""
    return torch.device(choose_device(_default.device))


def choose(device: str | None, dtype: str | torch.dtype | None, attention: str | None) -> tuple[str, str | torch.dtype, str]:
    """Return device, type and attention of a model: as given, else as set for the command, else by what is there. Raises ConfigError.

    The type that its files name is used on an accelerator, and float32 on a CPU.
    """
    device = choose_device(device or _default.device)
    dtype = dtype or _default.dtype or ("float32" if device == "cpu" else "auto")
    if isinstance(dtype, str) and dtype not in (*DTYPES, "auto"):
        raise ConfigError(f"dtype={dtype!r}: choose from {', '.join(DTYPES)}")
    attention = attention or _default.attention or ATTENTIONS[0]
    if attention not in ATTENTIONS:
        raise ConfigError(f"attention={attention!r}: choose from {', '.join(ATTENTIONS)}")
    return device, dtype, attention


def choose_quantization(quantize: str | None) -> str | None:
    """Return how weights are quantized: as given, else as set for the command; None: not at all. Raises ConfigError."""
    quantize = quantize or _default.quantize
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ConfigError(f"quantize={quantize!r}: choose from {', '.join(QUANTIZATIONS)}")
    return quantize


def memory_bytes() -> int:
    """Return the memory of the device that models are loaded on; of a CPU, that of the machine. Raises ConfigError."""
    kind, _, number = choose_device(_default.device).partition(":")
    if kind in ("cuda", "xpu"):
        return int(getattr(torch, kind).get_device_properties(int(number or 0)).total_memory)
    if kind == "mps":
        return int(torch.mps.recommended_max_memory())
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure anew what `peak_memory_bytes` returns, where that is possible."""
    if device.type in ("cuda", "xpu"):
        getattr(torch, device.type).reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError):  # no Linux, or one that does not allow it
            _CLEAR.write_text("5")


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the most memory that was held at once since the last reset: torch's on an accelerator, on a CPU the whole process's.

    None where it is not known (mps). On a CPU where no reset is possible it is that of the whole run so far.
    """
    if device.type in ("cuda", "xpu"):
        return int(getattr(torch, device.type).max_memory_allocated(device))
    if device.type != "cpu":
        return None
    if _STATUS.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(peak[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
