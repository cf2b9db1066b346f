"""Tiny random checkpoints with the file layouts in which Qwen3-VL, Qwen3-VL-Embedding and Embed-RL are published.

The keys of the configurations, the special tokens and their order, the shape of the chat template and the names of the files are
those of the published models (as transformers 4.57 wrote them); sizes, vocabulary and weights are not.
"""

import json
from pathlib import Path
from typing import Any

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"),
    *("<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
PLAIN = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>")
PLAIN += ("<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>")
NUM_BYTES = 256
NUM_ROWS = 320
"""Rows of the embedding: more than there are tokens, as in the published models (151,936 for 151,669)."""

CHAT_TEMPLATE = """{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' and messages[0].content is string %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n' }}{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}{{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].content is string %}{{- messages[0].content }}
{%- else %}{%- for part in messages[0].content %}{%- if 'text' in part %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- set pictures = namespace(value=0) %}{%- set clips = namespace(value=0) %}
{%- for message in messages %}
{%- if message.role in ('user', 'assistant') %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{- message.content }}
{%- else %}{%- for part in message.content %}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
{%- set pictures.value = pictures.value + 1 %}{%- if add_vision_id %}Picture {{ pictures.value }}: {% endif -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' or 'video' in part %}
{%- set clips.value = clips.value + 1 %}{%- if add_vision_id %}Video {{ clips.value }}: {% endif -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- elif 'text' in part %}{{- part.text }}
{%- endif %}{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def qwen3_vl_config(**extra: Any) -> dict[str, Any]:
    """config.json with the published keys, old names of rotary settings included."""
    ids = {token: NUM_BYTES + number for number, token in enumerate(SPECIAL)}
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": ids["<|image_pad|>"],
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": ids["<|endoftext|>"],
            "dtype": "bfloat16",
            "eos_token_id": ids["<|im_end|>"],
            "head_dim": 16,
            "hidden_act": "silu",
            "hidden_size": 64,
            "initializer_range": 0.05,
            "intermediate_size": 128,
            "max_position_embeddings": 262144,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": 4,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"},
            "rope_theta": 5000000,
            "tie_word_embeddings": True,
            "use_cache": True,
            "vocab_size": NUM_ROWS,
        },
        "tie_word_embeddings": True,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            "deepstack_visual_indexes": [0, 1],
            "depth": 3,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 32,
            "in_channels": 3,
            "initializer_range": 0.05,
            "intermediate_size": 64,
            "model_type": "qwen3_vl",
            "num_heads": 2,
            "num_position_embeddings": 64,
            "out_hidden_size": 64,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        **extra,
    }


def write_instruct(folder: Path, *, seed: int = 0, added: tuple[str, ...] = (), ends_with: str | None = None, **config: Any) -> Path:
    """Write a checkpoint in the layout of Qwen3-VL-*-Instruct.

    `added` are tokens behind the published ones; with `ends_with` the tokenizer puts this token behind every text.
    """
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    table = qwen3_vl_config(**config)
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(json.loads(json.dumps(table)))).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="200KB")  # several files and an index, as at 4B and above
    _write(folder / "config.json", table)
    generation = {"do_sample": True, "eos_token_id": [258, 256], "pad_token_id": 256, "repetition_penalty": 1.0}
    _write(folder / "generation_config.json", {**generation, "temperature": 0.7, "top_k": 20, "top_p": 0.8})
    _write_processor(folder, added, ends_with)
    return folder


def write_embed_rl(folder: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint in the layout of Embed-RL-2B: `<emb>` in the tokenizer, its id in the configuration."""
    return write_instruct(folder, seed=seed, added=("<emb>",), emb_token_ids=[NUM_BYTES + len(SPECIAL) + len(PLAIN)])


def write_qwen3_vl_embedding(folder: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint in the layout of Qwen3-VL-Embedding-2B: its tokenizer ends every text, and that state is the vector."""
    return write_instruct(folder, seed=seed, ends_with="<|endoftext|>")


def _write_processor(folder: Path, added: tuple[str, ...], ends_with: str | None) -> None:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokens = (*SPECIAL, *PLAIN, *added)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.NFC()
    pieces = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pieces), "isolated"), bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    for token in tokens:
        tokenizer.add_tokens([AddedToken(token, special=token in SPECIAL, normalized=False)])
    post = processors.ByteLevel(trim_offsets=False)
    if ends_with:
        post = processors.Sequence(
            [post, processors.TemplateProcessing(single=f"$A {ends_with}", special_tokens=[(ends_with, tokenizer.token_to_id(ends_with))])]
        )
    tokenizer.post_processor = post
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(NUM_BYTES + number): {"content": token, **flags, "special": token in SPECIAL} for number, token in enumerate(tokens)
        },
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 262144,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _write(folder / "tokenizer_config.json", settings)
    _write(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    shape = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    images = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, **shape, "processor_class": "Qwen3VLProcessor"}
    _write(folder / "preprocessor_config.json", {**images, "image_processor_type": "Qwen2VLImageProcessorFast"})
    videos = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, **shape, "processor_class": "Qwen3VLProcessor"}
    _write(folder / "video_preprocessor_config.json", {**videos, "video_processor_type": "Qwen3VLVideoProcessor"})


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2), "utf-8")
