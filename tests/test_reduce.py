"""Principal components of an index's vectors, behind the pooling of its Embedder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from embedrl.cli.main import app
from embedrl.data.items import query
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.parity import trace_sentence_transformers
from embedrl.embedder.prefix import embed_groups
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import starting_embedder
from embedrl.errors import ConfigError, ModelError
from embedrl.index.index import Index
from embedrl.media.resize import PAPER_BUDGET
from embedrl.pipelines.index import index_by_name
from embedrl.pipelines.reduce import principal_components, reduce_embedder
from embedrl.runtime.names import load_embedder, resolve

COLOURS, SHAPES = ("red", "blue", "green", "purple"), ("star", "circle", "square", "cross", "heart", "ring")
TEXTS = [f"a {colour} {shape} at the {place}" for colour in COLOURS for shape in SHAPES for place in ("left", "right")]
DIM = 24


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reduced") / "library"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"{number}.txt").write_text(text)
    index_by_name(folder, None, "nano")
    return folder


@pytest.fixture(scope="module")
def reduced(library: Path) -> Path:
    out = library.parent / "reduced"
    reduce_embedder(str(library), out, dim=DIM)
    return out


def vectors_of(index: Index) -> dict[str, np.ndarray]:
    return index.vectors([place.key for place in index.places()], "plain")


def test_components_are_those_of_the_second_moment_largest_first() -> None:
    points = np.array([[3.0, 0.0, 0.1], [-3.0, 0.0, 0.1], [0.0, 1.0, 0.1], [0.0, -1.0, 0.1]])
    components, share = principal_components(points.T @ points)
    assert np.abs(components[:2]) == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=0.01)
    assert components.max(1) == pytest.approx([1, 1, 1], abs=0.01), "of two directions the one whose largest number is positive"
    assert share == pytest.approx(np.array([18, 2, 0.04]) / 20.04)


def test_a_reduced_embedder_gives_the_vectors_of_before_by_their_components(library: Path, reduced: Path) -> None:
    before, after = vectors_of(Index.open(library)), Embedder.load(reduced, device="cpu")
    whole = np.stack(list(before.values()))
    components = principal_components(whole.T.astype(np.float64) @ whole)[0][:DIM]
    text = next(place for place in Index.open(library).places() if place.path.name == "3.txt")
    expected = components @ before[text.key]
    index_by_name(copy := _copied(library), None, str(reduced))
    index = Index.open(copy, embedder=after)
    assert index.dim == DIM
    assert index.vectors([text.key], "plain")[text.key] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-4)
    assert after.fingerprint != load_embedder("nano").fingerprint
    assert "-dense" in after.fingerprint


def _copied(library: Path) -> Path:
    copy = library.parent / "copy"
    copy.mkdir(exist_ok=True)
    for path in library.glob("*.txt"):
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_all_components_keep_every_cosine_and_the_first_ones_most_of_it(library: Path, tmp_path: Path) -> None:
    items, nano = [query(text) for text in TEXTS[:8]], load_embedder("nano")
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(nano.dim):
        (folder / f"{number}.txt").write_text(f"note {number} of {TEXTS[number % len(TEXTS)]}, {number * number}")
    index_by_name(folder, None, "nano")
    whole = reduce_embedder(str(folder), tmp_path / "all")
    assert [prefix.dim for prefix in whole.prefixes] == [nano.dim // part for part in (1, 2, 4, 8)]
    assert (whole.prefixes[0].length, whole.prefixes[0].recall) == (pytest.approx(1.0), 1.0)
    rotated, plain = (embedder.embed(items, [None] * 8) for embedder in (load_embedder(str(tmp_path / "all")), nano))
    assert rotated @ rotated.T == pytest.approx(plain @ plain.T, abs=1e-4)
    first, given = (np.linalg.norm(vectors[:, : nano.dim // 4], axis=1) for vectors in (rotated, plain))
    assert first.mean() > 0.95
    assert first.mean() > given.mean() + 0.1


def test_sentence_transformers_reads_the_matrix_alike(reduced: Path) -> None:
    module = json.loads((reduced / "modules.json").read_text())[2]
    assert (module["type"], module["path"]) == ("sentence_transformers.base.modules.dense.Dense", "2_Dense")
    embedder, item = Embedder.load(reduced, device="cpu"), query("a red star")
    (theirs,) = trace_sentence_transformers(embedder, reduced, [embedder.build(item, None)])
    assert theirs.vector == pytest.approx(embedder.embed([item], [None])[0], abs=1e-4)


def test_groups_with_a_shared_prefix_get_the_same_vectors(reduced: Path) -> None:
    embedder, item = Embedder.load(reduced, device="cpu"), query("a red star")
    tcots = [TCoT(thinking="a star", rethink="", answer="red star"), TCoT(thinking="a ring", rethink="", answer="blue ring"), None]
    assert embed_groups(embedder, [item], [tcots])[0] == pytest.approx(embedder.embed([item] * 3, tcots), abs=1e-4)


def test_saving_and_reducing_again_keep_the_matrix(reduced: Path, library: Path, tmp_path: Path) -> None:
    embedder, items = Embedder.load(reduced, device="cpu"), [query("a red star")]
    embedder.save(tmp_path / "saved")
    saved = Embedder.load(tmp_path / "saved", device="cpu", dtype="float32")
    assert saved.dim == DIM
    assert f"{DIM} numbers of unit length" in (tmp_path / "saved" / "README.md").read_text()
    assert saved.embed(items, [None]) == pytest.approx(embedder.embed(items, [None]), abs=0.02), "weights are saved in bf16"
    index_by_name(copy := _copied(library), None, str(reduced))
    again = reduce_embedder(str(copy), tmp_path / "again", dim=8)
    assert again.prefixes[0].length < 1
    shorter = Embedder.load(tmp_path / "again", device="cpu").embed(items, [None])
    assert shorter.shape == (1, 8)
    assert np.linalg.norm(shorter) == pytest.approx(1, abs=1e-5)


def test_settings_that_are_not_applied_are_said_once(reduced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "named"
    shutil.copytree(reduced, folder)
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 8}')
    Embedder.load(folder, device="cpu")
    assert capsys.readouterr().err.count("truncate_dim=8 is not applied") == 1


def test_pooling_of_another_kind_is_no_matter_to_a_training(tmp_path: Path) -> None:
    folder = tmp_path / "mean"
    shutil.copytree(resolve("nano", "embedder"), folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    starting_embedder(EmbedderRecipe(out=tmp_path / "run", start_from=folder, batch_size=2, num_batches=1), PAPER_BUDGET)


def test_what_cannot_be_reduced_says_why(library: Path, reduced: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reduced' exists: give a new folder"):
        reduce_embedder(str(library), reduced)
    with pytest.raises(ConfigError, match=r"dimensions=193: the vectors of this index have 192 numbers"):
        reduce_embedder(str(library), tmp_path / "out", dim=193)
    with pytest.raises(ConfigError, match=r"dimensions=192: 48 rows are too few to fit so many components"):
        reduce_embedder(str(library), tmp_path / "out")
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "a.txt").write_text("an elephant")
    index_by_name(fake, None, "fake")
    with pytest.raises(ConfigError, match=r"embedder='fake': a model with loaded weights is needed"):
        reduce_embedder(str(fake), tmp_path / "out", dim=8)
    with pytest.raises(ConfigError, match=r"has a matrix behind its pooling, fitted to it"):
        starting_embedder(EmbedderRecipe(out=tmp_path / "run", start_from=reduced, batch_size=2, num_batches=1), PAPER_BUDGET)
    assert not (tmp_path / "out").exists()


def test_a_matrix_of_another_model_is_refused(reduced: Path) -> None:
    file = reduced / "2_Dense" / "model.safetensors"
    held = file.read_bytes()
    try:
        save_file({"linear.weight": torch.ones(4, 7)}, file)
        with pytest.raises(ModelError, match=r"its Dense module is for vectors of 7 numbers, the model has 192"):
            Embedder.load(reduced, device="cpu")
        save_file({"weight": torch.ones(4, 192)}, file)
        with pytest.raises(ModelError, match=r"holds no linear.weight"):
            Embedder.load(reduced, device="cpu")
        save_file({"linear.weight": torch.full((4, 192), torch.nan)}, file)
        with pytest.raises(ModelError, match=r"no matrix of finite numbers"):
            Embedder.load(reduced, device="cpu")
    finally:
        file.write_bytes(held)


def test_the_command_says_what_is_kept(library: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["index", "reduce", str(library), str(tmp_path / "short"), "--dimensions", "12", "--json"])
    assert said.exit_code == 0, said.output
    report = json.loads(said.stdout)
    assert (report["dim"], report["num_vectors"]) == (12, 2 * len(TEXTS))
    assert [prefix["dim"] for prefix in report["prefixes"]] == [12, 6, 3, 1]
    lengths, recalls = ([prefix[name] for prefix in report["prefixes"]] for name in ("length", "recall"))
    assert lengths == sorted(lengths, reverse=True)
    assert recalls == sorted(recalls, reverse=True)
    assert 0.5 < lengths[0] < 1
