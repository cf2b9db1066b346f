"""Several processes train the Embedder as one does: the same pairs in the same steps, the same loss, the same weights."""

import json
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedrl.config import read_metrics
from embedrl.data.mixed_pairs import MixedPairs, PairsConfig
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.train import Config, in_one_list, train
from tests.conftest import make_random_embedder

BATCH, STEPS = 8, 3


def write_pairs(folder: Path) -> None:
    """Two data sets of texts."""
    for name, words in (("stars", ["red", "blue", "green", "black"]), ("rings", ["small", "large", "tiny", "huge"])):
        rows = [
            {
                "query": {"text": f"{name} {word} {number}", "instruction": "Find it."},
                "target": {"text": f"a {word} one of {name}, {number}"},
            }
            for word in words
            for number in range(6)
        ]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def run(folder: Path, num_processes: int, rank: int) -> None:
    """Train in this process, as one of several, and write which keys it saw, in their order."""
    embedder = make_random_embedder()
    files = {name: folder / f"{name}.jsonl" for name in ("stars", "rings")}
    rows = MixedPairs(PairsConfig(files=files), seed=1, num_batches=STEPS, batch_size=BATCH)
    seen: list[str] = []

    def resolve(key: str) -> EmbedderInput:
        seen.append(key)
        item, tcot, show_media = rows.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    trainer = {
        "per_device_train_batch_size": BATCH // num_processes,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "use_cpu": True,
        "save_strategy": "no",
        **({"ddp_backend": "gloo"} if num_processes > 1 else {}),
    }
    out = folder / f"run{num_processes}"
    train(embedder, rows.datasets(), resolve, Config(out=out, mini_batch_size=2, trainer=trainer))
    (out / f"seen{rank}.json").write_text(json.dumps(seen), "utf-8")


def drive(folder: Path) -> None:
    """Train with one, two and four processes, each forked from this one, which has the imports done and has used no threads."""
    torch.set_num_threads(1)
    write_pairs(folder)
    for num_processes in (1, 2, 4):
        port = free_port()
        children = [fork(folder, num_processes, rank, port) for rank in range(num_processes)]
        codes = [os.waitpid(child, 0)[1] for child in children]
        assert codes == [0] * num_processes, codes


def fork(folder: Path, num_processes: int, rank: int, port: int) -> int:
    if child := os.fork():
        return child
    code = 1
    try:
        if num_processes > 1:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
            os.environ |= {"WORLD_SIZE": str(num_processes), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        run(folder, num_processes, rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def losses(out: Path) -> list[float]:
    return [row["embedder/loss"] for row in read_metrics(out / "metrics.jsonl") if "embedder/loss" in row]


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
    assert len(batches) == 4 and all(len({query[0] for query, _ in batch}) == 1 for batch in batches)
    assert sorted(listed) == sorted(pair for pairs in rows.values() for pair in pairs[:8])
    assert in_one_list({"a": rows["a"]}, 3, seed=0) == {"pairs": rows["a"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        "from tests.test_processes import Path, drive; import sys; drive(Path(sys.argv[1]))",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 4])
def test_several_processes_train_as_one(folder: Path, num_processes: int) -> None:
    one, several = folder / "run1", folder / f"run{num_processes}"
    assert len(losses(one)) == STEPS and losses(several) == pytest.approx(losses(one), abs=1e-5)
    assert steps_seen(several, num_processes) == steps_seen(one, 1)
    first, second = load_file(one / "model/model.safetensors"), load_file(several / "model/model.safetensors")
    gaps = [(first[name].float() - second[name].float()).abs().max().item() for name in first]
    start_weights = make_random_embedder().model.state_dict()
    moved = max((first[f"model.{name}"].float() - weight.bfloat16().float()).abs().max().item() for name, weight in start_weights.items())
    assert moved > 1e-3 and max(gaps) < 4e-3, "weights are saved in bf16: they may differ in its last digit"
