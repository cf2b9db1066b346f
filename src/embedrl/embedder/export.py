"""Export for other engines: sentence-transformers files and a chat template for last-token pooling.

The prompt ends at the token whose state is the vector, so it is enough that the chat template writes that token and that the engine
pools the last one. The messages are those of `embedder.inputs.build`; `add_generation_prompt` must be on.
"""

import json
from pathlib import Path
from typing import Any

from embedrl.embedder.inputs import DEFAULT_INSTRUCTION, VIDEO, WRAPPED_VIDEO
from embedrl.errors import ModelError
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

    modules = ("transformer.Transformer", ""), ("pooling.Pooling", "1_Pooling"), ("normalize.Normalize", "2_Normalize")
    _write(
        folder / MODULES,
        [
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.{'sentence_transformer' if 'Pooling' in kind else 'base'}.modules.{kind}",
            }
            for number, (kind, path) in enumerate(modules)
        ],
    )
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


def refuse_other_modules(folder: Path) -> None:
    """Raise ModelError if a folder's sentence-transformers files say that its vectors are made in another way than here.

    That is by the last token's state of one transformer, of unit length; a folder without such files says nothing.
    """
    if not (folder / MODULES).is_file():
        return
    try:
        modules = [(str(row["type"]).rpartition(".")[2], str(row.get("path", ""))) for row in read_model_json(folder / MODULES, kind=list)]
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{str(folder / MODULES)!r} is no list of modules ({error}): download it again") from error
    _warn_of_unread(folder)
    for kind, path in modules:
        reason = ""
        if kind == "Pooling":
            settings = read_model_json(folder / path / "config.json")
            mode = settings.get("pooling_mode") or [
                name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True
            ]
            reason = "" if mode in ("lasttoken", ["pooling_mode_lasttoken"]) else f"pools by {mode!r}, not by the last token"
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
