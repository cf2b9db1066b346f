"""The quickstart from end to end: real files, the fakes instead of the nano models."""

import json
from pathlib import Path

import pytest

from embedrl.pipelines.quickstart import DIRECTIONS, quickstart

OPTIONS = {
    "reasoners": {"before_rl": "fake"},
    "embedder": "fake",
    "num_queries": 2,
    "pool_size": 8,
    "num_library_pairs": 15,
    "live_steps": 0,
}


@pytest.mark.slow
def test_the_quickstart_writes_a_library_a_report_and_a_page_and_can_be_run_again(tmp_path: Path):
    report = quickstart(tmp_path, tasks=["image_cls", "video_cls", "visdoc_table"], **OPTIONS)
    assert list(report["systems"]) == ["plain", "before_rl", "ceiling"]
    assert list(report["systems"]["plain"]) == ["overall", "image", "video", "visdoc", "tasks"]
    assert {"before_rl-plain", "ceiling-before_rl"} <= set(report["differences"])
    assert report["num_queries"] == 6
    assert report["systems"]["ceiling"]["overall"]["tcot_valid"]["value"] == 1
    assert json.loads((tmp_path / "report.json").read_text()) == report

    library = tmp_path / "library"
    kinds = {path.suffix for path in library.rglob("*") if path.is_file() and ".embedrl-index" not in path.parts}
    assert {".png", ".jpg", ".mp4", ".pdf", ".txt"} <= kinds
    page = (tmp_path / "report.html").read_text()
    for title in (*(direction.title for direction in DIRECTIONS), "Image → image"):
        assert f"<h3>{title}</h3>" in page
    assert page.count('class="hit') >= 4 * len(DIRECTIONS)
    assert "✓ right" in page
    assert str(tmp_path) not in page

    again = quickstart(tmp_path, tasks=["image_cls"], **OPTIONS)
    assert again["systems"]["plain"]["tasks"]["image_cls"] == report["systems"]["plain"]["tasks"]["image_cls"]
