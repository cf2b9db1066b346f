"""Several processes train the Embedder as one does: the same pairs in the same steps, the same loss, the same weights.

Also with weights sharded over them (FSDP), in EG-RL too, which go on from a checkpoint as if nothing had happened.
"""

import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from PIL import Image
from safetensors.torch import load_file
from torch.distributed import TCPStore

from embedrl.config import Lora, read_metrics
from embedrl.data.pair_file_rows import PairFileRows, PairsConfig
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.train import Config, in_one_list, train
from embedrl.models.adapters import add_lora
from embedrl.pipelines.eg_rl import train_reasoner
from embedrl.pipelines.quickstart import live_recipe
from embedrl.rl.config import Recipe
from tests import forking
from tests.conftest import make_random_embedder

BATCH, STEPS, SAVED = 8, 3, 2
FSDP = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["Qwen3VLTextDecoderLayer"]}}
KINDS = ("all", "lora", "eg-rl")


def write_pairs(folder: Path) -> None:
    """Two data sets of texts and pictures: some targets are equal, and some pairs of one have a hard negative."""
    for name, words in (("stars", ["red", "blue", "green", "black"]), ("rings", ["navy", "gold", "gray", "white"])):
        for word in words:
            Image.new("RGB", (64, 64), word).save(folder / f"{word}.png")
        rows = [
            {
                "query": {"text": f"{name} {word} {number}", "instruction": "Find it."},
                "target": {"text": f"a {word} one of {name}, {number % 5}", "image": f"{word}.png"},
                **({"negatives": [{"text": f"no {word} one, {number}", "image": f"{word}.png"}]} if name == "stars" and number % 2 else {}),
            }
            for word in words
            for number in range(6)
        ]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def run(folder: Path, out: Path, num_processes: int, rank: int, *, lora: bool = False, **options: Any) -> None:
    """Train in this process, as one of several, and write which keys it saw, in their order."""
    embedder = make_random_embedder()
    if lora:
        torch.manual_seed(0)
        embedder.model = add_lora(embedder.model, Lora(rank=4, alpha=8))
    files = {name: folder / f"{name}.jsonl" for name in ("stars", "rings")}
    rows = PairFileRows(PairsConfig(files=files), seed=1, num_batches=STEPS, batch_size=BATCH)
    seen: list[str] = []

    def resolve(key: str) -> EmbedderInput:
        seen.append(key)
        item, tcot, show_media = rows.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    trainer = {
        "per_device_train_batch_size": BATCH // num_processes,
        "num_train_epochs": 1,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "use_cpu": True,
        "save_strategy": "no",
        **({"ddp_backend": "gloo"} if num_processes > 1 else {}),
        **options,
    }
    train(embedder, rows.datasets(), resolve, Config(out=out, mini_batch_size=2, trainer=trainer))
    (out / f"seen{rank}.json").write_text(json.dumps(seen), "utf-8")


@contextmanager
def fsdp_on_the_cpu() -> Generator[None]:
    """Let accelerate enter FSDP where, otherwise, it only does on accelerators."""
    start = AcceleratorState.__init__

    def sharded(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        start(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    with patch.object(AcceleratorState, "__init__", sharded):
        yield


def run_sharded(folder: Path, out: Path, kind: str, rank: int) -> None:
    """Train as one of two processes with FSDP: the Embedder, all of it or an adapter, or the nano Reasoner with EG-RL."""
    saves = {"save_strategy": "steps", "save_steps": SAVED}
    with fsdp_on_the_cpu():
        if kind == "eg-rl":
            train_reasoner(short_eg_rl(out, **saves, **FSDP))
        else:
            run(folder, out, 2, rank, lora=kind == "lora", **saves, **FSDP)


def short_eg_rl(out: Path, **options: Any) -> Recipe:
    recipe = live_recipe(out, "nano-sft", "nano", STEPS, seed=0)
    small = {"per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 48, "warmup_steps": 0}
    return recipe.model_copy(update={"trainer": {**recipe.trainer, **small, "use_cpu": True, "ddp_backend": "gloo", **options}})


def train_alone_and_together(folder: Path) -> None:
    """Train with one, two and four processes, each forked from this one, which has the imports done and has used no threads."""
    torch.set_num_threads(1)
    write_pairs(folder)
    for num_processes in (1, 2, 4):
        together(num_processes, partial(run, folder, folder / f"run{num_processes}", num_processes))


def train_sharded(folder: Path) -> None:
    """Train in one piece, and again from the first run's checkpoint. The Embedder is also trained by one process."""
    torch.set_num_threads(1)
    write_pairs(folder)
    for kind in KINDS:
        whole, resumed = folder / f"whole-{kind}", folder / f"resumed-{kind}"
        if kind != "eg-rl":
            together(1, partial(run, folder, folder / f"one-{kind}", 1, lora=kind == "lora"))
        together(2, partial(run_sharded, folder, whole, kind))
        checkpoint = f"checkpoints/checkpoint-{SAVED}"
        shutil.copytree(whole / checkpoint, resumed / checkpoint)
        together(2, partial(run_sharded, folder, resumed, kind))


def together(num_processes: int, work: Callable[[int], None]) -> None:
    """Run `work(rank)` in so many processes, joined by gloo at a store of this one, which holds its port from the start."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = [forking.fork(partial(join, work, num_processes, rank, store.port)) for rank in range(num_processes)]
    for child in children:
        forking.finish(child)


def join(work: Callable[[int], None], num_processes: int, rank: int, port: int) -> None:
    """Be one of so many processes."""
    if num_processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}  # the store is not that of rank 0
        os.environ |= {"WORLD_SIZE": str(num_processes), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    work(rank)


def losses(out: Path) -> list[float]:
    rows = read_metrics(out / "metrics.jsonl")
    return [row[name] for row in rows for name in ("embedder/loss", "rl/loss") if name in row]


def steps_seen(out: Path, num_processes: int) -> list[list[str]]:
    """Return the pairs of each step, in order: those of rank 0, then those of rank 1, ..."""
    share = BATCH // num_processes
    parts = []
    for rank in range(num_processes):
        keys = [key.removesuffix("/query") for key in json.loads((out / f"seen{rank}.json").read_text("utf-8")) if key.endswith("/query")]
        keys = keys[-share * STEPS :]  # before them, sentence-transformers looked at the data for its model card
        parts.append([keys[start : start + share] for start in range(0, len(keys), share)])
    return [[key for part in parts for key in part[step]] for step in range(STEPS)]


def test_processes_together_hold_batches_of_one_data_set() -> None:
    rows = {name: [(f"{name}/{number}/query", f"{name}/{number}/target") for number in range(9)] for name in "ab"}
    listed = in_one_list(rows, 4, seed=0)["pairs"]
    batches = [listed[start : start + 4] for start in range(0, len(listed), 4)]
    assert len(batches) == 4
    assert all(len({query[0] for query, _ in batch}) == 1 for batch in batches)
    assert sorted(listed) == sorted(pair for pairs in rows.values() for pair in pairs[:8])
    assert in_one_list({"a": rows["a"]}, 3, seed=0) == {"pairs": rows["a"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(tmp_path_factory.mktemp("processes"), "train_alone_and_together")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(tmp_path_factory.mktemp("sharded"), "train_sharded")


def driven(folder: Path, name: str) -> Path:
    forking.drive(f"import sys\nfrom tests.test_processes import *\n{name}(Path(sys.argv[1]))", str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 4])
def test_several_processes_train_as_one(folder: Path, num_processes: int) -> None:
    one, several = folder / "run1", folder / f"run{num_processes}"
    assert len(losses(one)) == STEPS
    assert losses(several) == pytest.approx(losses(one), rel=1e-5), "float32: sums in another order differ by some units of the last digit"
    assert steps_seen(several, num_processes) == steps_seen(one, 1)
    first, second = load_file(one / "model/model.safetensors"), load_file(several / "model/model.safetensors")
    gaps = [(first[name].float() - second[name].float()).abs().max().item() for name in first]
    start_weights = make_random_embedder().model.state_dict()
    moved = max((first[f"model.{name}"].float() - weight.bfloat16().float()).abs().max().item() for name, weight in start_weights.items())
    assert moved > 2e-4, "weights are saved in bf16: they may differ in its last digit"
    assert max(gaps) < 4e-3, "weights are saved in bf16: they may differ in its last digit"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sharded_weights_train_as_whole_ones_and_resume_exactly(sharded: Path, kind: str) -> None:
    one, whole, resumed = (sharded / f"{name}-{kind}" for name in ("one", "whole", "resumed"))
    if kind != "eg-rl":
        assert losses(whole) == pytest.approx(losses(one), rel=1e-5, abs=1e-5)
    assert len(losses(whole)) == STEPS
    assert losses(resumed) == losses(whole)[SAVED:]
    files = ["model/model.safetensors", *(["adapter/adapter_model.safetensors"] if kind == "lora" else [])]
    for file in files:
        first, second = load_file(whole / file), load_file(resumed / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    saved = load_file(whole / f"checkpoints/checkpoint-{SAVED}" / Path(files[-1]).name)
    final = load_file(whole / files[-1])
    assert any(not torch.equal(saved[name].bfloat16(), final[next(n for n in final if n.endswith(name))].bfloat16()) for name in saved)
