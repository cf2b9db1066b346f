"""Training curves as a picture."""

import json
from pathlib import Path

import PIL.Image
import pytest

from embedrl.errors import ConfigError, StoreError
from embedrl.reports.plots import plot_curves


def make_run(folder: Path, scale: float) -> Path:
    folder.mkdir()
    lines = [json.dumps({"step": step, "seconds": 1.0, "rl/reward": scale * step, "rl/same": 1.0, "rl/kl": None}) for step in range(20)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"torn', "utf-8")
    return folder


def test_only_what_changes_is_drawn_and_every_run_is_in_the_picture(tmp_path: Path):
    runs = [make_run(tmp_path / "a", 1.0), make_run(tmp_path / "b", -1.0)]
    assert plot_curves(runs, tmp_path / "deep" / "two.png") == 1
    assert plot_curves(runs[:1], tmp_path / "one.png", figures=["rl/same", "rl/reward"]) == 2
    with PIL.Image.open(tmp_path / "deep" / "two.png") as two:
        colours = two.convert("RGB").getcolors(1 << 20)
    assert {(31, 119, 180), (255, 127, 14)} <= {colour for _, colour in colours}, "one colour a run"


def test_bad_input_is_named(tmp_path: Path):
    run = make_run(tmp_path / "a", 1.0)
    with pytest.raises(ConfigError, match=r"'rl/loss'.*rl/reward"):
        plot_curves([run], tmp_path / "x.png", figures=["rl/loss"])
    with pytest.raises(StoreError, match=r"ends in \.png or \.svg"):
        plot_curves([run], tmp_path / "x.unknown")
    with pytest.raises(StoreError, match="cannot be read"):
        plot_curves([tmp_path / "nowhere"], tmp_path / "x.png")
