"""Families of models on tiny random checkpoints: each does as either role what Qwen3-VL does, and docs/models.md says what differs.

`python -m tests.test_families --write` writes the table.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from embedrl.embedder.embedder import Embedder
from embedrl.embedder.prefix import embed_groups
from embedrl.errors import ModelError
from embedrl.models.architectures import ARCHITECTURES
from embedrl.models.load import empty_model
from embedrl.models.names import shipped
from embedrl.reasoner.local import LocalReasoner
from embedrl.runtime.names import load_both, load_reasoner
from tests.cases.test_tokenisation import video
from tests.checkpoints import write_embed_rl
from tests.families import FAMILIES, write_family, write_llava
from tests.test_checkpoints import BOX, SMALL, make_items, write_adapter

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
COLUMNS = (
    "Reasoner",
    "Embedder",
    "LoRA adapter",
    "int8 weights",
    "two adapters on one base",
    "T-CoTs of an item share their prefix",
    "faster forward passes",
)


def write_base(folder: Path, model_type: str) -> Path:
    """Write a model of a family that knows `<emb>`."""
    return write_embed_rl(folder) if model_type == "qwen3_vl" else write_family(folder, model_type, added=("<emb>",))


def try_family(model_type: str, folder: Path) -> dict[str, str]:
    """Do what the columns say with a family; what holds is asserted here, and the cells of its row are returned."""
    base = write_base(folder / "base", model_type)
    items = [*make_items(), video()]
    tcots = [None, BOX, None, BOX]

    reasoner = LocalReasoner.load(base, dtype=torch.float32)
    reasoner.settings = reasoner.settings.model_copy(update={"budget": SMALL, "max_new_tokens": 4})
    together = [outcome.text for outcome in reasoner.reason(items)]
    assert together == [reasoner.reason([item])[0].text for item in items]
    writer = LocalReasoner.load(base, dtype=torch.float32, quantize="int8")
    writer.settings = reasoner.settings
    assert len(writer.reason(items)) == len(items)

    (base / "embedrl.json").write_text(SMALL.model_dump_json(), "utf-8")
    embedder = Embedder.load(base, dtype=torch.float32)
    vectors = embedder.embed(items, tcots)
    alone = np.concatenate([embedder.embed([item], [tcot]) for item, tcot in zip(items, tcots, strict=True)])
    assert np.abs(vectors - alone).max() < 1e-5
    plain = Embedder.load(base, dtype=torch.float32, fast=False)
    assert np.abs(plain.embed(items, tcots) - vectors).max() < 1e-5
    embedder.save(folder / "saved")
    assert np.abs(Embedder.load(folder / "saved", dtype=torch.float32).embed(items, tcots) - vectors).max() < 1e-5
    _, info = AutoModelForImageTextToText.from_pretrained(folder / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]

    for item, group in zip(items, embed_groups(embedder, items, [[None, BOX]] * len(items)), strict=True):
        assert np.abs(group - embedder.embed([item] * 2, [None, BOX])).max() < 1e-5

    merged = write_adapter(base, folder / "adapter").base_model.state_dict()
    shutil.copy(base / "embedrl.json", folder / "adapter")
    adapted = Embedder.load(folder / "adapter", dtype=torch.float32)
    assert all(torch.allclose(weight, merged[name], atol=1e-5) for name, weight in adapted.model.state_dict().items())
    write_adapter(base, folder / "other", seed=2)
    _, shared = load_both(str(folder / "other"), str(folder / "adapter"))
    assert np.abs(shared.embed(items, tcots) - adapted.embed(items, tcots)).max() < 1e-5

    packed = Embedder.load(base, dtype=torch.float32, quantize="int8")
    assert (packed.embed(items, tcots) * vectors).sum(axis=1).min() > 0.99
    assert packed.model.get_memory_footprint() < embedder.model.get_memory_footprint()

    row = ARCHITECTURES[model_type]
    cells = ["yes", "yes", "yes", "yes", "yes", "yes" if row.shares_prefix else "no: each is encoded whole", "yes" if row.fast else "none"]
    return dict(zip(COLUMNS, cells, strict=True))


def line(model_type: str, cells: dict[str, str]) -> str:
    return f"| {ARCHITECTURES[model_type].family} (`{model_type}`) | {' | '.join(cells.values())} |"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_family_does_what_its_row_says(model_type: str, tmp_path: Path) -> None:
    cells = try_family(model_type, tmp_path)
    assert line(model_type, cells) in PAGE.read_text("utf-8").splitlines(), "run python -m tests.test_families --write"


def test_every_family_is_tried() -> None:
    assert {*FAMILIES, "qwen3_vl"} == set(ARCHITECTURES)


def test_the_time_of_frames_is_the_true_one(tmp_path: Path) -> None:
    """Qwen2.5-VL places frames by seconds in their positions: a clip that is twice as long gives another vector."""
    embedder = Embedder.load(write_base(tmp_path / "base", "qwen2_5_vl"), dtype=torch.float32)
    batch = embedder.collate([embedder.build(video(), None)])
    assert batch["second_per_grid_ts"].tolist() == [1.0], "two frames, half a second apart, are a pair"


def test_other_models_of_images_and_text_are_reasoners(tmp_path: Path) -> None:
    """Through their own chat template and their own processor's scaling; they are no Embedders."""
    folder = write_llava(tmp_path / "llava")
    reasoner = load_reasoner(str(folder))
    assert isinstance(reasoner, LocalReasoner)
    reasoner.settings = reasoner.settings.model_copy(update={"max_new_tokens": 4})
    items = [*make_items(), video()]
    assert [outcome.text for outcome in reasoner.reason(items)] == [reasoner.reason([item])[0].text for item in items]
    with pytest.raises(ModelError, match=r"architecture 'llava' is known as a Reasoner only; Embedders are of qwen3_vl, "):
        Embedder.load(folder)


def test_a_processor_of_another_model_is_refused(tmp_path: Path) -> None:
    """A Qwen2.5-VL with the files of a Qwen3-VL's processor was an AttributeError."""
    folder = write_family(tmp_path / "model", "qwen2_5_vl")
    for file in shipped("reasoner")["nano"].iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in ("config.json", "embedrl.json", "generation_config.json"):
            shutil.copy(file, folder / file.name)
    with pytest.raises(ModelError, match=r"the files of its processor are those of another model"):
        load_reasoner(str(folder))


def test_a_processor_that_cuts_other_patches_is_refused(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "model", "qwen2_5_vl")
    shutil.copy(write_base(tmp_path / "other", "qwen3_vl") / "preprocessor_config.json", folder)
    with pytest.raises(
        ModelError, match=r"patch_size=16 of its image processor, and patch_size=14 in config.json: the files of its processor"
    ):
        LocalReasoner.load(folder)


def test_what_a_run_needs_is_counted_for_one_family(tmp_path: Path) -> None:
    from embedrl.models.architectures import read_config

    with pytest.raises(ModelError, match=r"counted for the architecture qwen3_vl only, not for 'qwen2_vl'"):
        empty_model(read_config(write_family(tmp_path / "model", "qwen2_vl")))


def write_page() -> None:
    """Write the table of docs/models.md."""
    lines = [f"| family | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for model_type in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(line(model_type, try_family(model_type, Path(folder))))
    text = PAGE.read_text("utf-8")
    head, _, rest = text.partition("<!-- table -->\n")
    _, _, tail = rest.partition("<!-- end -->\n")
    PAGE.write_text(f"{head}<!-- table -->\n" + "\n".join(lines) + f"\n<!-- end -->\n{tail}", "utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write_page()
