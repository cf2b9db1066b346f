"""Differences between own systems: paired on equal queries, refused on others, and drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrl.evaluation.benchmarks.mmeb_v2 import MMEB_V2
from embedrl.evaluation.benchmarks.uvrb import UVRB
from embedrl.evaluation.bootstrap import Figure
from embedrl.evaluation.metrics import CUTOFFS, METRICS, mmeb_compat_grades, score_ranking
from embedrl.evaluation.paired import pair_systems
from embedrl.evaluation.tables import COUNTS, Dataset, read_result
from embedrl.reports.score_charts import Series, axes, dataset_bars, differences, radar
from embedrl.reports.score_tables import difference_tables, pair_notes, report_tables, tables_html, tables_json
from tests.official_files import lines

MOMENTS = [row for row in MMEB_V2.datasets if "V-MRET" in row.groups]


def write_system(folder: Path, rows: list[Dataset], hits: dict[str, list[bool]]) -> Path:
    """Write predictions, of which the given queries hit, and the score files that follow from them."""
    for row in rows:
        found = [{"prediction": ["a", "b"] if hit else ["b", "a"], "label": ["a"], "rel_scores": None} for hit in hits[row.name]]
        write_dataset(folder, row, found)
    return folder


def write_dataset(folder: Path, row: Dataset, found: list[dict[str, Any]], *, compat: bool = False) -> None:
    lines(folder / row.modality / f"{row.name}_pred.jsonl", found)
    scored = []
    for line in found:
        relevant = dict(zip(line["label"], line["rel_scores"] or [1.0] * len(line["label"]), strict=True))
        scored.append(score_ranking(line["prediction"], mmeb_compat_grades(relevant) if compat else relevant))
    names = [f"{name}@{k}" for name in METRICS for k in CUTOFFS]
    means = {name: float(np.mean([one[name] for one in scored])) for name in names} | dict.fromkeys(COUNTS, len(found))
    (folder / row.modality / f"{row.name}_score.json").write_text(json.dumps(means))


def half(row: Dataset, share: float) -> list[bool]:
    return [number < share * row.num_queries for number in range(row.num_queries)]


def test_two_systems_are_compared_query_by_query(tmp_path: Path):
    plain = write_system(tmp_path / "plain", MOMENTS, {row.name: half(row, 0.5) for row in MOMENTS})
    tcot = write_system(tmp_path / "tcot", MOMENTS, {row.name: half(row, 0.75) for row in MOMENTS})
    (table,) = report_tables([plain, tcot])
    (pair,) = table.pairs
    assert list(pair.datasets) == [row.name for row in MOMENTS]
    assert list(pair.columns) == ["V-MRET"]
    assert not pair.refused
    for row in MOMENTS:
        gained = sum(half(row, 0.75)) - sum(half(row, 0.5))
        share, found = gained / row.num_queries, pair.datasets[row.name]
        assert found.value == pytest.approx(share)
        # Each query gains 1 or nothing, so the interval is that of a share.
        assert found.high - found.low == pytest.approx(2 * 1.96 * (share * (1 - share) / row.num_queries) ** 0.5, rel=0.15)
    assert pair.columns["V-MRET"].value == pytest.approx(np.mean([one.value for one in pair.datasets.values()]))
    (title, heads, rows), *others = difference_tables(table)
    assert title == "tcot minus plain, in points"
    assert not others
    assert len(heads) == 2
    assert rows[0][0] == "V-MRET"
    assert rows[0][1].startswith("+25.0 (+")
    mine = tables_json([table])["MMEB-V2"][1]["differences"]["plain"]
    assert list(mine["columns"]) == ["V-MRET"]
    assert mine["not_compared"] == {}
    assert len(mine["datasets"]) == 3
    page = "".join(tables_html([table]))
    assert "tcot minus plain" in page
    assert page.count('class="difference better"') == 4
    assert "<script" not in page


def test_pairs_whose_queries_differ_are_refused(tmp_path: Path):
    one = write_system(tmp_path / "one", MOMENTS, {row.name: half(row, 0.5) for row in MOMENTS})
    two = write_system(tmp_path / "two", MOMENTS, {row.name: half(row, 0.75) for row in MOMENTS})
    first, second, third = MOMENTS
    changed = [{"prediction": ["b", "a"], "label": ["b"], "rel_scores": None}] * first.num_queries
    write_dataset(two, first, changed)
    (two / "video" / f"{second.name}_pred.jsonl").unlink()
    path = one / "video" / f"{third.name}_pred.jsonl"
    path.write_text(path.read_text().replace('["a", "b"]', '["b", "a"]', 1))
    (table,) = report_tables([one, two])
    (pair,) = table.pairs
    assert not pair.datasets
    assert not pair.columns
    assert pair.refused[first.name] == "the queries differ: other labels or grades in line 1 of the predictions"
    assert pair.refused[second.name] == f"no predictions of two ({second.name}_pred.jsonl)"
    assert pair.refused[third.name] == "the predictions of one do not give its score; evaluate it again"
    assert any("not compared: " + first.name in note for note in pair_notes(table))
    path.write_text("{}\n" * third.num_queries)
    (pair,) = pair_systems([(place, read_result(place, [MMEB_V2])) for place in (one, two)])
    assert pair.refused[third.name] == f"{third.name}_pred.jsonl of one: line 1 is broken; evaluate it again"


def test_grades_that_were_handed_out_in_two_ways_are_not_compared(tmp_path: Path):
    row = next(row for row in MMEB_V2.datasets if row.name == "ViDoRe_esg_reports_human_labeled_v2")
    graded = [{"prediction": [3, 0, 1], "label": [3, 0], "rel_scores": [1.0, 2.0]}] * row.num_queries
    folders = [tmp_path / name for name in ("one", "two", "compat")]
    for folder in folders:
        write_dataset(folder, row, graded, compat=folder.name == "compat")
    (table,) = report_tables(folders)
    same, *mixed = table.pairs
    value, low, high = same.datasets[row.name]
    assert value == 0
    assert -0.08 < low < 0 < high < 0.08, "52 queries without a difference leave room for a small one"
    assert [pair.refused[row.name] for pair in mixed] == [
        "grades were handed out in two ways (mmeb-compat, correct); evaluate both alike"
    ] * 2


def test_charts_show_what_there_is_and_nothing_else():
    full = {row.name: 0.5 for row in MMEB_V2.datasets}
    columns = {column: 0.4 + place / 100 for place, column in enumerate(MMEB_V2.columns)}
    own, other = Series("<mine>", "own0", columns), Series("paper", "other0", {"I-CLS": 0.6})
    names = axes(MMEB_V2, [own, other])
    assert len(names) == 12
    assert not {"image", "video", "visdoc", "all"} & set(names)
    drawn = radar(names, [own, other])
    assert drawn.count("<polygon") == 4 + 1
    assert "&lt;mine&gt;" in drawn
    assert "paper" not in drawn
    assert axes(UVRB, []) == ["CMP", "VIS", "CG", "LC", "S", "T", "PR"]
    assert axes(MMEB_V2, [own, Series("part", "own1", {"I-CLS": 0.5})]) == ["I-CLS"]
    assert radar(["I-CLS"], [own]) == ""
    bars = dataset_bars(MMEB_V2, [Series("mine", "own0", {"GQA": 0.25}), Series("paper", "other0", full)])
    assert bars.count('class="dataset"') == 1
    assert 'width="25.00%"' in bars
    assert 'x1="50.00%"' in bars
    drawn = differences({"up": Figure(0.02, 0.01, 0.03), "down": Figure(-0.02, -0.03, -0.01), "none": Figure(0.0, -0.01, 0.01)})
    assert [look in drawn for look in ("difference better", "difference worse", "difference open")] == [True] * 3
    assert "+2.0 (+1.0 to +3.0)" in drawn
    assert "\u22122.0 (\u22123.0 to \u22121.0)" in drawn
    assert differences({}) == ""
