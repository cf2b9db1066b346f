"""Perturbed media: every way changes pixels and nothing else, and the table has a row for each."""

import numpy as np
import pytest

from embedrl.errors import ConfigError
from embedrl.evaluation.report import figure_fields
from embedrl.evaluation.world import world_tasks
from embedrl.media.content import Image, Video
from embedrl.pipelines.perturbed import CLEAN, COLUMNS, PERTURBATIONS, RE_ENCODED, measure_robustness, perturbed, table_rows


@pytest.mark.parametrize("media", PERTURBATIONS)
def test_a_perturbation_changes_pixels_and_keeps_what_is_relevant(media: str):
    """Issue 27: a border of 10 % cost .478, and no command could show it."""
    (task,) = world_tasks(tasks=["image_t2i"], num_queries=2, pool_size=6)
    (moved,) = perturbed([task], media)
    assert [query.key for query in moved.queries] == [query.key for query in task.queries], "texts stay"
    assert not {item.key for item in moved.candidates} & {item.key for item in task.candidates}
    for before, after, row in zip(task.relevant, moved.relevant, range(2), strict=True):
        places = [[item.key for item in found.candidates].index(next(iter(each))) for found, each in ((task, before), (moved, after))]
        assert places[0] == places[1], row
    (before,), (after,) = task.candidates[0].content, moved.candidates[0].content
    assert isinstance(before, Image)
    assert isinstance(after, Image)
    assert before.pixels is not None
    assert after.pixels is not None
    assert before.pixels.size == after.pixels.size
    difference = np.abs(np.asarray(before.pixels.convert("RGB"), int) - np.asarray(after.pixels.convert("RGB"), int)).mean()
    assert 0 < difference < 60


def test_a_video_is_encoded_again_and_stills_are_not():
    clips, pictures = (world_tasks(tasks=[name], num_queries=1, pool_size=3)[0] for name in ("video_t2v", "image_t2i"))
    moved, same = perturbed([clips, pictures], RE_ENCODED)
    part, again = clips.candidates[0].visual, moved.candidates[0].visual
    assert isinstance(part, Video)
    assert isinstance(again, Video)
    assert part.frames is not None
    assert again.frames is not None
    assert len(again.frames.images) == len(part.frames.images)
    assert again.frames.times_s == pytest.approx(part.frames.times_s)
    assert moved.candidates[0].key != clips.candidates[0].key
    assert same.items.keys() == pictures.items.keys()


def test_a_table_of_robustness():
    rows = measure_robustness(["fake"], "fake", tasks=["image_t2i"], num_queries=3, pool_size=6, media=["shifted by 4 pixels"])
    assert [row.media for row in rows] == [CLEAN, "shifted by 4 pixels"]
    assert rows[0].change.value == 0
    assert all(len(row) == len(COLUMNS) for row in table_rows(rows))
    assert figure_fields(rows[1])["num_queries"] == 3
    with pytest.raises(ConfigError, match="media='fog'"):
        measure_robustness(["fake"], "fake", media=["fog"])
