"""Vision pre-training of the nano models with dense supervision.

Each visual token is asked what lies on it (colour, shape, size, word, bar) and where it is (row, column); the answers are
known in the world. It answers in the language model's own terms: by the angle to the embeddings of the words for what it
sees. Only the angle counts, because the language model normalises its input: whatever else a token holds would drown the
answer there. Captions alone would need many times as many examples, and free linear heads find answers that the language
model then takes thousands of steps to find again (docs/LOG.md).
"""

import random
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLVisionModel
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig

from embedrl.config import Metrics
from embedrl.log import progress
from embedrl.models.training import keep_freed_memory, require_finite
from embedrl.nano.models import PATCH
from embedrl.nano.recipes import VisionConfig
from embedrl.world import clips, pages, scenes
from embedrl.world.objects import COLOURS, SHAPES, SIZES, Thing

WORDS = (*pages.TOPICS, *pages.CITIES, *pages.NUMBERS, *pages.WORDS, *pages.KINDS)
PLACES = tuple(str(number) for number in range(8))
HEADS = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "word": WORDS,
    "bar": pages.LEVELS,
    "row": PLACES,
    "column": PLACES,
}
"""What each head tells apart; index 0 of every head means "nothing here". Rows and columns are eighths of the image."""


def label_grid(things: tuple[Thing, ...], grid: int, rows: int, columns: int) -> np.ndarray:
    """Return class labels (rows, columns, 7): the thing that covers most of each visual token, if at least 6 % of it."""
    labels = _blank(rows, columns)
    best = np.full((rows, columns), 0.06)
    for thing in things:
        x1, y1, x2, y2 = (value / 1000 for value in thing.box(grid))
        ys, xs = np.arange(rows), np.arange(columns)
        height = np.clip(np.minimum(y2 * rows, ys + 1) - np.maximum(y1 * rows, ys), 0, None)
        width = np.clip(np.minimum(x2 * columns, xs + 1) - np.maximum(x1 * columns, xs), 0, None)
        cover = height[:, None] * width[None, :]
        size = "large" if thing.scale * SIZES[thing.size] > 0.3 else "small"
        classes = (1 + list(COLOURS).index(thing.colour), 1 + SHAPES.index(thing.shape), 1 + list(SIZES).index(size))
        labels[cover > best, :3] = classes
        best = np.maximum(best, cover)
    return labels


def _blank(rows: int, columns: int) -> np.ndarray:
    """Return labels of an empty image: nothing on any token, and where each one is."""
    labels = np.zeros((rows, columns, len(HEADS)), np.int64)
    labels[..., 5] = 1 + (np.arange(rows) * len(PLACES) // rows)[:, None]
    labels[..., 6] = 1 + (np.arange(columns) * len(PLACES) // columns)[None, :]
    return labels


def label_page(page: pages.PageSpec, rows: int, columns: int) -> np.ndarray:
    """Return class labels (rows, columns, 7) of a page: the word or bar on each visual token."""
    labels = _blank(rows, columns)
    cell_x, cell_y = pages.WIDTH / columns, pages.HEIGHT / rows
    for word, x1, y1, x2, y2 in page.word_boxes():
        covered = _covered(x1, y1, x2, y2, rows, columns, cell_x, cell_y)
        labels[..., 3][covered] = 1 + WORDS.index(word)
    for level, x1, y1, x2, y2 in page.bars():
        labels[..., 4][_covered(x1, y1, x2, y2, rows, columns, cell_x, cell_y)] = 1 + pages.LEVELS.index(level)
    return labels


def _covered(x1: float, y1: float, x2: float, y2: float, rows: int, columns: int, cell_x: float, cell_y: float) -> np.ndarray:
    ys, xs = np.arange(rows), np.arange(columns)
    height = np.clip(np.minimum(y2 / cell_y, ys + 1) - np.maximum(y1 / cell_y, ys), 0, None)
    width = np.clip(np.minimum(x2 / cell_x, xs + 1) - np.maximum(x1 / cell_x, xs), 0, None)
    return height[:, None] * width[None, :] > 0.12


def example(rng: random.Random) -> tuple[PIL.Image.Image, np.ndarray]:
    """Draw one labelled training image: a scene, a frame of a clip, or a page, at the Reasoner's resolution."""
    kind = rng.random()
    if kind < 0.45:
        scene = scenes.sample_scene(rng, "train", num_things=rng.choice((3, 4, 5)))
        return scene.draw().resize((96, 96), PIL.Image.Resampling.BICUBIC), label_grid(scene.things, scenes.GRID, 6, 6)
    if kind < 0.65:
        clip, number = clips.sample_clip(rng, "train"), rng.randint(1, clips.NUM_FRAMES)
        things = clip.things(number)
        frame = clip.frame(number).resize((64, 64), PIL.Image.Resampling.BICUBIC)
        return frame, label_grid(things, clips.GRID, 4, 4)
    page = pages.sample_page(rng, "train")
    return page.draw().resize((96, 128), PIL.Image.Resampling.BICUBIC), label_page(page, 8, 6)


def directions(embeddings: Tensor, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> dict[str, Tensor]:
    """Return the unit vectors (classes, dim) along which each head answers: word embeddings, and drawn ones for places."""
    generator = torch.Generator().manual_seed(seed)
    vectors = {}
    for name, classes in HEADS.items():
        if classes is PLACES:
            rows = torch.randn(len(classes), embeddings.shape[1], generator=generator)
        else:
            rows = embeddings.detach()[[tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in classes]]
        vectors[name] = nn.functional.normalize(rows, dim=1)
    return vectors


class VisionProbe(nn.Module):
    """Vision tower with one linear classification head per attribute, along fixed directions."""

    SCALE = 30.0
    """Logit of a token that points straight at a word. Seven answers at once leave each a cosine of 0.38."""

    def __init__(self, config: Qwen3VLVisionConfig, heads: dict[str, Tensor]) -> None:
        super().__init__()
        self.tower = Qwen3VLVisionModel(config)
        self.heads = heads
        self.nothing = nn.ParameterDict({name: torch.zeros(1) for name in heads})

    def forward(self, pixel_values: Tensor, grid_thw: Tensor) -> dict[str, Tensor]:
        """Return logits (tokens, 1 + classes) of each head."""
        seen = nn.functional.normalize(self.tower(pixel_values, grid_thw=grid_thw).pooler_output, dim=1)
        return {
            name: torch.cat([self.nothing[name].expand(len(seen), 1), self.SCALE * seen @ along.T], dim=1)
            for name, along in self.heads.items()
        }


def train_vision(config: Qwen3VLConfig, heads: dict[str, Tensor], settings: VisionConfig, out: Path, metrics: Metrics) -> dict[str, float]:
    """Train the tower, write it to `out` (safetensors), and return the held-out share of tokens each head gets right."""
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    assert isinstance(config.vision_config, Qwen3VLVisionConfig)
    model = VisionProbe(config.vision_config, heads)
    processor = Qwen2VLImageProcessor(patch_size=PATCH, merge_size=2, temporal_patch_size=2, do_resize=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=settings.warmup / settings.steps, anneal_strategy="cos"
    )
    rng = random.Random(f"vision:{settings.seed}")
    with progress(settings.steps, "vision") as bar:
        for step in range(settings.steps):
            loss, right = _losses(model, processor, [example(rng) for _ in range(settings.batch_size)])
            optimiser.zero_grad()
            loss.backward()
            require_finite(step + 1, "the loss or a gradient", [loss, nn.utils.clip_grad_norm_(model.parameters(), 1.0)])
            optimiser.step()
            schedule.step()
            bar.advance()
            if step % 50 == 0 or step == settings.steps - 1:
                metrics.write(step, {"vision/loss": loss.item(), **{f"vision/{name}": value for name, value in right.items()}})
    require_finite(settings.steps, "a weight", model.parameters())
    model.eval()
    rng = random.Random(f"vision-check:{settings.seed}")
    with torch.no_grad():
        _, right = _losses(model, processor, [example(rng) for _ in range(512)])
    save_file({name: tensor.contiguous() for name, tensor in model.tower.state_dict().items()}, out)
    return right


def _losses(
    model: VisionProbe, processor: Qwen2VLImageProcessor, examples: list[tuple[PIL.Image.Image, np.ndarray]]
) -> tuple[Tensor, dict[str, float]]:
    pixels = processor([image for image, _ in examples], return_tensors="pt")
    logits = model(pixels["pixel_values"], pixels["image_grid_thw"])
    labels = torch.from_numpy(np.concatenate([label.reshape(-1, len(HEADS)) for _, label in examples]))
    total, right = torch.zeros(()), {}
    for index, (name, scores) in enumerate(logits.items()):
        wanted = labels[:, index]
        weight = torch.ones(scores.shape[-1])
        weight[0] = 0.3
        total = total + nn.functional.cross_entropy(scores, wanted, weight=weight)
        shown = wanted > 0
        right[name] = (scores.argmax(-1)[shown] == wanted[shown]).float().mean().item()
    return total, right
