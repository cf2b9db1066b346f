"""Score tables: the benchmarks as data, golden means of published results, refused means, and files that are rejected."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedrl.errors import ConfigError, StoreError
from embedrl.evaluation.benchmarks.mmeb_v2 import MMEB_V2
from embedrl.evaluation.benchmarks.uvrb import ABILITIES, UVRB
from embedrl.evaluation.metrics import METRIC_NAMES
from embedrl.evaluation.tables import COUNTS, STATUSES, Benchmark, Dataset, Result, aggregate, published, read_result, write_leaderboard
from embedrl.reports.score_tables import console_rows, report_tables, tables_html, tables_json, write_tables

TABLE_1 = {
    "Embed-RL-2B": (
        [62.840, 67.910, 68.642, 90.400, 69.244, 57.044, 55.932, 45.063, 49.359, 52.126, 79.945, 51.955, 84.606, 65.657, 74.064, 66.777],
        [62.8, 67.9, 68.6, 90.4, 69.2, 57.0, 55.9, 45.1, 49.4, 52.1, 79.9, 52.0, 84.6, 65.7, 74.1, 66.8],
    ),
    "Embed-RL-4B": (
        [63.690, 70.520, 71.283, 91.350, 71.192, 57.585, 58.365, 45.107, 49.521, 52.992, 80.245, 53.365, 84.882, 67.134, 74.739, 68.083],
        [63.7, 70.5, 71.3, 91.4, 70.1, 57.6, 58.4, 45.1, 49.5, 53.0, 80.2, 53.4, 84.9, 67.1, 74.7, 68.1],
    ),
}
"""The means of the published scores to three decimals, and Table 1 of arXiv 2602.13823 as printed."""

UVRB_MEANS = {
    "Embed-RL-2B": [61.10, 20.15, 70.25, 59.10, 54.59, 86.90, 87.15, 42.95, 40.63, 58.68, 57.12],
    "Embed-RL-4B": [62.00, 18.40, 68.45, 60.73, 55.66, 86.10, 87.90, 46.00, 40.60, 58.56, 57.36],
}


def by_name(benchmark: Benchmark) -> dict[str, Result]:
    return {result.name: result for result in published(benchmark)}


def scores(value: float, num_queries: int) -> dict[str, float]:
    return {**dict.fromkeys(METRIC_NAMES, value), **dict.fromkeys(COUNTS, num_queries)}


def write_folder(folder: Path, benchmark: Benchmark = MMEB_V2, *, without: tuple[str, ...] = (), by_modality: bool = True) -> Path:
    """Write a score file for each dataset; the n-th has the score n / 100."""
    for number, row in enumerate(benchmark.datasets):
        if row.name not in without:
            place = folder / row.modality if by_modality else folder
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row.name}_score.json").write_text(json.dumps(scores(number / 100, row.num_queries)))
    return folder


def leaderboard(folder: Path, **metrics: Any) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps({"metadata": {"model_name": "mine"}, "metrics": metrics}))
    return path


def test_mmeb_v2_has_78_datasets():
    assert Counter(row.modality for row in MMEB_V2.datasets) == {"image": 36, "video": 18, "visdoc": 24}
    groups = Counter(group for row in MMEB_V2.datasets for group in row.groups)
    assert list(groups.values()) == [10, 10, 12, 4, 5, 5, 5, 3, 10, 4, 6, 4]
    assert {row.metric for row in MMEB_V2.datasets if row.modality != "visdoc"} == {"hit@1"}
    assert {row.metric for row in MMEB_V2.datasets if row.modality == "visdoc"} == {"ndcg_linear@5"}
    totals = {name: sum(row.num_queries for row in MMEB_V2.datasets if row.modality == name) for name in ("image", "video", "visdoc")}
    assert totals == {"image": 36_000, "video": 34_940, "visdoc": 12_590}
    assert [len(MMEB_V2.members(column)) for column in ("image", "video", "visdoc", "all")] == [36, 18, 24, 78]
    assert len(MMEB_V2.columns) == 16
    assert Counter(row.in_distribution for row in MMEB_V2.datasets) == {True: 20, False: 16, None: 42}


def test_uvrb_has_16_datasets():
    assert len(UVRB.datasets) == 16
    sizes = {column: len(UVRB.members(column)) for column in UVRB.columns}
    assert sizes == dict(zip(UVRB.columns, (12, 2, 2, 3, 7, 2, 2, 2, 3, 16, 16), strict=True))
    assert UVRB.columns["ability mean"] == ABILITIES
    assert UVRB.find("CRB-G") is not None
    assert UVRB.find("CRB_G") is UVRB.find("CRB-G")
    assert UVRB.find("MSRVTT_I2V") is not None
    assert UVRB.find("") is None


@pytest.mark.parametrize("name", TABLE_1)
def test_the_published_scores_give_table_1(name: str):
    result = by_name(MMEB_V2)[name]
    computed, printed = TABLE_1[name]
    found = aggregate(result)
    assert not found.missing
    assert list(found.values) == list(MMEB_V2.columns)
    assert [100 * value for value in found.values.values()] == pytest.approx(computed, abs=6e-4)
    assert [result.printed[column] for column in MMEB_V2.columns] == printed
    shown = [f"{100 * value + 1e-9:.1f}" for value in found.values.values()]
    differ = {column: text for column, text, cell in zip(MMEB_V2.columns, shown, printed, strict=True) if text != f"{cell:.1f}"}
    assert differ == ({"image": "71.2"} if name == "Embed-RL-4B" else {})


def test_a_misprint_is_reported_with_its_column():
    notes = aggregate(by_name(MMEB_V2)["Embed-RL-4B"]).notes
    assert "prints 70.1" in notes["image"]
    assert "mean of 71.2" in notes["image"]
    assert "misprint" in notes["image"]
    assert "wrong pages" in notes["VD-OOD"]
    assert set(notes) == {"image", "VD-OOD"}
    assert set(aggregate(by_name(MMEB_V2)["Embed-RL-2B"]).notes) == {"VD-OOD"}


def test_the_split_of_the_image_datasets_gives_table_9():
    images = [row for row in MMEB_V2.datasets if row.modality == "image"]
    columns = {str(is_in): tuple(row.name for row in images if row.in_distribution is is_in) for is_in in (True, False)}
    split = replace(MMEB_V2, columns=columns)
    found = {result.name: aggregate(replace(result, benchmark=split)).values for result in published(MMEB_V2)}
    percent = {name: [round(100 * value, 2) for value in values.values()] for name, values in found.items()}
    assert percent == {"Embed-RL-2B": [71.92, 65.90], "Embed-RL-4B": [74.34, 67.26]}


@pytest.mark.parametrize("name", UVRB_MEANS)
def test_the_published_scores_give_both_averages_of_uvrb(name: str):
    found = aggregate(by_name(UVRB)[name])
    assert [100 * value for value in found.values.values()] == pytest.approx(UVRB_MEANS[name], abs=6e-3)
    expected = {"Embed-RL-2B": ["dataset mean"], "Embed-RL-4B": ["VIS", "dataset mean"]}
    assert sorted(found.notes) == sorted(expected[name])


@pytest.mark.parametrize("name", ["GVE-7B", "GVE-3B", "VLM2Vec-V2"])
def test_a_source_without_scores_shows_what_it_prints(name: str):
    found = aggregate(by_name(UVRB)[name])
    mean = sum(found.values[column] for column in ABILITIES) / len(ABILITIES)
    assert mean == pytest.approx(found.values["ability mean"], abs=6e-4)
    assert {"S", "T", "PR"} <= set(found.missing)
    assert not found.notes


def test_a_mean_over_missing_datasets_is_refused(tmp_path: Path):
    found = aggregate(read_result(write_folder(tmp_path / "run", without=("VOC2007", "K700")), [MMEB_V2]))
    voc, k700 = ("VOC2007",), ("K700",)
    assert found.missing == {"I-CLS": voc, "image": voc, "V-CLS": k700, "video": k700, "all": voc + k700}
    assert set(found.values) == set(MMEB_V2.columns) - set(found.missing)
    assert found.values["I-QA"] == pytest.approx(sum(range(10, 20)) / 1000)


def test_a_score_over_some_of_the_queries_does_not_count(tmp_path: Path):
    folder = write_folder(tmp_path / "run", by_modality=False)
    (folder / "MomentSeeker_score.json").write_text(json.dumps(scores(0.5, 1800)))
    (folder / "GQA_score.json").write_text(json.dumps({**scores(0.5, 1000), "num_pred": 999}))
    result = read_result(folder, [MMEB_V2, UVRB])
    assert result.shortfalls() == {"GQA": "999 of 1,000 queries ranked", "MomentSeeker": "1,800 queries instead of 1,602"}
    assert aggregate(result).missing["all"] == ("GQA", "MomentSeeker")


def test_a_third_benchmark_is_another_table():
    rows = (Dataset("a", "image", ("G",), "hit@1", 2), Dataset("b", "video", ("G",), "hit@5", 4), Dataset("c", "video", (), "map@10", 4))
    third = Benchmark("third", rows, {"G": ("a", "b"), "over both": ("G", "c")})
    result = Result("x", third, {"a": scores(0.2, 2), "b": scores(0.4, 4), "c": scores(0.9, 4)})
    assert aggregate(result).values == pytest.approx({"G": 0.3, "over both": 0.6})
    assert aggregate(replace(result, scores={"a": scores(0.2, 2)})).missing == {"G": ("b",), "over both": ("b", "c")}
    assert published(third) == []


@pytest.mark.parametrize("benchmark", [MMEB_V2, UVRB], ids=lambda benchmark: benchmark.name)
def test_a_leaderboard_file_keeps_everything(tmp_path: Path, benchmark: Benchmark):
    first, second = benchmark.datasets[0].name, benchmark.datasets[1].name
    result = read_result(write_folder(tmp_path / "run", benchmark, without=(first, second)), [MMEB_V2, UVRB])
    result = replace(result, absent={second: "READ_ERROR"}, metadata={"model_name": "mine", "model_size": "2.13"}, name="mine")
    write_leaderboard(result, tmp_path / "mine.json")
    again = read_result(tmp_path / "mine.json", [MMEB_V2, UVRB])
    assert again == replace(result, absent={first: "FILE_N/A", second: "READ_ERROR"})
    assert aggregate(again) == aggregate(result)


def test_a_leaderboard_file_has_the_shape_of_the_benchmark(tmp_path: Path):
    folder = write_folder(tmp_path / "run")
    (folder / "visdoc" / "ViDoRe_esg_reports_v2_score.json").write_text(json.dumps(scores(0.5, 57)))
    write_leaderboard(read_result(folder, [MMEB_V2]), tmp_path / "run.json")
    table = json.loads((tmp_path / "run.json").read_text())
    assert table["metadata"] == {"model_name": "run"}
    assert list(table["metrics"]) == ["image", "video", "visdoc"]
    assert [len(rows) for rows in table["metrics"].values()] == [36, 18, 25]
    assert len(table["metrics"]["video"]["K700"]) == 26
    assert {"ViDoSeek-page-fixed", "MMLongBench-page-fixed"} < set(table["metrics"]["visdoc"])
    assert "ViDoSeek-page" not in table["metrics"]["visdoc"]


def test_an_old_name_of_a_corrected_dataset_is_remarked(tmp_path: Path):
    path = leaderboard(tmp_path, visdoc={"ViDoSeek-page": scores(0.2, 1142), "MMLongBench-page-fixed": scores(0.4, 838)})
    result = read_result(path, [MMEB_V2, UVRB])
    assert set(result.scores) == {"ViDoSeek-page", "MMLongBench-page"}
    assert set(result.remarks) == {"ViDoSeek-page"}
    both = {"ViDoSeek-page": STATUSES[0], "ViDoSeek-page-fixed": scores(0.8, 1142)}
    result = read_result(leaderboard(tmp_path, visdoc=both), [MMEB_V2, UVRB])
    assert result.scores["ViDoSeek-page"]["hit@1"] == 0.8
    assert not result.absent
    assert not result.remarks


BAD_SCORES = {
    "NaN": ({"hit@1": float("nan")}, r"hit@1 is nan.*evaluate it again"),
    "infinite": ({"map@5": float("inf")}, "map@5 is inf"),
    "percent": ({"hit@1": 66.8}, r"hit@1 is 66\.8"),
    "negative": ({"hit@1": -0.1}, "hit@1 is -0.1"),
    "text": ({"hit@1": "0.5"}, "hit@1 is '0.5'"),
    "boolean": ({"hit@1": True}, "hit@1 is True"),
    "none": ({"num_data": None}, "num_data is None, which is no count"),
    "zero": ({"num_pred": 0}, "num_pred is 0"),
}


@pytest.mark.parametrize("what", BAD_SCORES)
def test_bad_scores_are_rejected_with_file_dataset_and_fix(tmp_path: Path, what: str):
    change, message = BAD_SCORES[what]
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "GQA_score.json").write_text(json.dumps({**scores(0.5, 1000), **change}))
    with pytest.raises(StoreError, match=rf"GQA_score\.json', 'GQA': {message}"):
        read_result(tmp_path, [MMEB_V2])


def test_files_that_are_no_score_files_are_rejected(tmp_path: Path):
    def refuses(error: type[Exception], message: str, path: Path = tmp_path) -> None:
        with pytest.raises(error, match=message):
            read_result(path, [MMEB_V2, UVRB])

    refuses(ConfigError, "no such file or folder", tmp_path / "nothing")
    refuses(ConfigError, r"no \*_score\.json in it")
    (tmp_path / "GQA_score.json").write_text('{"hit@1": 0.5')
    refuses(StoreError, r"GQA_score\.json': it is not JSON")
    (tmp_path / "GQA_score.json").write_text('{"hit@1": 0.5, "hit@1": 0.6}')
    refuses(StoreError, "'hit@1' stands there twice")
    (tmp_path / "GQA_score.json").write_text('{"num_pred": 1000, "num_data": 1000}')
    refuses(StoreError, r"hit@1 is missing; evaluate it again")
    (tmp_path / "GQA_score.json").write_text("[" * 100_000)
    refuses(StoreError, "it is not JSON")
    (tmp_path / "report.json").write_text('{"systems": {}}')
    refuses(StoreError, r'it has no "metrics"', tmp_path / "report.json")
    refuses(StoreError, "modality 'audio' is none of", leaderboard(tmp_path, audio={}))
    refuses(StoreError, "scores, or one of", leaderboard(tmp_path, image={"GQA": "?"}))


def test_unknown_misplaced_and_repeated_datasets_are_rejected(tmp_path: Path):
    good = scores(0.5, 1000)

    def refuses(message: str, **metrics: Any) -> None:
        with pytest.raises(StoreError, match=message):
            read_result(leaderboard(tmp_path, **metrics), [MMEB_V2])

    refuses("'GQB': MMEB-V2 has no such dataset; correct the name", image={"GQA": good, "GQB": good})
    refuses("'GQA': it stands under 'video' and belongs under 'image'", video={"GQA": good})
    refuses("'ViDoSeek-page-fixed': a second score", visdoc={"ViDoSeek-page": scores(1, 1142), "ViDoSeek-page-fixed": scores(1, 1142)})
    (tmp_path / "mine.json").write_text('{"metrics": {"image": {"GQA": "FILE_N/A", "GQA": "DIR_N/A"}}}')
    with pytest.raises(StoreError, match="'GQA' stands there twice"):
        read_result(tmp_path / "mine.json", [MMEB_V2])
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "GQA_score.json").write_text(json.dumps(good))
    with pytest.raises(StoreError, match=r"a second score of it; the first is in .*new.* one folder for each system"):
        read_result(tmp_path, [MMEB_V2])


def test_the_datasets_say_which_benchmark_it_is(tmp_path: Path):
    assert read_result(write_folder(tmp_path / "a", UVRB, by_modality=False), [MMEB_V2, UVRB]).benchmark is UVRB
    didemo = leaderboard(tmp_path, video={"DiDeMo": scores(0.5, 1004)})
    with pytest.raises(ConfigError, match="are of several of these benchmarks: MMEB-V2, UVRB; name the one"):
        read_result(didemo, [MMEB_V2, UVRB])
    assert report_tables([didemo], "UVRB")[0].benchmark is UVRB
    with pytest.raises(ConfigError, match="are of none"):
        read_result(leaderboard(tmp_path, image={"cats": scores(0.5, 10)}), [MMEB_V2, UVRB])
    with pytest.raises(ConfigError, match="'MMEB': choose from MMEB-V2, UVRB"):
        report_tables([didemo], "MMEB")


def test_own_results_stand_beside_the_published_ones(tmp_path: Path):
    others = tuple(row.name for row in MMEB_V2.datasets if row.modality != "image")
    part = write_folder(tmp_path / "part", without=("GQA", *others))
    (table,) = report_tables([write_folder(tmp_path / "mine"), part])
    heads, rows, footnotes = console_rows(table)
    assert heads == ["column", "mine", "part", "Embed-RL-2B, published", "Embed-RL-4B, published"]
    cells = {row[0]: row[1:] for row in rows}
    assert list(cells) == list(MMEB_V2.columns)
    assert cells["all"][0] == "38.5"
    assert cells["I-CLS"] == ["4.5", "4.5", "62.8", "63.7"]
    assert cells["I-QA"][1] == "– [1]"
    assert footnotes[0] == "[1] no mean without GQA (1 of 10 datasets)"
    assert cells["image"][3].startswith("71.2 [")
    assert any("prints 70.1" in note for note in footnotes)
    assert cells["V-CLS"][1] == cells["VD-VR"][1]
    assert sum("no dataset of this column" in note for note in footnotes) == 1
    assert footnotes[-1].endswith("and 35 more (43 of 78 datasets)")


def test_results_of_one_name_and_of_two_benchmarks(tmp_path: Path):
    paths = [write_folder(tmp_path / "a" / "run"), write_folder(tmp_path / "b" / "run"), write_folder(tmp_path / "c" / "run", UVRB)]
    mmeb, uvrb = report_tables([*paths, paths[0]])
    assert mmeb.labels[:2] == (f"run ({paths[0]})", f"run ({paths[1]})")
    assert mmeb.num_own == 2
    assert uvrb.labels[:2] == ("run", "Embed-RL-2B, published")
    assert uvrb.num_own == 1
    assert any(note.endswith("its source does not print it") for note in console_rows(uvrb)[2])


def test_the_report_is_written_as_json_and_html(tmp_path: Path):
    folder = write_folder(tmp_path / "<b>mine", without=("GQA",))
    tables = report_tables([folder, write_folder(tmp_path / "whole", UVRB)])
    write_tables(tables, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert found == json.loads(json.dumps(tables_json(tables)))
    mine, _, large = found["MMEB-V2"]
    assert mine["own"]
    assert mine["missing"]["image"] == ["GQA"]
    assert mine["not_counted"] == {"GQA": "no score"}
    assert len(mine["datasets"]) == 77
    assert not large["own"]
    assert "arXiv 2602.13823" in large["source"]
    assert large["columns"]["all"] == pytest.approx(0.68083, abs=1e-5)
    page = (tmp_path / "out" / "tables.html").read_text()
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine was evaluated on 77 of the 78 datasets" in page
    assert "whole reaches <b>7.5 %</b> over the 16 datasets of UVRB" in page
    assert len(tables_html(tables)) == 2
    assert "no mean without GQA (1 of 10 datasets)" in page
    assert "aria-label=" in page
