"""Weights in 8 or 4 bits, through bitsandbytes: a model that is too large in bf16 fits, its vectors and texts are a little others."""

import importlib.util
import logging
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from embedrl.errors import ModelError
from embedrl.models.hub import is_offline

INSTALL = "pip install 'embedrl[quantize]'"


def quantization(kind: str, device: str, dtype: str | torch.dtype) -> dict[str, Any]:
    """Return what `from_pretrained` takes to load a model in "int8" or "int4". Raises ModelError if that cannot be done here.

    The head and embeddings stay as they are, as does all arithmetic: only weights of linear layers are stored in fewer bits.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"quantize={kind!r} needs bitsandbytes, which is not installed: {INSTALL}")
    fetches = device.startswith(("cpu", "mps")) and importlib.util.find_spec("kernels") is not None and not is_offline()
    if fetches:
        raise ModelError(
            f"quantize={kind!r}: with the package kernels installed, bitsandbytes fetches code from a hub and runs it on this device; "
            "uninstall kernels, or set HF_HUB_OFFLINE=1"
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at each layer in which type it calculates
    calculates = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if kind == "int8":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=calculates)
    return {"quantization_config": settings, "device_map": {"": device}}


def quantized(model: Any) -> str | None:
    """Return "int8" or "int4" for a model whose weights are; None for another."""
    settings = getattr(model.config, "quantization_config", None)
    return None if settings is None else "int8" if getattr(settings, "load_in_8bit", False) else "int4"


def cast_unquantized(model: Any) -> Any:
    """Give the weights that are not quantized the type of the model, and return it.

    Of a folder that was saved quantized, transformers reads biases in the type asked for, and weights in the one they were saved in.
    """
    if quantized(model):
        for weight in model.parameters():
            if weight.dtype in (torch.float32, torch.bfloat16, torch.float16):
                weight.data = weight.data.to(model.config.dtype)
    return model
