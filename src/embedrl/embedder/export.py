"""Export for other engines: sentence-transformers files and a chat template for last-token pooling.

The prompt ends at the token whose state is the vector, so it is enough that the chat template writes that token and that the engine
pools the last one. The messages are those of `embedder.inputs.build`; `add_generation_prompt` must be on.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedrl.embedder.inputs import DEFAULT_INSTRUCTION, VIDEO, WRAPPED_VIDEO
from embedrl.errors import ModelError
from embedrl.files import flaw
from embedrl.log import warn
from embedrl.media.resize import VisualBudget
from embedrl.models.weights import read_model_json

TEMPLATE, MODULES, PROCESSOR, README = "chat_template.jinja", "modules.json", "processor_config.json", "README.md"
SETTINGS = "config_sentence_transformers.json"

_LIMITS_FRAMES = ("Qwen2VLVideoProcessor",)
_DEFAULT_SYSTEM_TURN = (
    """{%- if messages[0].role != 'system' %}{{- "<|im_start|>system\\n""" + DEFAULT_INSTRUCTION + """<|im_end|>\\n" }}{%- endif %}\n"""
)
"""What Qwen3-VL-Embedding is told where a caller says nothing."""

AREA_GRID = "this model was trained on grids nearest to the area of an image; processors round otherwise"
SMALL_FRAMES = "a processor's minimum is that of a clip, this model's that of a frame: small frames are enlarged less"
_README = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, embedrl]
---

# An Embedder of embedrl

Vectors of texts, images, videos and pages, {dim} numbers of unit length: last-token pooling on a vision-language model.

- embedrl: `embedrl index DIR --embedder FOLDER`
- sentence-transformers: `SentenceTransformer("FOLDER").encode("a red bicycle")`; images and videos as parts of a message
- vLLM: `vllm serve FOLDER --runner pooling`, then `messages` with `add_generation_prompt` to `/v1/embeddings`

From these files other engines give embedrl's vectors (`embedrl doctor parity --embedder FOLDER` compares them) but for what follows.

- Evidence of a T-CoT is cut out and scaled by embedrl, and frames are sampled by it. The frames need their times (`video_metadata`).
{differences}"""


def write_serving_files(folder: Path, dim: int, budget: VisualBudget, *, end: str, wraps_videos: bool = True) -> None:
    """Add `end` to the saved chat template's generation prompt, set its pixel limits, and write sentence-transformers' files.

    Its processor then scales images and videos to our grids: with a budget a second, all but those whose frames are smaller than its
    minimum; without, videos of `num_frames` frames. Without `end`, the default instruction is said. A README says how to use the folder.
    `wraps_videos=False` takes the pair of vision tokens around a video out of the template, for models that were trained without it.
    """
    writes_end = f"{{%- if add_generation_prompt %}}{{{{- '{end}' }}}}{{%- endif %}}"
    template = (folder / TEMPLATE).read_text("utf-8")
    if not wraps_videos:
        template = template.replace(WRAPPED_VIDEO, VIDEO)
    if not end and DEFAULT_INSTRUCTION not in template:
        template = _DEFAULT_SYSTEM_TURN + template
    if end and not template.endswith(writes_end):
        template += writes_end
    (folder / TEMPLATE).write_text(template, "utf-8")

    processor = json.loads((folder / PROCESSOR).read_text("utf-8"))
    processor["image_processor"] |= {"do_resize": True, "size": _size(budget.image.min_pixels, budget.image.max_pixels)}
    processor["video_processor"] |= {"do_resize": True, **_video_limits(processor["video_processor"], budget)}
    _write(folder / PROCESSOR, processor)
    if not (readme := folder / README).is_file():
        readme.write_text(_README.format(dim=dim, differences=_differences(budget, processor)), "utf-8")

    _write_modules(folder, _MODULES)
    calls = {"method": "forward", "method_output_name": "last_hidden_state"}
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {**dict.fromkeys(("text", "image", "video"), calls), "message": {**calls, "format": "structured"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True}, "text": {"add_special_tokens": not end}},
        "unpad_inputs": False,
    }
    _write(folder / "sentence_bert_config.json", transformer)
    _write(folder / SETTINGS, {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"})
    pooling = {"embedding_dimension": dim, "pooling_mode": "lasttoken", "include_prompt": True}
    for name, settings in {"1_Pooling": pooling, "2_Normalize": {}}.items():
        (folder / name).mkdir(exist_ok=True)
        _write(folder / name / "config.json", settings)


class _Module(NamedTuple):
    kind: str
    path: str


_MODULES = _Module("transformer.Transformer", ""), _Module("pooling.Pooling", "1_Pooling"), _Module("normalize.Normalize", "2_Normalize")
_DENSE, _DENSE_WEIGHTS, _WEIGHT = "2_Dense", "model.safetensors", "linear.weight"


def _write_modules(folder: Path, modules: Sequence[_Module]) -> None:
    rows = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.{'sentence_transformer' if 'Pooling' in kind else 'base'}.modules.{kind}",
        }
        for number, (kind, path) in enumerate(modules)
    ]
    _write(folder / MODULES, rows)


def write_projection(folder: Path, weight_dH: Tensor) -> None:
    """Put a matrix (dim, hidden size) behind the pooling of a folder that has sentence-transformers' files, as their Dense module."""
    dim, hidden = weight_dH.shape
    (folder / _DENSE).mkdir(exist_ok=True)
    settings = {"in_features": hidden, "out_features": dim, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
    _write(folder / _DENSE / "config.json", settings)
    save_file({_WEIGHT: weight_dH.float().contiguous()}, folder / _DENSE / _DENSE_WEIGHTS)
    _write_modules(folder, [*_MODULES[:2], _Module("dense.Dense", _DENSE), _MODULES[2]])
    if (readme := folder / README).is_file():
        readme.write_text(re.sub(r"\d+( numbers of unit length)", rf"{dim}\1", readme.read_text("utf-8")), "utf-8")


def refuse_other_modules(folder: Path) -> None:
    """Raise ModelError if a folder's sentence-transformers files say that its vectors are made in another way than here.

    That is by the last token's state of one transformer, times at most one matrix, of unit length. A folder without such files says
    nothing. Settings that are not applied are warned of.
    """
    if modules := _read_modules(folder):
        _warn_of_unread(folder)
        _check(folder, modules)


def has_projection(folder: Path) -> bool:
    """Return whether there is a Dense module behind the pooling, whatever else it does."""
    return any(kind == "Dense" for kind, _ in _read_modules(folder))


def read_projection(folder: Path) -> Tensor | None:
    """Return the matrix behind the pooling (sentence-transformers' Dense module), float32 (dim, hidden size); None without one.

    Raises ModelError for what `refuse_other_modules` refuses, and for a matrix that cannot be read.
    """
    modules = _read_modules(folder)
    _check(folder, modules)
    paths = [path for kind, path in modules if kind == "Dense"]
    if not paths:
        return None
    file = folder / paths[0] / _DENSE_WEIGHTS
    if missing := flaw(file):
        raise ModelError(f"{str(file)!r} {missing}: download it again")
    try:
        weight_dH = load_file(file)[_WEIGHT].float()
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{str(file)!r} holds no {_WEIGHT} ({error}): download it again") from error
    if weight_dH.ndim != 2 or not weight_dH.isfinite().all():
        raise ModelError(f"{str(file)!r}: {_WEIGHT} is no matrix of finite numbers")
    return weight_dH


def _read_modules(folder: Path) -> list[_Module]:
    if not (folder / MODULES).is_file():
        return []
    try:
        return [
            _Module(str(row["type"]).rpartition(".")[2], str(row.get("path", ""))) for row in read_model_json(folder / MODULES, kind=list)
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{str(folder / MODULES)!r} is no list of modules ({error}): download it again") from error


def _beyond_matrix(settings: Mapping[str, Any]) -> str:
    """Return what a Dense module does beside multiplying with its matrix, or ""."""
    activation = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    does = {"a bias": settings.get("bias", True), activation: activation != "Identity", "a residual": settings.get("use_residual")}
    return " and ".join(name for name, is_on in does.items() if is_on)


def _check(folder: Path, modules: Sequence[_Module]) -> None:
    num_dense = 0
    for kind, path in modules:
        reason = ""
        if kind == "Pooling":
            settings = read_model_json(folder / path / "config.json")
            mode = settings.get("pooling_mode") or [
                name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True
            ]
            reason = "" if mode in ("lasttoken", ["pooling_mode_lasttoken"]) else f"pools by {mode!r}, not by the last token"
        elif kind == "Dense":
            num_dense += 1
            more = "a second one" if num_dense > 1 else _beyond_matrix(read_model_json(folder / path / "config.json"))
            reason = f"has a module 'Dense' behind the transformer with {more}" if more else ""
        elif kind not in ("Transformer", "Normalize"):
            reason = f"has a module {kind!r} behind the transformer"
        if reason:
            raise ModelError(
                f"{str(folder)!r} {reason}: its vectors are made by sentence-transformers, and would be others here; serve it (vLLM, "
                "infinity) and give the URL as the Embedder, or train one that ends with the last token's state"
            )


def _warn_of_unread(folder: Path) -> None:
    """Warn of settings of sentence-transformers that make its vectors others than those of here."""
    settings = read_model_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    if name and isinstance(prompts, dict) and (prompt := prompts.get(name)):
        warn(f"{str(folder)!r}: the default prompt {prompt!r:.80} of sentence-transformers is not used: here items have instructions")
    if size := settings.get("truncate_dim"):
        warn(f"{str(folder)!r}: truncate_dim={size!r:.20} is not applied: vectors have all their numbers")


def _differences(budget: VisualBudget, processor: dict[str, Any]) -> str:
    clips = f"the limits of a clip are those of {budget.num_frames} frames, as many as this model is shown"
    said = [f"{SMALL_FRAMES} (below {budget.frame.min_pixels:,} pixels)" if budget.fps else clips]
    said += [AREA_GRID] if budget.grid == "area" else []
    images, videos = processor["image_processor"], processor["video_processor"]
    if any(images.get(name) != videos.get(name) for name in ("image_mean", "image_std")):
        said.append("images and videos are normalised differently: vLLM 0.32 needs --no-mm-device-do-normalize for that")
    return "".join(f"- {line[0].upper()}{line[1:]}.\n" for line in said)


def _video_limits(processor: dict[str, Any], budget: VisualBudget) -> dict[str, Any]:
    """Return the settings of a video processor with which it scales frames as the budget says.

    That of Qwen2-VL and Qwen2.5-VL limits a frame. That of Qwen3-VL limits a clip, and where it is told so each frame from above; it knows
    no minimum of a frame. Versions of transformers differ in what they do where it is not told.
    """
    frame, clip_pixels = budget.frame, 2 * (budget.clip_pixels or budget.frame.max_pixels * budget.num_frames)
    if processor["video_processor_type"] in _LIMITS_FRAMES:
        return {"size": _size(frame.min_pixels, frame.max_pixels), "cap_pixels_per_frame": False}
    if not budget.fps:
        largest = min(frame.max_pixels * budget.num_frames, clip_pixels)
        return {"size": _size(frame.min_pixels * budget.num_frames, largest), "cap_pixels_per_frame": False}
    visual_token = (processor["patch_size"] * processor["merge_size"]) ** 2
    most = frame.max_pixels // visual_token
    return {"size": _size(frame.min_pixels, clip_pixels), "cap_pixels_per_frame": True, "max_video_tokens": most}


def _size(smallest: int, largest: int) -> dict[str, int]:
    return {"shortest_edge": smallest, "longest_edge": largest}


def _write(path: Path, table: Any) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n", "utf-8")
