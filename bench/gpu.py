"""What a model of the size of Qwen3-VL-2B does on one accelerator, in at most nine minutes, and without a download: its weights are random.

In bf16: a contrastive step (gradient caching), T-CoTs in slots with and without drafts beside `generate`, the reward's embedding of
groups of rollouts prefix-shared, in plain batches and one by one, bulk embedding beside sentence-transformers' `encode`, and int8 weights
beside bf16. The ways of each take turns and the best time counts; of vectors the smallest cosine to the first way is told. A product of
large matrices takes its turn too: arithmetic is told as a share of what that reaches. Prints one table, as Markdown and as JSON.

Without an accelerator there is nothing to measure; `--tiny` runs all of it on a small model on a CPU.
"""

import copy
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embed import Corpus, both_ways, mixed
from generate import draw_prompts, write
from reward import GROUP, draw_tcots, race
from sentence_transformers import SentenceTransformer
from train import descend
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.prefix import embed_groups
from embedrl.embedder.train import Config, EmbedderModule, info_nce
from embedrl.errors import EmbedRLError
from embedrl.log import info, print_json, result
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.models.footprint import Footprint, Load
from embedrl.models.placement import accelerators
from embedrl.models.qwen3_vl_fast import patch_forward
from embedrl.nano.data import WorldRows
from embedrl.reasoner.local import LocalReasoner, ReasonerSettings
from embedrl.runtime.names import load_embedder
from embedrl.world.tasks import make_families

MINUTES = 9
"""What has not begun by then is left out, and said to be."""


@dataclass(frozen=True)
class Size:
    """A model and how much it is given to do."""

    text: dict[str, Any]
    vision: dict[str, Any]
    sections: tuple[int, int, int]
    """How the numbers of a head's rotary positions are shared by time, rows and columns."""
    vocabulary: int
    visual_tokens: tuple[int, int]
    """Of an image: at least and at most."""
    pairs: int
    mini_batch: int
    prompts: int
    new_tokens: int
    items: int
    """Whose groups of rollouts are embedded."""
    families: int
    """Of each task of the world, in the corpus."""
    texts: int
    matrix_side: int
    rounds: int


FULL = Size(
    text={
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    vision={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "depth": 24,
        "patch_size": 16,
        "deepstack_visual_indexes": [5, 11, 17],
        "num_position_embeddings": 2304,
    },
    sections=(24, 20, 20),
    vocabulary=151_936,
    visual_tokens=(200, 280),
    pairs=128,
    mini_batch=32,
    prompts=64,
    new_tokens=96,
    items=24,
    families=6,
    texts=400,
    matrix_side=8192,
    rounds=3,
)
"""The published shape of Qwen3-VL-2B (config.json)."""
TINY = Size(
    text={
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
    vision={"hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "depth": 2, "patch_size": 16, "deepstack_visual_indexes": [0, 1]},
    sections=(4, 2, 2),
    vocabulary=4096,
    visual_tokens=(4, 6),
    pairs=4,
    mini_batch=2,
    prompts=3,
    new_tokens=6,
    items=2,
    families=1,
    texts=4,
    matrix_side=256,
    rounds=1,
)


@dataclass(frozen=True)
class Figure:
    """A line of the table."""

    measure: str
    way: str
    value: float | None = None
    unit: str = ""
    times: float | None = None
    """This way's speed, by that of the last way of its measure."""
    note: str = ""


@dataclass
class Bench:
    """The random model, in both roles, on a device."""

    size: Size
    device: torch.device
    dtype: torch.dtype
    model: Qwen3VLForConditionalGeneration = field(init=False)
    embedder: Embedder = field(init=False)
    peak: float = field(init=False)
    """FLOP/s of a product of large matrices."""

    def __post_init__(self) -> None:
        nano = load_embedder("nano")
        assert isinstance(nano, Embedder)
        size, config = self.size, nano.model.config.to_dict()
        rotary = {**config["text_config"]["rope_parameters"], "mrope_section": list(size.sections)}
        config["text_config"] |= {**size.text, "rope_parameters": rotary, "vocab_size": size.vocabulary}
        config["vision_config"] |= {**size.vision, "out_hidden_size": size.text["hidden_size"]}
        processor = copy.deepcopy(nano.processor)
        for scaler in (processor.image_processor, processor.video_processor):
            scaler.patch_size = size.vision["patch_size"]
        torch.manual_seed(0)
        with torch.device(self.device):
            self.model = patch_forward(Qwen3VLForConditionalGeneration(Qwen3VLConfig(**config)).to(self.dtype))
        with torch.no_grad():  # a token that the tokenizer does not know is never the likeliest
            self.model.get_input_embeddings().weight[len(processor.tokenizer) :] = 0
            self.model.get_output_embeddings().weight[len(processor.tokenizer) :] = 0
        least, most = (tokens * (2 * size.vision["patch_size"]) ** 2 for tokens in size.visual_tokens)
        image = PixelRange(min_pixels=least, max_pixels=most)
        budget = VisualBudget(image=image, frame=image, crop=image, num_frames=4)
        self.embedder = Embedder(self.model.model, processor, budget, "random", layout=nano.layout)
        matrix = torch.rand(size.matrix_side, size.matrix_side, device=self.device, dtype=self.dtype)
        best, _ = race({"product": lambda: np.array((matrix @ matrix)[0, 0].item())}, 5)
        self.peak = 2 * size.matrix_side**3 / best["product"]

    def training(self) -> Iterator[Figure]:
        """Time a contrastive step, without the optimiser."""
        data = WorldRows(0, 1, self.size.pairs)

        def resolve(key: str) -> EmbedderInput:
            item, tcot, show_media = data.resolve(key)
            return self.embedder.build(item, tcot, show_media=show_media)

        module = EmbedderModule(self.embedder, resolve)
        model = SentenceTransformer(modules=[module], device=str(self.device)).train()
        loss = info_nce(model, Config(out=Path(), mini_batch_size=self.size.mini_batch))
        pairs = next(pairs for task, pairs in data.datasets().items() if "video" not in task)
        features = [{name: value.to(self.device) for name, value in module.preprocess(keys).items()} for keys in zip(*pairs, strict=True)]
        tokens = sum(int(column["attention_mask"].sum()) for column in features)
        longest = max(int(column["attention_mask"].sum(1).max()) for column in features)
        patches = sum(int(column["image_grid_thw"].prod(1).sum()) for column in features if "image_grid_thw" in column)

        def step() -> np.ndarray:
            value = descend(loss, features)
            model.zero_grad(set_to_none=True)
            return np.array(value)

        step()  # the first time is not timed
        best, _ = race({"step": self._to_the_end(step)}, self.size.rounds)
        model.eval()
        footprint = Footprint.of(self.embedder.model.config, dtype=str(self.dtype).removeprefix("torch."))
        flops = footprint.train_flops(Load(tokens, longest, patches), cached=True) / best["step"]
        yield Figure("contrastive step", f"{self.size.pairs} pairs, mini-batches of {self.size.mini_batch}", best["step"], "s")
        yield Figure("contrastive step", f"{tokens:,} tokens, {patches // 4:,} of them visual", tokens / best["step"], "tokens/s")
        note = f"{flops / self.peak:.1%} of a product of matrices {self.size.matrix_side} a side ({self.peak / 1e12:.1f} TFLOP/s)"
        yield Figure("contrastive step", "arithmetic", flops / 1e12, "TFLOP/s", note=note)

    def writing(self) -> Iterator[Figure]:
        """Time greedy T-CoTs of a fixed length: a random model knows no end."""
        settings = ReasonerSettings(prompts="nano", budget=self.embedder.budget, max_new_tokens=self.size.new_tokens)
        reasoner = LocalReasoner(self.model, self.embedder.processor, settings, "random")
        prompts = draw_prompts(reasoner, self.size.prompts)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "slots, drafts": lambda: write(reasoner, prompts),
            "slots, no drafts": lambda: write(reasoner, prompts, max_draft=0),
            "generate, one batch": lambda: write(reasoner, prompts, continuous=False),
        }
        num_tokens = {}
        for way, run in ways.items():
            before = reasoner.num_written
            run()
            num_tokens[way] = reasoner.num_written - before
        best, _ = race(ways, self.size.rounds)
        yield from _speeds(f"{len(prompts)} T-CoTs", best, num_tokens, "tokens/s")

    def rewarding(self) -> Iterator[Figure]:
        """Time the embedding of groups of rollouts."""
        rng = random.Random(0)
        made = [family for number in range(self.size.items) for family in make_families("rl", number, 1, 2, ["image_i2t"])]
        items: Sequence[Item] = [family.query.item for family in made][: self.size.items]
        groups: Sequence[Sequence[TCoT]] = [draw_tcots(rng) for _ in items]
        flat = [(item, tcot) for item, group in zip(items, groups, strict=True) for tcot in group]
        ways: dict[str, Callable[[], np.ndarray]] = {
            "prefix-shared": lambda: np.concatenate(embed_groups(self.embedder, items, groups)),
            "plain batches": lambda: self.embedder.embed([item for item, _ in flat], [tcot for _, tcot in flat]),
            "one by one": lambda: np.concatenate([self.embedder.embed([item], [tcot]) for item, tcot in flat]),
        }
        best, vectors = race(ways, self.size.rounds)
        measure = f"reward, {len(items)} groups of {GROUP}"
        yield from _speeds(measure, best, dict.fromkeys(ways, len(flat)), "rollouts/s", vectors)

    def bulk(self) -> Iterator[Figure]:
        """Time a mixed corpus beside `encode`, and with int8 weights."""
        corpus: Corpus = mixed(self.size.families, self.size.texts)
        with tempfile.TemporaryDirectory() as folder:
            self.embedder.save(Path(folder))
            best, vectors = race(both_ways(self.embedder, Path(folder), corpus), self.size.rounds)
            yield from _speeds("bulk embedding", best, dict.fromkeys(best, len(corpus)), "items/s", vectors)
            small = Embedder.load(Path(folder), device=str(self.device), dtype=self.dtype, quantize="int8")
        items, tcots = [item for item, _ in corpus], [tcot for _, tcot in corpus]
        ways = {"int8": partial(small.embed, items, tcots), "bf16": partial(self.embedder.embed, items, tcots)}
        best, vectors = race(ways, self.size.rounds)
        yield from _speeds("int8 beside bf16", best, dict.fromkeys(best, len(corpus)), "items/s", vectors)
        sizes = {name: model.get_memory_footprint() / 1e9 for name, model in (("int8", small.model), ("bf16", self.embedder.model))}
        for name, size in sizes.items():
            yield Figure("int8 beside bf16", f"weights, {name}", size, "GB")

    def _to_the_end(self, run: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
        """Return a call that ends when the device has nothing more to do."""

        def ended() -> np.ndarray:
            outcome = run()
            if self.device.type != "cpu":
                torch.accelerator.synchronize(self.device)
            return outcome

        return ended


def _speeds(
    measure: str, best: dict[str, float], amounts: dict[str, int], unit: str, vectors: dict[str, np.ndarray] | None = None
) -> Iterator[Figure]:
    speeds = {way: amounts[way] / seconds for way, seconds in best.items()}
    first, last = next(iter(best)), list(best)[-1]
    for way, speed in speeds.items():
        cosine = "" if vectors is None or way == first else f"cosine to {first} {(vectors[first] * vectors[way]).sum(1).min():.5f} or more"
        yield Figure(measure, way, speed, unit, times=speed / speeds[last], note=cosine)


def measure(bench: Bench, began_s: float) -> Iterator[Figure]:
    """Take all measures, as long as there is time; what cannot be run says why."""
    for section in (bench.training, bench.writing, bench.rewarding, bench.bulk):
        if time.monotonic() - began_s > 60 * MINUTES:
            yield Figure(section.__name__, "not run", note=f"{MINUTES} minutes were over")
            continue
        info(f"{section.__name__} …")
        try:
            yield from section()
        except (EmbedRLError, torch.OutOfMemoryError) as error:
            yield Figure(section.__name__, "not run", note=" ".join(str(error).split())[:300])


def markdown(figures: Sequence[Figure]) -> str:
    """Return the table."""
    lines = ["| measure | way | value | x last way | note |", "|---|---|---|---|---|"]
    for figure in figures:
        value = "" if figure.value is None else f"{figure.value:,.4g} {figure.unit}"
        times = "" if figure.times is None else f"{figure.times:.2f}"
        lines.append(f"| {figure.measure} | {figure.way} | {value} | {times} | {figure.note} |")
    return "\n".join(lines)


def main(size: str = "") -> None:
    """Print the table."""
    began_s, kinds = time.monotonic(), accelerators()
    if size != "--tiny" and not kinds:
        info("no accelerator is here, and nothing is measured; --tiny tries all of it on a small model on a CPU")
        return
    device = torch.device("cpu" if size == "--tiny" else next(iter(kinds)))
    bench = Bench(TINY if size == "--tiny" else FULL, device, torch.bfloat16)
    figures = list(measure(bench, began_s))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    parameters = sum(weight.numel() for weight in bench.model.parameters())
    about = {"device": name, "torch": torch.__version__, "dtype": "bfloat16", "parameters": parameters}
    result(f"{name}, torch {torch.__version__}, bfloat16, {parameters / 1e6:,.1f} M parameters, {time.monotonic() - began_s:.0f} s\n")
    result(markdown(figures))
    print_json({**about, "seconds": round(time.monotonic() - began_s, 1), "figures": [asdict(figure) for figure in figures]})


if __name__ == "__main__":
    main(*sys.argv[1:])
