"""`--plan`: check the paths and names of a recipe, and estimate tokens, memory, FLOPs and hours."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, islice, zip_longest
from math import ceil
from pathlib import Path
from typing import Any

from embedrl.data.pair_file_rows import PairFileRows
from embedrl.embedder.inputs import build, collate
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import ContrastiveRows, Row, learn_ending
from embedrl.embedder.train import read_trainer as embedder_settings
from embedrl.errors import ConfigError, EmbedRLError
from embedrl.models.footprint import FLOAT32, Footprint, Load
from embedrl.models.load import base_folder, load_parts, token_side
from embedrl.models.names import is_server, resolve, resolve_start
from embedrl.pipelines.eg_rl import training_pairs
from embedrl.pipelines.train_embedder import embedder_budget, embedder_rows
from embedrl.reasoner.local import read_reasoner_settings
from embedrl.reasoner.prompts import tcot_prompt
from embedrl.rl.config import Recipe
from embedrl.rl.train import read_trainer as reasoner_settings

NUM_SAMPLED = 64
"""Number of rows whose inputs are built to count tokens."""
GB = 1e9


@dataclass(frozen=True)
class Plan:
    """Estimated needs of a run."""

    rows: list[tuple[str, str]]
    """(quantity, value)."""
    assumptions: list[str]
    memory_bytes: int
    """Peak memory of one process."""
    flops: float
    """Of the whole run."""


def plan_embedder(recipe: EmbedderRecipe, *, num_processes: int = 1, tflops: float = 400.0, num_sampled: int = NUM_SAMPLED) -> Plan:
    """Plan a contrastive run. Raises ConfigError naming every path, name and setting that is wrong."""
    teacher = _check_embedder(recipe, num_processes)
    settings = embedder_settings(recipe, here=False)
    config, processor = load_parts(resolve_start(recipe.start_from, "embedder", "reasoner"))
    layout, num_rows = learn_ending(processor, config)
    config.text_config.vocab_size = max(num_rows, config.text_config.vocab_size)
    rows, budget, factor = embedder_rows(recipe), embedder_budget(recipe), token_side(config)
    num_batches = rows.num_batches
    laid_out = rows.datasets(ceil(num_sampled / recipe.batch_size))
    sampled = list(islice(chain.from_iterable(laid_out.values()), num_sampled))
    columns = [[key for key in column if key] for column in zip_longest(*sampled)]  # queries, targets, hard negatives
    keys = list(chain.from_iterable(columns))
    built = partial(build, budget=budget, factor=factor, layout=layout)
    resolved = map(rows.resolve, keys)
    tokens, patches = _count(processor, (built(item, tcot, show_media=show_media) for item, tcot, show_media in resolved))
    items_a_row = len(keys) / len(sampled)
    footprint = Footprint.of(config, dtype=recipe.dtype, lora=recipe.lora, trains_vision=not recipe.freeze_vision, trainer=settings)
    mini = min(recipe.mini_batch_size, len(keys))
    held = Load(tokens=mini * max(tokens), longest=max(tokens), patches=_most_patches(columns, patches, mini))
    sample = _total(tokens, patches)
    loads, others, flops_of_sample = [sample], {}, footprint.train_flops(sample, cached=True)
    if teacher is not None:
        with_tcot = ((rows.resolve(key)[0], tcot) for key in keys if (tcot := rows.tcot(key)) is not None)
        loads.append(_total(*_count(processor, (built(item, tcot) for item, tcot in with_tcot))))
        taught_by = Footprint.of(load_parts(teacher)[0], dtype=recipe.dtype)
        others = {"teacher's weights": taught_by.weight_bytes}
        flops_of_sample += taught_by.forward_flops(loads[-1])
    vision = config.vision_config
    patch_bytes = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * FLOAT32
    batches_held = 2 if footprint.on_cpu else 1  # the loader is one batch ahead, and an accelerator is not sent it yet
    items_held = batches_held * items_a_row * recipe.batch_size / num_processes
    parts = {
        "weights": footprint.weight_bytes,
        "gradients and optimiser": footprint.state_bytes,
        "images of a batch": sum(round(items_held * load.patches / len(keys) * patch_bytes) for load in loads),
        f"activations of {mini} items": footprint.activation_bytes(held),
        **others,
    }
    items_a_batch = items_a_row * recipe.batch_size
    flops = flops_of_sample / len(keys) * items_a_batch * num_batches
    counted = [
        ("batches of pairs", f"{num_batches:,} of {recipe.batch_size}"),
        ("tokens of an item, mean and longest", f"{sample.longest:,}, {max(tokens):,}"),
        ("tokens of a batch", f"{round(sample.tokens / len(keys) * items_a_batch):,}"),
        *_shares(rows, sampled),
    ]
    assumptions = [
        f"tokens are those of {len(keys)} items, the first of the run; each mini-batch is padded to the longest of them",
        "memory is that of tensors, within a fifth where it was measured (small models on a CPU): an allocator's spare room comes on top",
        "attention keeps no matrix (sdpa, flash); AdamW keeps two states",
        "hours are without decoding of media and saving",
    ]
    return _plan(footprint, counted, parts, flops, assumptions, num_processes, tflops)


def _check_embedder(recipe: EmbedderRecipe, num_processes: int) -> Path | None:
    """Return the teacher's folder, if there is a teacher. Raises ConfigError naming everything that is wrong."""
    wrong = _complaints(partial(embedder_settings, recipe, here=False))
    files = recipe.pairs.files if recipe.pairs else {}
    wrong += _missing({"start_from": recipe.start_from, **{f"pairs.files.{name}": file for name, file in files.items()}})
    if recipe.batch_size % num_processes:
        wrong.append(f"batch_size={recipe.batch_size}: must be a multiple of the {num_processes} processes")
    teacher = None
    if recipe.distill is not None:
        try:
            teacher = resolve(recipe.distill.teacher, "embedder")
        except EmbedRLError as error:
            wrong.append(f"distill.teacher: {error}")
    _refuse(wrong)
    return teacher


def _most_patches(columns: Sequence[Sequence[str]], patches: Sequence[int], mini: int) -> int:
    """Return the patches of the mini-batch with the most; none reaches from one column into the next."""
    starts = accumulate((len(column) for column in columns), initial=0)
    return max(
        sum(patches[begin : min(begin + mini, start + len(column))])
        for start, column in zip(starts, columns, strict=False)
        for begin in range(start, start + len(column), mini)
    )


def _shares(rows: ContrastiveRows, sampled: Sequence[Row]) -> list[tuple[str, str]]:
    """Return rows about each dataset's share and the share of pairs with hard negatives."""
    if not isinstance(rows, PairFileRows):
        return []
    with_negatives = sum(len(row) > 2 for row in sampled) / len(sampled)
    shares = [
        (
            f"share of {share.name}",
            f"{share.share:.1%}, from {share.num_used:,} of {share.num_pairs:,} pairs; {share.num_with_negatives:,} have hard negatives",
        )
        for share in rows.shares()
    ]
    return [*shares, ("rows with a hard negative beside them", f"{with_negatives:.1%} of the first {len(sampled)}")]


def plan_reasoner(recipe: Recipe, *, num_processes: int = 1, tflops: float = 400.0, num_sampled: int = NUM_SAMPLED) -> Plan:
    """Plan an EG-RL run. Raises ConfigError naming every path, name and setting that is wrong."""
    folders = _check_reasoner(recipe)
    trainer = reasoner_settings(recipe, here=False)
    config, processor = load_parts(folders["start_from"])
    settings = read_reasoner_settings(folders["start_from"])
    pairs = training_pairs(recipe)
    factor = token_side(config)
    items = [item for pair in pairs[: num_sampled // 2] for item in (pair.query, pair.target)]
    asked = [tcot_prompt(item, settings.prompts, settings.budget, factor) for item in items]
    tokens, patches = [], []
    for prompt in asked:
        text = processor.apply_chat_template(prompt.messages, add_generation_prompt=True)
        batch = processor(text=[text], images=list(prompt.images) or None, return_tensors="pt", do_resize=False)
        tokens.append(batch["input_ids"].shape[1])
        patches.append(int(batch["image_grid_thw"].prod(1).sum()) if prompt.images else 0)

    rows, answer = trainer.get("per_device_train_batch_size", 8), trainer.get("max_completion_length", 512)
    rollouts = rows * trainer.get("gradient_accumulation_steps", 1) * num_processes
    known = {"gradient_checkpointing": True, "bf16": not trainer.get("fp16"), **trainer}  # trl's own settings where none are given
    footprint = Footprint.of(config, dtype=recipe.dtype, lora=recipe.lora, trainer=known)
    longest = max(tokens) + answer
    held = Load(tokens=rows * longest, longest=longest, patches=rows * max(patches))
    replayed = recipe.replay.batch_size if recipe.replay else 0
    beside = Load(tokens=replayed * longest, longest=longest, patches=replayed * max(patches))
    others = {key: Footprint.of(load_parts(folder)[0], dtype=recipe.dtype) for key, folder in folders.items() if key != "start_from"}
    vocabulary = config.text_config.vocab_size
    parts = {
        "weights": footprint.weight_bytes,
        "reference of the KL term": 0 if recipe.lora or not trainer.get("beta", 0.01) else footprint.weight_bytes,
        "gradients and optimiser": footprint.state_bytes,
        **{f"{key}'s weights": other.weight_bytes for key, other in others.items()},
        f"activations of {rows} rollouts": footprint.activation_bytes(held),
        **({f"activations of {replayed} replayed examples": footprint.activation_bytes(beside)} if replayed else {}),
        "logits of the answers": rows * answer * vocabulary * (footprint.num_bytes + 2 * FLOAT32),
    }
    mean = Load(sum(tokens) // len(tokens) + answer, sum(tokens) // len(tokens) + answer, sum(patches) // len(patches))
    once = footprint.forward_flops(mean)
    step = rollouts * (once + footprint.train_flops(mean, cached=False) + (0 if not trainer.get("beta", 0.01) else once))
    step += rollouts * others["embedder"].forward_flops(mean)
    step += rollouts // rows * replayed * footprint.train_flops(mean, cached=False)
    flops = step * trainer["max_steps"]
    counted = [
        ("steps of rollouts", f"{trainer['max_steps']:,} of {rollouts}"),
        ("tokens of a prompt, mean and longest", f"{sum(tokens) // len(tokens):,}, {max(tokens):,}"),
        ("tokens of a step", f"{rollouts * mean.tokens:,}"),
    ]
    assumptions = [
        f"tokens are those of {len(items)} prompts, with answers of full length ({answer}); the true ones are shorter",
        "each process holds all weights, gradients and states: a sharding launcher (ZeRO, FSDP) divides or offloads them",
        "rollouts: arithmetic only; decoding is bound by memory and takes longer, and vLLM keeps its own share of the device besides",
        "hours are without the judge",
    ]
    return _plan(footprint, counted, parts, flops, assumptions, num_processes, tflops)


def _check_reasoner(recipe: Recipe) -> dict[str, Path]:
    """Return the folders of the models by their settings. Raises ConfigError naming everything that is wrong."""
    wrong = _complaints(partial(reasoner_settings, recipe, here=False))
    named = {"start_from": ("reasoner", recipe.start_from), "embedder": ("embedder", recipe.embedder)}
    if recipe.judge and recipe.rewards.process_weight and not is_server(recipe.judge):
        named["judge"] = ("reasoner", recipe.judge)
    folders: dict[str, Path] = {}
    for key, (kind, name) in named.items():
        try:
            folders[key] = resolve(name, kind)
        except EmbedRLError as error:
            wrong.append(f"{key}: {error}")
    wrong += _missing({**folders, **({"pairs": recipe.pairs} if recipe.pairs else {})})
    _refuse(wrong)
    return folders


def _total(tokens: Sequence[int], patches: Sequence[int]) -> Load:
    """Return the load of items together, perhaps of none; `longest` is their mean length."""
    return Load(sum(tokens), sum(tokens) // max(1, len(tokens)), sum(patches))


def _count(processor: Any, inputs: Iterable[Any]) -> tuple[list[int], list[int]]:
    """Return the tokens and patches of each input."""
    tokens, patches = [], []
    for built in inputs:
        batch = collate(processor, [built])
        tokens.append(int(batch["attention_mask"].sum()))
        patches.append(sum(int(batch[name].prod(1).sum()) for name in ("image_grid_thw", "video_grid_thw") if name in batch))
    return tokens, patches


def _plan(
    footprint: Footprint,
    counted: list[tuple[str, str]],
    parts: dict[str, int],
    flops: float,
    assumptions: list[str],
    num_processes: int,
    tflops: float,
) -> Plan:
    counts, memory = footprint.counts, sum(parts.values())
    num_weights = sum(counts.values()) - counts["trained"]
    rows = [
        ("parameters, and trained", f"{num_weights / 1e6:,.1f} M, {counts['trained'] / 1e6:,.1f} M"),
        *counted,
        *((f"memory: {name}", f"{size / GB:,.3f} GB") for name, size in parts.items() if size),
        ("memory of a process, at most", f"{memory / GB:,.3f} GB"),
        ("arithmetic", f"{flops / 1e15:,.3f} PFLOP"),
        ("hours", f"{flops / (tflops * 1e12 * num_processes) / 3600:,.2f}"),
    ]
    return Plan(rows, [*assumptions, f"{tflops:g} TFLOP/s are achieved on each of {num_processes} devices"], memory, flops)


def _complaints(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except ConfigError as error:
        return str(error).splitlines()
    return []


def _missing(paths: dict[str, Path]) -> list[str]:
    wrong = []
    for key, path in paths.items():
        if key.split(".")[0] == "pairs":
            wrong += [] if path.is_file() else [f"{key}={str(path)!r}: there is no such file"]
            continue
        try:
            base_folder(resolve_start(path, "embedder", "reasoner"))
        except EmbedRLError as error:
            wrong.append(str(error) if str(error).startswith(f"{key}=") else f"{key}: {error}")
    return wrong


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise ConfigError("\n".join(wrong))
