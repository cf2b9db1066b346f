"""How fast rollouts are embedded for the reward: prefix-shared groups, beside plain batches and one call per rollout, same inputs.

Plain batches twice: of `Embedder.embed`, with the shortcuts that groups take, too (an item decoded once, equal pictures once, the last
layer for the last token, two batches at once), and without them: every rollout made ready on its own, the model as transformers runs it,
one batch after another. Single calls are of that kind. Twice: the nano Embedder on a batch of the world's pairs, and a larger random
model on pictures of 256 and 676 visual tokens. Times are the best of a few rounds that take turns; every way gives the same
vectors, which is checked.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import PIL.Image
import torch
from transformers import Qwen3VLConfig, Qwen3VLModel

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import Embedder, batches
from embedrl.embedder.prefix import embed_groups
from embedrl.log import result, table
from embedrl.media.content import Image
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.models.qwen3_vl_fast import patch_forward
from embedrl.runtime.names import load_embedder
from embedrl.world.tasks import TASKS, make_families

GROUP = 8
ROUNDS, ROUNDS_LARGE = 5, 2
MIN_COSINE = 0.99999
WAYS = ("prefix-shared", "plain batches", "plain batches, stock", "one by one, stock")


def main(size: str = "") -> None:
    """Print the table; ends with an error if the ways disagree. `--nano`: without the larger model."""
    nano = load_embedder("nano")
    assert isinstance(nano, Embedder)
    rng = random.Random(0)
    sides = [side for name in TASKS for made in make_families("rl", 0, 1, 2, [name]) for side in (made.query, made.target)]
    rows = [
        _compare(
            f"nano, {len(sides)} items of all tasks",
            nano,
            [side.item for side in sides],
            [[side.annotated(rng) for _ in range(GROUP)] for side in sides],
            ROUNDS,
        )
    ]
    for tokens_a_side in () if size == "--nano" else (16, 26):
        embedder, side = large(nano, tokens_a_side)
        pixels = np.random.default_rng(0).integers(0, 255, (2, side, side, 3), dtype=np.uint8)
        items = [Item(content=(Image(pixels=PIL.Image.fromarray(each)),), role=Role.TARGET_IMAGE) for each in pixels]
        name = f"larger random model, {tokens_a_side**2} visual tokens"
        rows.append(_compare(name, embedder, items, [draw_tcots(rng) for _ in items], ROUNDS_LARGE))
    columns = ["rollouts / s", *WAYS, *(f"x {way}" for way in WAYS[1:])]
    table(f"Embedding groups of {GROUP} rollouts", columns, rows)


def _compare(name: str, embedder: Embedder, items: Sequence[Item], groups: Sequence[Sequence[TCoT]], rounds: int) -> list[str]:
    flat = [(item, tcot) for item, group in zip(items, groups, strict=True) for tcot in group]
    as_it_is = stock(embedder)

    runs: tuple[Callable[[], np.ndarray], ...] = (
        lambda: np.concatenate(embed_groups(embedder, items, groups)),
        lambda: embedder.embed([item for item, _ in flat], [tcot for _, tcot in flat]),
        lambda: batch_by_batch(as_it_is, flat),
        lambda: np.concatenate([as_it_is.embed([item], [tcot]) for item, tcot in flat]),
    )
    best, vectors = race(dict(zip(WAYS, runs, strict=True)), rounds)
    worst = min(float((vectors[WAYS[2]] * vectors[way]).sum(1).min()) for way in WAYS)
    seconds = ", ".join(f"{way} {best[way]:.2f} s" for way in WAYS)
    result(f"{name}: smallest cosine between the ways {worst:.7f}; {seconds}")
    if worst < MIN_COSINE:
        raise SystemExit(f"{name}: the ways disagree (cosine {worst:.7f}, at least {MIN_COSINE} is wanted)")
    speeds = [len(flat) / best[way] for way in WAYS]
    return [name, *(f"{speed:.1f}" for speed in speeds), *(f"{speeds[0] / speed:.2f}" for speed in speeds[1:])]


def stock(embedder: Embedder) -> Embedder:
    """Return the same weights in a model as transformers makes it."""
    model = type(embedder.model)(embedder.model.config)
    model.load_state_dict(embedder.model.state_dict())
    return Embedder(model, embedder.processor, embedder.budget, "stock", layout=embedder.layout)


def batch_by_batch(embedder: Embedder, flat: Sequence[tuple[Item, TCoT]]) -> np.ndarray:
    """Embed rollouts as if they had nothing in common, in padded batches of like length."""
    built = [embedder.build(item, tcot) for item, tcot in flat]
    vectors = np.zeros((len(built), embedder.dim), np.float32)
    for rows in batches(embedder.lengths(built), [1] * len(built), embedder.batch_tokens):
        vectors[rows] = embedder.encode([built[row] for row in rows]).numpy()
    return vectors


def race(ways: Mapping[str, Callable[[], np.ndarray]], rounds: int = 3) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Let ways of embedding take turns; return the best time of each, seconds, and the vectors that it gave last."""
    best = dict.fromkeys(ways, float("inf"))
    vectors: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            started = time.perf_counter()
            vectors[way] = run()
            best[way] = min(best[way], time.perf_counter() - started)
    return best, vectors


def large(nano: Embedder, tokens_a_side: int) -> tuple[Embedder, int]:
    """Return a random model of eight layers, hidden 512, that sees a square picture in so many tokens a side, and its pixels a side."""
    config = nano.model.config.to_dict()
    config["text_config"] |= {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    }
    config["text_config"] |= {
        "head_dim": 64,
        "rope_parameters": {**config["text_config"]["rope_parameters"], "mrope_section": [12, 10, 10]},
    }
    config["vision_config"] |= {"hidden_size": 256, "num_heads": 4, "intermediate_size": 768, "depth": 6, "out_hidden_size": 512}
    torch.manual_seed(0)
    model = patch_forward(Qwen3VLModel(Qwen3VLConfig(**config)))
    side = tokens_a_side * nano.factor
    whole, part = (PixelRange(min_pixels=1024, max_pixels=pixels) for pixels in (side * side, 64 * 64))
    return Embedder(model, nano.processor, VisualBudget(image=whole, frame=part, crop=part), "random"), side


def draw_tcots(rng: random.Random) -> list[TCoT]:
    """Return a group of T-CoTs of an image: 24 random words in two places, and a box."""
    words = ("red", "star", "blue", "ring", "left", "top", "small", "large")
    made = []
    for _ in range(GROUP):
        text = " ".join(rng.choice(words) for _ in range(24))
        box = (0, 0, rng.randint(200, 900), rng.randint(200, 900))
        made.append(TCoT(thinking=text, evidence=Evidence(boxes=(box,)), rethink="fits.", answer=text))
    return made


if __name__ == "__main__":
    main(*sys.argv[1:])
