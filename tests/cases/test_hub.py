"""Models by hub id: downloaded once, used offline afterwards, and never half; what goes wrong ends as a ModelError with the fix.

huggingface_hub reads its settings when it is imported, so each step runs in a process of its own, without torch.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from embedrl.errors import ModelError
from embedrl.models.weights import check_files
from tests.checkpoints import write_embed_rl, write_instruct
from tests.hub_server import TOKEN, Hub, commit_of, served_hub
from tests.test_checkpoints import SMALL, write_adapter

SOURCE = Path(__file__).parents[2] / "src"
ID = "Somebody/Tiny-VL"
FETCH = """
import sys
from embedrl.errors import EmbedRLError
from embedrl.models.names import resolve
for name in sys.argv[2:]:
    try:
        print(resolve(name, sys.argv[1]))
    except EmbedRLError as error:
        print(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two revisions of a model, with a pickle beside the weights that must never be fetched, and an adapter of it."""
    root = tmp_path_factory.mktemp("made")
    first = write_embed_rl(root / "first")
    (first / "embedrl.json").write_text(SMALL.model_dump_json(), "utf-8")
    (first / "pytorch_model.bin").write_bytes(b"never read")
    (first / "original").mkdir()
    (first / "original/model.safetensors").write_bytes(b"nor this")
    write_adapter(first, root / "adapter", named=ID)
    shutil.copy(first / "embedrl.json", root / "adapter")
    second = shutil.copytree(first, root / "second")
    (second / "embedrl.json").write_text(SMALL.model_copy(update={"num_frames": 4}).model_dump_json(), "utf-8")
    return root


@pytest.fixture
def hub(made: Path) -> Iterator[Hub]:
    with served_hub() as hub:
        hub.revisions = {(ID, "main"): made / "first", (ID, "v2"): made / "second"}
        yield hub


def environment(hub: Hub, home: Path, **changes: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING")) and "proxy" not in key.lower()}
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "2"}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(SOURCE.parent)]), **settings, **changes}


def resolve(hub: Hub, home: Path, *names: str, kind: str = "embedder", **changes: str) -> tuple[list[str], str]:
    """Resolve names in a new process: what each gave, and what was said."""
    run = subprocess.run(
        [sys.executable, "-c", FETCH, kind, *names], env=environment(hub, home, **changes), capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines(), run.stderr


def test_a_model_is_downloaded_once_and_used_offline_afterwards(hub: Hub, made: Path, tmp_path: Path) -> None:
    (folder, second), _ = resolve(hub, tmp_path, ID, f"{ID}@v2")
    cache = tmp_path / "hub/models--Somebody--Tiny-VL"
    assert Path(folder) == cache / "snapshots" / commit_of(made / "first")
    assert Path(second) == cache / "snapshots" / commit_of(made / "second")
    assert (cache / "refs/main").read_text("utf-8") == commit_of(made / "first")
    assert sorted(path.name for path in cache.iterdir() if path.is_dir()) >= ["blobs", "refs", "snapshots"]
    fetched = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
    assert fetched == {path.name for path in (made / "first").iterdir() if path.suffix in (".json", ".txt", ".safetensors")}
    sent = [name for name, _ in hub.sent]
    assert "pytorch_model.bin" not in sent
    assert max(index for index, name in enumerate(sent) if not name.endswith(".safetensors") and index < len(fetched)) < min(
        index for index, name in enumerate(sent) if name.endswith(".safetensors")
    ), "weights come last"
    assert sum(name.endswith(".safetensors") for name in sent) == len(list(Path(folder).glob("*.safetensors"))), "equal weights come once"
    before = len(hub.requests)
    assert resolve(hub, tmp_path, ID, f"{ID}@v2", HF_HUB_OFFLINE="1")[0] == [folder, second]
    assert len(hub.requests) == before, "nothing is asked offline"
    hub.status = 503
    again, said = resolve(hub, tmp_path, ID)
    assert again == [folder]
    assert "cannot be reached" in said
    assert "the copy in the cache is used" in said
    hub.status = None
    assert resolve(hub, tmp_path, str(cache))[0] == [folder], "the cache's own folder is a name as well"


def test_a_changed_file_is_fetched_and_nothing_else(hub: Hub, made: Path, tmp_path: Path) -> None:
    (first,), _ = resolve(hub, tmp_path, ID)
    hub.revisions[ID, "main"] = made / "second"
    hub.sent.clear()
    (second,), _ = resolve(hub, tmp_path, ID)
    assert Path(second).name == commit_of(made / "second")
    assert [name for name, _ in hub.sent] == ["embedrl.json"]
    assert json.loads((Path(second) / "embedrl.json").read_text("utf-8"))["num_frames"] == 4
    assert json.loads((Path(first) / "embedrl.json").read_text("utf-8"))["num_frames"] == 8, "the old revision is as it was"


def test_what_cannot_be_had_says_why(hub: Hub, tmp_path: Path) -> None:
    hub.revisions["Somebody/Gated", "main"] = hub.revisions["Somebody/Private", "main"] = hub.revisions[ID, "main"]
    (empty := tmp_path / "empty").mkdir()
    (empty / "README.md").write_text("no model", "utf-8")
    hub.revisions["Somebody/Empty", "main"] = empty
    hub.gated.add("Somebody/Gated")
    hub.private.add("Somebody/Private")
    names = ("Somebody/Nothing", f"{ID}@v9", "Somebody/Gated", "Somebody/Private", "Somebody/Empty", "./nowhere", "bad--name/x..y")
    nothing, revision, gated, private, no_model, nowhere, bad = resolve(hub, tmp_path / "home", *names)[0]
    assert f"ModelError: 'Somebody/Nothing': there is no such model on {hub.url}, nor a folder of that name here" in nothing
    assert "has no revision 'v9'" in revision
    assert f"is gated: accept its terms at {hub.url}/Somebody/Gated, then log in with `hf auth login`, or set HF_TOKEN" in gated
    assert "there is no such model" in private
    assert "is no model of transformers: it has no config.json" in no_model
    assert "ConfigError: embedder='./nowhere': not a folder, nor one of nano, nano-sharp, nano-crowded, fake, a hub id" in nowhere
    assert bad.startswith("ModelError: 'bad--name/x..y': that is no hub id")
    for name in ("Somebody/Gated", "Somebody/Private"):
        (folder,), _ = resolve(hub, tmp_path / "home", name, HF_TOKEN=TOKEN)
        assert Path(folder).is_dir(), name
    off = resolve(hub, tmp_path / "other", ID, HF_HUB_OFFLINE="1")[0][0]
    assert "downloads are off (HF_HUB_OFFLINE=1)" in off
    hub.status = 500
    assert "answers with status 500; try again later" in resolve(hub, tmp_path / "other", ID)[0][0]
    gone = resolve(hub, tmp_path / "other", ID, HF_ENDPOINT="http://127.0.0.1:9")[0][0]
    assert "http://127.0.0.1:9 cannot be reached" in gone
    assert "name a mirror of the hub in HF_ENDPOINT" in gone
    assert "hf download" in gone
    assert "give its folder in place of the name" in gone
    assert "hf download" in off


def test_a_download_that_was_cut_off_is_gone_on_with_and_never_loaded(hub: Hub, made: Path, tmp_path: Path) -> None:
    shard = sorted((made / "first").glob("*.safetensors"))[0]
    size = shard.stat().st_size
    hub.cut[shard.name] = size // 2
    (said,), _ = resolve(hub, tmp_path, ID)
    assert said.startswith("ModelError: ")
    assert "cut off" in said
    assert "what was downloaded is kept" in said
    (offline,), _ = resolve(hub, tmp_path, ID, HF_HUB_OFFLINE="1")
    assert "its download is not finished" in offline
    hub.cut.clear()
    hub.sent.clear()
    (folder,), _ = resolve(hub, tmp_path, ID)
    assert (Path(folder) / shard.name).read_bytes() == shard.read_bytes()
    assert all(name.endswith(".safetensors") for name, _ in hub.sent), "settings are there already"


def test_a_full_disk_is_named(hub: Hub, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writes fail in the middle of a file."""
    limits = "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))"
    limited = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{limits}\n"
    run = subprocess.run(
        [sys.executable, "-c", limited + FETCH, "embedder", ID],
        env=environment(hub, tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "ModelError" in run.stdout
    assert "cannot be written (File too large)" in run.stdout
    assert "HF_HOME names another folder, and what was downloaded is kept" in run.stdout


@pytest.mark.slow
def test_an_adapter_finds_its_base_on_the_hub(hub: Hub, made: Path, tmp_path: Path) -> None:
    adapter = shutil.copytree(made / "adapter", tmp_path / "adapter")
    script = "import sys; from pathlib import Path; from embedrl.models.load import base_folder; print(base_folder(Path(sys.argv[1])))"
    run = subprocess.run(
        [sys.executable, "-c", script, str(adapter)], env=environment(hub, tmp_path / "home"), capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith(commit_of(made / "first"))


@pytest.mark.slow
def test_a_folder_is_indexed_and_searched_by_hub_id(hub: Hub, made: Path, tmp_path: Path) -> None:
    """With the command line: the first run downloads, the second works offline, another revision is another Embedder."""
    library = tmp_path / "library"
    library.mkdir()
    PIL.Image.new("RGB", (64, 64), "red").save(library / "red.png")

    def embedrl(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "embedrl.cli.main", *words]
        return subprocess.run(command, env=environment(hub, tmp_path / "home", **changes), capture_output=True, text=True, timeout=300)

    indexed = embedrl("index", str(library), "--reasoner", "fake", "--embedder", ID)
    assert indexed.returncode == 0, indexed.stderr
    found = embedrl("search", "red", "--index", str(library), "--no-think", "--embedder", ID, "--json", HF_HUB_OFFLINE="1")
    assert found.returncode == 0, found.stderr
    assert "red.png" in found.stdout
    other = embedrl("search", "red", "--index", str(library), "--no-think", "--embedder", f"{ID}@v2", "--json")
    assert other.returncode == 2
    assert "Tiny-VL-" in other.stderr


def test_a_model_with_a_pickle_alone_is_refused(hub: Hub, tmp_path: Path) -> None:
    folder = write_instruct(tmp_path / "pickled")
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    hub.revisions["Somebody/Pickled", "main"] = folder
    (cached,), _ = resolve(hub, tmp_path / "home", "Somebody/Pickled")
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        check_files(Path(cached))
    assert "pytorch_model.bin" not in [name for name, _ in hub.sent]
