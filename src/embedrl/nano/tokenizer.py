"""The nano tokenizer: byte-level BPE trained on the world's own texts, with Qwen3-VL's special tokens and chat shape."""

import random
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from embedrl.data.sample import Role
from embedrl.data.tcot import render
from embedrl.nano.models import PATCH
from embedrl.reasoner.prompts import template
from embedrl.world.tasks import TASKS, draw_family

VOCAB_SIZE = 1024
NUM_FAMILIES = 6000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<emb>")
TAGS = ("<thinking>", "</thinking>", "<rethink>", "</rethink>", "<answer>", "</answer>")
"""T-CoT tags: one token each, but plain text, not special."""
_PIECES = r""" ?\{"[a-z_0-9]+": \[+| ?\]+\}| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>
{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
"""The shape of Qwen3-VL's template, without tools."""


def texts(seed: int) -> Iterator[str]:
    """Yield the tokenizer's training texts: prompts, item texts and T-CoTs."""
    rng = random.Random(f"tokenizer:{seed}")
    for _ in range(NUM_FAMILIES):
        for query, target in draw_family(rng.choice(list(TASKS)), "train", rng, num_variants=1):
            for side in (query, target):
                yield f"{side.item.instruction} {side.item.text}"
                yield render(side.annotated(rng))
    for role in (*Role, "match", "pick"):
        yield from [template("nano", role)] * 20
    for number in range(200):
        yield f"Frame {number % 8 + 1} ({number / 20:.1f} s) <{number / 20:.1f} seconds>"


def build_processor(seed: int) -> Qwen3VLProcessor:
    """Train the tokenizer and return the nano processor (tokenizer, image and video processors, chat template)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL) - len(TAGS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(seed), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        padding_side="left",
    )
    shape: dict[str, Any] = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "do_resize": False}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape),
        tokenizer=fast,
        video_processor=Qwen3VLVideoProcessor(**shape, do_sample_frames=False, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )
