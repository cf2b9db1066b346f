"""Export for other engines: sentence-transformers files and a chat template for last-token pooling.

The prompt ends at the token whose state is the vector, so it is enough that the chat template writes that token and that the engine
pools the last one. The messages are those of `embedder.inputs.build`; `add_generation_prompt` must be on.
"""

import json
from pathlib import Path
from typing import Any

from embedrl.embedder.inputs import DEFAULT_INSTRUCTION, VIDEO, WRAPPED_VIDEO
from embedrl.media.resize import VisualBudget

TEMPLATE = "chat_template.jinja"


_DEFAULT_SYSTEM_TURN = (
    """{%- if messages[0].role != 'system' %}{{- "<|im_start|>system\\n""" + DEFAULT_INSTRUCTION + """<|im_end|>\\n" }}{%- endif %}\n"""
)
"""What Qwen3-VL-Embedding is told where a caller says nothing."""


def write_serving_files(folder: Path, dim: int, budget: VisualBudget, *, end: str, wraps_videos: bool = True) -> None:
    """Add `end` to the saved chat template's generation prompt, set its pixel limits, and write sentence-transformers' files.

    Its processor then scales images and videos of `num_frames` frames to our grids. Without `end`, the default instruction is said.
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

    processor = json.loads((folder / "processor_config.json").read_text("utf-8"))
    clip_pixels = min(budget.frame.max_pixels * budget.num_frames, 2 * (budget.clip_pixels or budget.frame.max_pixels * budget.num_frames))
    for kind, smallest, largest in (
        ("image_processor", budget.image.min_pixels, budget.image.max_pixels),
        ("video_processor", budget.frame.min_pixels * (1 if budget.fps else budget.num_frames), clip_pixels),
    ):
        processor[kind] |= {"do_resize": True, "size": {"shortest_edge": smallest, "longest_edge": largest}}
    _write(folder / "processor_config.json", processor)

    modules = ("transformer.Transformer", ""), ("pooling.Pooling", "1_Pooling"), ("normalize.Normalize", "2_Normalize")
    _write(
        folder / "modules.json",
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
    _write(folder / "config_sentence_transformers.json", {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"})
    pooling = {"embedding_dimension": dim, "pooling_mode": "lasttoken", "include_prompt": True}
    for name, settings in {"1_Pooling": pooling, "2_Normalize": {}}.items():
        (folder / name).mkdir(exist_ok=True)
        _write(folder / name / "config.json", settings)


def _write(path: Path, table: Any) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n", "utf-8")
