"""Configurations of the nano models: Qwen3-VL of transformers, made tiny."""

from transformers import Qwen3VLConfig

PATCH = 8
FACTOR = PATCH * 2
"""Pixels a side of one visual token: patch size times merge size."""


def nano_config(vocab_size: int, token_ids: dict[str, int]) -> Qwen3VLConfig:
    """Return the configuration shared by the nano Reasoner and Embedder; `token_ids` maps the added tokens to ids."""
    return Qwen3VLConfig(
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "num_heads": 4,
            "intermediate_size": 384,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 192,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [1, 2],
        },
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "initializer_range": 0.05,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True},
            "pad_token_id": token_ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        image_token_id=token_ids["<|image_pad|>"],
        video_token_id=token_ids["<|video_pad|>"],
        vision_start_token_id=token_ids["<|vision_start|>"],
        vision_end_token_id=token_ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
