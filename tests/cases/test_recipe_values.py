"""Values of recipes and of files that people write: a byte order mark, names with dots, empty paths, booleans for numbers.

Reported: a recipe with a byte order mark was "not a TOML file", and data sets whose names hold a dot could not be set by an override
(models.md F18). Siblings: `embedrl index ""` (a variable that is not set) indexed the working folder, `out=""` trained into it.
"""

from pathlib import Path

import pytest

from embedrl.config import load_recipe
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.reading import read_tasks, with_instructions
from tests.official_files import ROWS, frames, lines, official

MARK = b"\xef\xbb\xbf"
WHOLE = ("out=o", "start_from=x", "num_batches=1")


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path):
    recipe = tmp_path / "r.toml"
    recipe.write_bytes(MARK + b'out = "o"\r\nstart_from = "x"\r\nnum_batches = 3\r\n')
    assert load_recipe(recipe, [], EmbedderRecipe).num_batches == 3
    benchmark = official("video_label", num_labels=2)
    instructions = tmp_path / "i.toml"
    instructions.write_bytes(MARK + b'[set]\nquery = "Name it."\n')
    assert with_instructions(benchmark, instructions).sources[0].replaced == ("Name it.", None)
    frames(tmp_path, "v1", "v2")
    rows = [{"video_id": name, "pos_text": "run"} for name in ("v1", "v2")]
    lines(tmp_path / ROWS / "test.jsonl", rows)
    (tmp_path / ROWS / "labels.txt").write_bytes(MARK + b"run\nswim\n")
    (task,) = read_tasks(benchmark, tmp_path)
    assert [item.text for item in task.candidates] == ["run", "swim"]


def test_a_name_with_a_dot_stands_in_quotes():
    overrides = [*WHOLE[:2], "num_epochs=1", 'pairs.files."VOC.2007"=p.jsonl', "pairs.weights.'VOC.2007'=2"]
    pairs = load_recipe(None, overrides, EmbedderRecipe).pairs
    assert pairs is not None
    assert pairs.files == {"VOC.2007": Path("p.jsonl")}
    assert pairs.weights == {"VOC.2007": 2.0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('out=""', "out='': an empty path is the working folder"),
        ('start_from=""', "start_from='': an empty path"),
        ("batch_size=true", "batch_size=True: give a number"),
        ("num_batches=False", "num_batches=False: give a number"),
        ("temperature=true", "temperature=True: give a number"),
        ("lora={rank=true, alpha=1}", r"lora.rank=True: give a number"),
    ],
)
def test_a_value_that_says_something_else_is_refused(override: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_recipe(None, [*WHOLE, override], EmbedderRecipe)
