"""How fast T-CoTs are written: slots that are refilled as rows end, and verified drafts (what LocalReasoner does), beside today's ways.

Greedy, the same items of the world, of all modalities, whose media are decoded. Beside it: slots without drafts, transformers' `generate`
in fixed batches, one item after another, and no cache at all. Twice: the nano Reasoner, and a larger random model that writes a fixed
number of tokens. Without a cache each token costs a pass over all that is before it, pictures included: it is so slow that it is timed
once, and the others take turns over rounds, of which the best counts. All ways write the same texts, which is checked; the passes that
they take behind the prompts are counted. A large matrix product takes its turn with them, as the limit; beside it stands the useful work:
two operations for each weight of the language layers and token written (prompts are not counted).
"""

import copy
import random
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from reward import large, race
from transformers import Qwen3VLForConditionalGeneration

from embedrl.embedder.embedder import Embedder
from embedrl.log import result, table
from embedrl.models.footprint import Footprint
from embedrl.models.qwen3_vl_fast import patch_forward
from embedrl.reasoner.drafts import Habits
from embedrl.reasoner.greedy import MAX_DRAFT
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import Prompt, tcot_prompt
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.world.tasks import TASKS, make_families

FIRST, FIXED, UNCACHED = "slots, drafts", "fixed batches", "fixed batches, no cache"
NUM_ITEMS = {"nano": 48, "larger random model": 8}
LARGE_TOKENS = 32
"""The larger model, which knows no end, writes as many for each item."""
MATRIX_SIDE = 2048
MIN_SAME = 0.9
"""Share of the texts that must be the same, letter by letter: where two tokens are as likely, the order of a sum can decide."""


def main(size: str = "") -> None:
    """Print the table; ends with an error if the ways disagree. `--nano`: without the larger model."""
    nano = load_reasoner("nano")
    assert isinstance(nano, LocalReasoner)
    rows = compare("nano", nano)
    if size != "--nano":
        rows += compare("larger random model", larger(nano))
    columns = ["model", "way", "T-CoTs/s", "tokens/s", "passes", f"x {FIXED}", "useful GFLOP/s", "of a matrix product's"]
    table("Writing T-CoTs, greedy", columns, rows)


def compare(name: str, reasoner: LocalReasoner) -> list[list[str]]:
    """Write T-CoTs of the same items all ways, and multiply matrices."""
    prompts = draw_prompts(reasoner, NUM_ITEMS[name])
    matrix = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    ways: dict[str, Callable[[], np.ndarray]] = {
        FIRST: lambda: write(reasoner, prompts),
        "slots, no drafts": lambda: write(reasoner, prompts, max_draft=0),
        FIXED: lambda: write(reasoner, prompts, continuous=False),
        "one by one": lambda: np.array([write(reasoner, [prompt])[0] for prompt in prompts]),
    }
    reasoner.write(draw_prompts(reasoner, NUM_ITEMS[name], seed=1))
    learnt = copy.deepcopy(reasoner.habits)  # of other items: a draft must not know the very texts that are timed
    num_tokens, num_steps = 0, {}
    ways = {way: partial(_with_habits, reasoner, learnt, run) for way, run in ways.items()}
    for way, run in ways.items():  # the first time is not timed
        before = reasoner.num_written, reasoner.num_steps
        run()
        num_tokens, num_steps[way] = reasoner.num_written - before[0], reasoner.num_steps - before[1]
    best, texts = race({**ways, "matrix product": lambda: (matrix @ matrix).numpy()})
    peak = 2 * MATRIX_SIDE**3 / best.pop("matrix product") / 1e9
    started = time.perf_counter()
    texts[UNCACHED] = np.array(write_uncached(reasoner, prompts))
    best[UNCACHED], num_steps[UNCACHED] = time.perf_counter() - started, num_steps[FIXED]
    for way in best:
        same = float((texts[way] == texts[FIXED]).mean())
        result(f"{name}, {way}: {same:.1%} of {len(prompts)} T-CoTs as in {FIXED} ({num_tokens} tokens, {num_steps[way]} passes)")
        if same < MIN_SAME:
            raise SystemExit(f"{name}: {way} disagrees with {FIXED} ({same:.1%} the same, at least {MIN_SAME:.0%} are wanted)")
    flops = 2 * Footprint.of(reasoner.model.config).counts["language"]
    result(f"{name}: {flops / 1e6:.1f} MFLOP a token; a product of matrices {MATRIX_SIDE} a side: {peak:.0f} GFLOP/s")
    rows = []
    for way in best:
        speed = num_tokens / best[way]
        figures = [f"{len(prompts) / best[way]:.2f}", f"{speed:.0f}", str(num_steps[way]), f"{best[FIXED] / best[way]:.2f}"]
        rows.append([name, way, *figures, f"{flops * speed / 1e9:.2f}", f"{flops * speed / 1e9 / peak:.1%}"])
    return rows


def _with_habits(reasoner: LocalReasoner, habits: Habits, run: Callable[[], np.ndarray]) -> np.ndarray:
    reasoner.habits = copy.deepcopy(habits)
    return run()


def draw_prompts(reasoner: LocalReasoner, count: int, seed: int = 0) -> list[Prompt]:
    """Ask for the T-CoTs of items that are drawn from all tasks; their media are decoded."""
    sides = [side for name in TASKS for made in make_families("rl", seed, 2, 2, [name]) for side in (made.query, made.target)]
    settings = reasoner.settings
    chosen = random.Random(0).sample(sides, count)
    return [tcot_prompt(side.item, settings.prompts, settings.budget, reasoner.factor) for side in chosen]


def write(reasoner: LocalReasoner, prompts: list[Prompt], *, continuous: bool = True, max_draft: int = MAX_DRAFT) -> np.ndarray:
    """Write all prompts in one of the ways."""
    reasoner.continuous, reasoner.max_draft = continuous, max_draft
    return np.array(reasoner.write(prompts))


def write_uncached(reasoner: LocalReasoner, prompts: list[Prompt]) -> list[str]:
    """Write all in one batch, and forget keys and values after each token."""
    reasoner.continuous, reasoner.model.generation_config.use_cache = False, False
    try:
        return reasoner.write(prompts)
    finally:
        reasoner.model.generation_config.use_cache = True


def larger(nano: LocalReasoner) -> LocalReasoner:
    """Return a random Reasoner of the size of the larger Embedder in bench/reward.py."""
    embedder = load_embedder("nano")
    assert isinstance(embedder, Embedder)
    config = large(embedder, 16)[0].model.config
    torch.manual_seed(0)
    model = patch_forward(Qwen3VLForConditionalGeneration(config))
    return LocalReasoner(model, nano.processor, nano.settings.model_copy(update={"max_new_tokens": LARGE_TOKENS}), "random")


if __name__ == "__main__":
    main(*sys.argv[1:])
