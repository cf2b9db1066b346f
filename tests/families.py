"""Tiny random checkpoints of other families than Qwen3-VL, with the tokenizer and chat template of tests/checkpoints.py."""

import json
from pathlib import Path
from typing import Any

from tests.checkpoints import CHAT_TEMPLATE, NUM_BYTES, NUM_ROWS, SPECIAL, write_instruct

IDS = {token: NUM_BYTES + number for number, token in enumerate(SPECIAL)}
TOKENS = {
    "image_token_id": IDS["<|image_pad|>"],
    "video_token_id": IDS["<|video_pad|>"],
    "vision_start_token_id": IDS["<|vision_start|>"],
    "vision_end_token_id": IDS["<|vision_end|>"],
}
TEXT = {
    "vocab_size": NUM_ROWS,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "eos_token_id": IDS["<|im_end|>"],
    "bos_token_id": IDS["<|endoftext|>"],
    "pad_token_id": IDS["<|endoftext|>"],
}


ROPE = {"rope_type": "default", "rope_theta": 1e6}
VISION = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 64}
QWEN3_VISION = {**VISION, "patch_size": 16, "num_position_embeddings": 64}
LINEAR = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "qwen2_vl": (
        "Qwen2VL",
        {"rope_parameters": {**ROPE, "mrope_section": [2, 3, 3]}},
        {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14},
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VL",
        {"rope_parameters": {**ROPE, "mrope_section": [2, 3, 3]}},
        {**VISION, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
    ),
    "qwen3_vl_moe": (
        "Qwen3VLMoe",
        {"head_dim": 16, "rope_parameters": {**ROPE, "mrope_section": [4, 2, 2], "mrope_interleaved": True}, **EXPERTS},
        {**QWEN3_VISION, "deepstack_visual_indexes": [0, 1]},
    ),
    "qwen3_5": (
        "Qwen3_5",
        {
            "head_dim": 16,
            "rope_parameters": {**ROPE, "mrope_section": [4, 2, 2], "mrope_interleaved": True, "partial_rotary_factor": 1.0},
            "layer_types": ["linear_attention", "full_attention"],
            **LINEAR,
        },
        QWEN3_VISION,
    ),
}
"""model_type -> prefix of its classes, settings of the text model, settings of the vision tower."""


def write_family(folder: Path, model_type: str, *, seed: int = 0, added: tuple[str, ...] = ()) -> Path:
    """Write a tiny random model of a family; its processor is that of the family, too."""
    import torch
    import transformers

    write_instruct(folder, added=added)
    for path in [*folder.glob("*.safetensors*"), folder / "generation_config.json"]:
        path.unlink()
    prefix, text, vision = FAMILIES[model_type]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{prefix}Config")(text_config={**TEXT, **text}, vision_config=vision, **TOKENS)
    getattr(transformers, f"{prefix}ForConditionalGeneration")(config).to(torch.bfloat16).save_pretrained(folder)
    if vision["patch_size"] != 14:
        return folder
    shape = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, "processor_class": f"{prefix}Processor"}
    images = {"image_processor_type": "Qwen2VLImageProcessorFast", "min_pixels": 3136, "max_pixels": 12845056, **shape}
    (folder / "preprocessor_config.json").write_text(json.dumps(images), "utf-8")
    videos = {"video_processor_type": "Qwen2VLVideoProcessor", "min_pixels": 3136, "max_pixels": 602112, **shape}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(videos), "utf-8")
    return folder


def write_llava(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny LLaVA: a processor that scales images itself, and a chat template of its own."""
    import torch
    import transformers

    write_instruct(folder)
    for pattern in ("*.safetensors*", "generation_config.json", "*preprocessor_config.json", "chat_template.json"):
        for path in folder.glob(pattern):
            path.unlink()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
    }
    torch.manual_seed(seed)
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config={"model_type": "clip_vision_model", **vision, "image_size": 56, "patch_size": 14},
        image_token_id=IDS["<|image_pad|>"],
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    scaler = transformers.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    template = CHAT_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<|image_pad|>")
    kind = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1, "image_token": "<|image_pad|>"}
    transformers.LlavaProcessor(scaler, tokenizer, chat_template=template, **kind).save_pretrained(folder)
    return folder
