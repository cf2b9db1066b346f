"""What the authors' code makes of inputs, written down from facts: prompts, grids of patches, times of frames; nothing is computed by us.

Sources: Embed-RL 87b52f7 (eval/mmeb_eval: image before text, text before a video, its request, `<emb>` as the assistant's turn; train: a
video is one part); Qwen3-VL-Embedding 8ce3aab with qwen-vl-utils 0.0.14 (system turn, media before text, limits of its script); grids by
hand from `smart_resize` for visual tokens of 32 pixels; transformers 4.57.3 for the layout of a video, with which both were published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

STAGES = ("text", "ids", "grid", "frames", "position")
"""What is compared: prompt, token ids, patches (frames, rows, columns) of each medium, times of frames, the token that is pooled."""

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Reference:
    """One input as a family's own code sees it."""

    text: str
    """The prompt up to the token that is pooled, with one placeholder for each image or pair of frames."""
    grids: tuple[Grid, ...] = ()
    times_s: tuple[float, ...] = ()
    """When the frames of its video were seen, then when each key frame was that is shown again."""
    ours: Mapping[str, str] = field(default_factory=dict)
    """Stage -> why embedrl differs there, and in what follows from it."""


IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
PAIR = "<|vision_start|><|video_pad|><|vision_end|>"
REQUEST = "Summarize the above content in one word:"
TEXT_IDS = "The text differs, and so do its ids."
UPRIGHT = "Pictures are turned as their EXIF says, as every viewer shows them; theirs lie on their side."
SEVERAL = "Several pictures of an item are pictures, in their order, before the text; theirs are taken for the frames of one video."
COUNTED = "Key frames count from 1, as Embed-RL's prompts say; its evaluation takes 3 for the fourth frame."


def _embed_rl(user: str, **more: object) -> Reference:
    return Reference(f"<|im_start|>user\n{user}{REQUEST}<|im_end|>\n<|im_start|>assistant\n<emb>", **more)  # ty: ignore


def _embedding(user: str, instruction: str = "Represent the user's input.", **more: object) -> Reference:
    start = f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n"
    return Reference(f"{start}{user}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>", **more)  # ty: ignore


PAIRS = "".join(f"<{time} seconds>{PAIR}" for time in ("0.5", "2.5", "4.5", "6.5"))
EIGHT = tuple(float(number) for number in range(8))
TCOT = '<thinking>A cup. {"bbox_2d": [[0, 0, 500, 1000]]}</thinking>\n'
REST = "<rethink>It fits.</rethink>\n<answer>a red cup</answer>"
MOMENT = '<thinking>It turns. {"key_frames": [3]}</thinking>\n'

EMBED_RL: dict[str, Reference] = {
    "text": _embed_rl("a red star"),
    "text, instruction": _embed_rl("Find it. a red star"),
    "unicode": _embed_rl("größe  星\t1,914 🜁"),
    "image 640 x 480": _embed_rl(IMAGE, grids=((1, 30, 40),)),
    "image, text, instruction": _embed_rl(f"{IMAGE}Find it. a red star", grids=((1, 30, 40),)),
    "image 20 x 30": _embed_rl(IMAGE, grids=((1, 28, 20),)),
    "image 64 x 48": _embed_rl(IMAGE, grids=((1, 20, 28),)),
    "image 1500 x 1000": _embed_rl(IMAGE, grids=((1, 44, 66),)),
    "image 4000 x 3000": _embed_rl(IMAGE, grids=((1, 48, 64),)),
    "image 3000 x 20": _embed_rl(IMAGE, grids=((1, 2, 278),)),
    "page 1240 x 1754": _embed_rl(IMAGE, grids=((1, 64, 46),)),
    "image 640 x 480, turned by EXIF": _embed_rl(IMAGE, grids=((1, 30, 40),), ours={"grid": UPRIGHT}),
    "three images, text": _embed_rl(f"which?{IMAGE * 3}", grids=((1, 30, 40),) * 3, ours={"text": SEVERAL, "ids": TEXT_IDS}),
    "8 frames 640 x 360": _embed_rl(PAIRS, grids=((4, 22, 40),), times_s=EIGHT),
    "8 frames, text": _embed_rl(f"what happens?{PAIRS}", grids=((4, 22, 40),), times_s=EIGHT),
    "image, T-CoT with a box": _embed_rl(f"{IMAGE}{TCOT}{IMAGE}{REST}", grids=((1, 30, 40), (1, 30, 20))),
    "8 frames, T-CoT with a key frame": _embed_rl(
        f"{PAIRS}{MOMENT}{IMAGE}{REST}", grids=((4, 22, 40), (1, 22, 40)), times_s=(*EIGHT, 3.0), ours={"frames": COUNTED}
    ),
}
EMBEDDING: dict[str, Reference] = {
    "text": _embedding("a red star"),
    "text, instruction": _embedding("a red star", "Find it."),
    "unicode": _embedding("größe  星\t1,914 🜁"),
    "image 640 x 480": _embedding(IMAGE, grids=((1, 30, 40),)),
    "image, text, instruction": _embedding(f"{IMAGE}a red star", "Find it.", grids=((1, 30, 40),)),
    "image 20 x 30": _embedding(IMAGE, grids=((1, 6, 4),)),
    "image 64 x 48": _embedding(IMAGE, grids=((1, 4, 4),)),
    "image 1500 x 1000": _embedding(IMAGE, grids=((1, 62, 94),)),
    "image 4000 x 3000": _embedding(IMAGE, grids=((1, 72, 96),)),
    "image 3000 x 20": _embedding(IMAGE, grids=((1, 2, 188),)),
    "page 1240 x 1754": _embedding(IMAGE, grids=((1, 100, 70),)),
    "image 640 x 480, turned by EXIF": _embedding(IMAGE, grids=((1, 30, 40),), ours={"grid": UPRIGHT}),
    "three images, text": _embedding(f"{IMAGE * 3}which?", grids=((1, 30, 40),) * 3),
    "8 frames 640 x 360": _embedding(PAIRS, grids=((4, 22, 40),), times_s=EIGHT),
    "8 frames, text": _embedding(f"{PAIRS}what happens?", grids=((4, 22, 40),), times_s=EIGHT),
}
FAMILIES = {"Embed-RL": EMBED_RL, "Qwen3-VL-Embedding": EMBEDDING}


@dataclass(frozen=True)
class Clip:
    """A video file and what a family's rule makes of it."""

    num_frames: int
    grid: Grid
    """By `smart_resize` within the rule's share of a frame."""
    num_tokens: int
    """Visual tokens of the clip."""


CLIPS: dict[str, dict[tuple[int, str], Clip]] = {
    "Embed-RL": {
        (2, "640 x 360"): Clip(8, (4, 22, 40), 880),
        (10, "640 x 360"): Clip(8, (4, 22, 40), 880),
        (100, "640 x 360"): Clip(8, (4, 22, 40), 880),
        (2, "1280 x 720"): Clip(8, (4, 24, 46), 1104),
    },
    "Qwen3-VL-Embedding": {
        (2, "640 x 360"): Clip(4, (2, 22, 40), 440),
        (10, "640 x 360"): Clip(10, (5, 22, 40), 1100),
        (100, "640 x 360"): Clip(64, (32, 22, 40), 7040),
        (2, "1280 x 720"): Clip(4, (2, 40, 72), 1440),
    },
}
"""By length in seconds and size. Embed-RL: 8 frames of 128 to 300 tokens. Qwen3-VL-Embedding: a frame a second, 4 to 64, 128 to 768 tokens
each, all within 7,864,320 pixels, of which two frames share theirs. 100 s: 7,864,320 x 2 / 64 = 245,760 pixels a frame."""
