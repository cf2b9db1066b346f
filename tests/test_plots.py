"""Training curves, and figures with their intervals, as a picture."""

import json
from pathlib import Path

import PIL.Image
import pytest

from embedrl.errors import ConfigError, StoreError
from embedrl.evaluation.bootstrap import Figure
from embedrl.reports.plots import plot_curves, plot_intervals


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


def test_figures_are_drawn_as_lines_in_their_intervals(tmp_path: Path):
    lines = {
        "plain": {9.0: Figure(0.2, 0.1, 0.3), 36.0: Figure(0.6, 0.5, 0.7)},
        "reasoned": {36.0: Figure(0.9, 0.85, 0.95), 9.0: Figure(0.8, 0.7, 0.9)},
    }
    plot_intervals(lines, tmp_path / "eyes.png", x_label="visual tokens", y_label="hit@1, %")
    with PIL.Image.open(tmp_path / "eyes.png") as picture:
        counts = {colour: count for count, colour in picture.convert("RGB").getcolors(1 << 20)}
    for line in ((31, 119, 180), (255, 127, 14)):
        band = [round(255 - 0.15 * (255 - channel)) for channel in line]
        areas = [count for colour, count in counts.items() if max(abs(a - b) for a, b in zip(colour, band, strict=True)) <= 1]
        assert counts.get(line, 0) > 100, "one colour a line"
        assert max(areas, default=0) > 1000, "its interval as a band"
    with pytest.raises(StoreError, match=r"ends in \.png or \.svg"):
        plot_intervals(lines, tmp_path / "eyes.unknown", x_label="x", y_label="y")
