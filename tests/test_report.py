"""The report: its shape, its aggregation, its differences."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from embedrl.errors import ConfigError, StoreError
from embedrl.evaluation.evaluate import FIGURES, SystemResult, TaskResult, join_seeds
from embedrl.evaluation.report import make_report, write_report
from embedrl.evaluation.task import Modality


def task(name: str, modality: Modality, hits: list[float], **figures: list[float]) -> TaskResult:
    columns = {figure: np.full(len(hits), np.nan) for figure in FIGURES}
    columns |= {"hit@1": np.array(hits), "positive_cosine": np.array(hits) / 2}
    columns |= {figure: np.array(values) for figure, values in figures.items()}
    return TaskResult(name, modality, 300, tuple(f"{name}{row}" for row in range(len(hits))), (), columns)


def systems() -> list[SystemResult]:
    plain = (task("i", "image", [1, 0, 0, 0]), task("v", "video", [0, 1]), task("d", "visdoc", [0, 0]))
    valid = {"tcot_valid": [1.0, 0.5, 1.0, 1.0], "evidence/box_iou50": [1.0, np.nan, 0.5, np.nan]}
    after = (task("i", "image", [1, 1, 1, 0], **valid), task("v", "video", [1, 1]), task("d", "visdoc", [0, 1]))
    return [SystemResult("plain", plain, {}, 1.0), SystemResult("before_rl", after, {}, 2.0)]


def test_the_report_has_the_shape_that_its_readers_rely_on():
    report = make_report(systems(), seed=3, seconds=4.56)
    assert list(report["systems"]) == ["plain", "before_rl"]
    assert list(report["systems"]["plain"]) == ["overall", "image", "video", "visdoc", "tasks"]
    assert list(report["systems"]["plain"]["tasks"]) == ["i", "v", "d"]
    assert (report["num_queries"], report["num_candidates"], report["seed"], report["seconds"]) == (8, 900, 3, 4.6)
    for group in report["systems"]["before_rl"]["overall"], report["differences"]["before_rl-plain"]["video"]:
        row = group["hit@1"]
        assert set(row) == {"value", "ci95"}
        assert row["ci95"][0] <= row["value"] <= row["ci95"][1]


def test_groups_are_unweighted_means_of_tasks():
    report = make_report(systems(), seed=0, seconds=1)
    assert report["systems"]["plain"]["overall"]["hit@1"]["value"] == pytest.approx((0.25 + 0.5 + 0) / 3, abs=1e-6)
    assert report["systems"]["before_rl"]["image"]["hit@1"]["value"] == 0.75
    assert report["differences"]["before_rl-plain"]["overall"]["hit@1"]["value"] == pytest.approx(0.5)


def test_figures_that_are_not_defined_are_left_out():
    report = make_report(systems(), seed=0, seconds=1)
    assert "tcot_valid" not in report["systems"]["plain"]["image"]
    box = report["systems"]["before_rl"]["image"]["evidence"]["box_iou50"]
    assert box["value"] == 0.75
    assert 0 < box["ci95"][0] < 0.5, "two boxes are few"
    assert "evidence" not in report["systems"]["before_rl"]["video"]
    assert "tcot_valid" not in report["differences"]["before_rl-plain"]["image"]


def test_every_later_system_is_compared_with_every_earlier_one():
    ceiling = SystemResult("ceiling", systems()[1].tasks, {}, 1.0)
    report = make_report([*systems(), ceiling], seed=0, seconds=1, num_resamples=100)
    assert set(report["differences"]) == {"before_rl-plain", "ceiling-plain", "ceiling-before_rl"}
    same = report["differences"]["ceiling-before_rl"]["overall"]["hit@1"]
    assert same["value"] == 0.0
    assert same["ci95"][0] < 0 < same["ci95"][1], "eight queries without a difference do not prove that there is none"


def test_the_report_says_of_how_many_queries_and_families_each_group_is():
    plain, before = systems()
    shared = [
        dataclasses.replace(result, tasks=(dataclasses.replace(result.tasks[0], families=("a", "a", "a", "b")), *result.tasks[1:]))
        for result in (plain, before)
    ]
    alone, together = make_report([plain, before], seed=0, seconds=1), make_report(shared, seed=0, seconds=1, seeds=[101, 102])
    assert alone["groups"]["image"] == {"num_tasks": 1, "num_queries": 4, "num_families": 4}
    assert together["groups"]["overall"] == {"num_tasks": 3, "num_queries": 8, "num_families": 6}
    assert (alone["seeds"], together["seeds"]) == ([0], [101, 102])


def test_queries_of_several_seeds_are_put_together():
    plain, before = systems()
    both = join_seeds([plain, before])
    assert [len(task.query_keys) for task in both.tasks] == [8, 4, 4]
    assert both.tasks[0].figures["hit@1"].tolist() == [1, 0, 0, 0, 1, 1, 1, 0]
    assert both.tasks[0].num_families == 8, "a query of another seed is another query"


def test_the_same_seed_gives_the_same_report():
    first, again, other = (make_report(systems(), seed=seed, seconds=1) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_systems_that_cannot_be_compared_are_refused():
    plain, before = systems()
    with pytest.raises(ConfigError, match="at least one"):
        make_report([], seed=0, seconds=1)
    with pytest.raises(ConfigError, match="name of its own"):
        make_report([plain, plain], seed=0, seconds=1)
    with pytest.raises(ConfigError, match="other queries"):
        make_report([plain, SystemResult("before_rl", before.tasks[:2], {}, 1.0)], seed=0, seconds=1)


def test_a_report_is_strict_json(tmp_path: Path):
    report = make_report(systems(), seed=0, seconds=1)
    write_report(report, tmp_path / "run" / "report.json")
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"report\.json"):
        write_report({}, tmp_path / "file" / "report.json")
