"""What gradient caching costs and saves: a contrastive step of the Embedder with it, beside the same step with the whole batch at once.

The nano Embedder, trained as its recipe says (the vision tower is left as it is), on batches of the pairs that it was trained on.
A step is the loss and its gradients, without the optimiser, which is the same for all. Times are the best of rounds that take turns;
memory is torch's own account of a step's peak, weights and inputs apart. All ways give the same loss and gradients, which is checked.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from reward import race
from sentence_transformers import SentenceTransformer
from torch import nn
from torch.profiler import ProfilerActivity, profile

from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import Config, EmbedderModule, info_nce, starting_embedder
from embedrl.log import result, table
from embedrl.models.names import shipped
from embedrl.nano.data import EMBEDDER_BUDGET, WorldRows

PLAIN = "plain, all at once"
BATCH = 64
MINI_BATCHES = (8, 32)
MIN_COSINE = 0.9999
MAX_ERROR = 1e-3
"""By this share at most may the loss and the length of the gradient differ."""


def main() -> None:
    """Print the table; ends with an error if the ways disagree."""
    recipe = EmbedderRecipe(out=Path(), start_from=shipped("embedder")["nano"], num_batches=1, batch_size=BATCH)
    embedder = starting_embedder(recipe, EMBEDDER_BUDGET)
    data = WorldRows(0, 1, BATCH)
    rows = []
    for task, pairs in data.datasets().items():
        rows += compare(task, embedder, data, pairs)
    columns = ["batch", "way", "s/step", "x plain time", "peak MB", "x plain memory"]
    table(f"A contrastive step of {BATCH} pairs", columns, rows)


def compare(task: str, embedder: Embedder, data: WorldRows, pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Run the step all ways on the pairs of one batch."""

    def resolve(key: str) -> EmbedderInput:
        item, tcot, show_media = data.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    module = EmbedderModule(embedder, resolve)
    model = SentenceTransformer(modules=[module], device="cpu").train()
    features = [module.preprocess(keys) for keys in zip(*pairs, strict=True)]
    cached = {size: info_nce(model, Config(out=Path(), mini_batch_size=size)) for size in MINI_BATCHES}
    losses = {PLAIN: cached[MINI_BATCHES[0]].loss, **{f"cached, mini-batches of {size}": cached[size] for size in MINI_BATCHES}}
    ways = {way: partial(step, model, loss, features) for way, loss in losses.items()}
    best, outcomes = race(ways)
    peaks = {way: peak_bytes(run) for way, run in ways.items()}
    plain_loss, plain = outcomes[PLAIN][0], outcomes[PLAIN][1:]
    rows = []
    for way in ways:
        loss, gradient = outcomes[way][0], outcomes[way][1:]
        cosine = float(gradient @ plain / np.linalg.norm(gradient) / np.linalg.norm(plain))
        length = float(np.linalg.norm(gradient) / np.linalg.norm(plain))
        result(f"{task}, {way}: loss {loss:.6f}, gradient's cosine to plain {cosine:.7f}, its length {length:.6f} of plain")
        if cosine < MIN_COSINE or abs(length - 1) > MAX_ERROR or abs(loss / plain_loss - 1) > MAX_ERROR:
            raise SystemExit(f"{task}: {way} disagrees with plain")
        figures = [f"{best[way]:.2f}", f"{best[way] / best[PLAIN]:.2f}", f"{peaks[way] / 1e6:.0f}", f"{peaks[way] / peaks[PLAIN]:.2f}"]
        rows.append([task, way, *figures])
    return rows


def step(model: nn.Module, loss: nn.Module, features: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the loss and, after it, the gradients of all weights that are trained."""
    value = descend(loss, features)
    gradients = [weight.grad.numpy().ravel() for weight in model.parameters() if weight.grad is not None]
    outcome = np.concatenate([[value], *gradients])
    model.zero_grad(set_to_none=True)
    return outcome


def descend(loss: nn.Module, features: Sequence[dict[str, Any]]) -> float:
    """Return the loss; the gradients are those of the weights."""
    value = loss([dict(column) for column in features], labels=None)
    value.backward()
    return value.item()


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes that torch's CPU allocator held at once during a call, besides those that it held before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler tells when it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    events = sorted((event.start_ns(), event.nbytes()) for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]")
    return max(accumulate(size for _, size in events))


if __name__ == "__main__":
    main()
