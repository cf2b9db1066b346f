"""Values of other types at the doors of the Python interface: refused by name, never an AttributeError and never read as something else.

`Query(sort="best")` sorted by score, `Filter(words="red")` asked for three letters, a transparent Pillow image showed its hidden colours
while its file was laid on white, and `load_embedder(Path(...))` ended in an AttributeError.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import embedrl
from embedrl.embedder.inputs import check_inputs
from embedrl.errors import ConfigError, EmbedRLError, MediaError
from embedrl.index.filter import ConditionError
from embedrl.media.content import Image
from embedrl.media.decode import load_visual
from embedrl.media.image import load_image
from embedrl.reasoner.prompts import tcot_prompt
from embedrl.testing import FakeEmbedder, FakeReasoner

RED = PIL.Image.new("RGB", (8, 8), (220, 30, 30))


@pytest.mark.parametrize(
    "content",
    [None, b"png", io.BytesIO(b"png"), np.zeros((8, 8, 3), np.uint8), 5, {"text": "x"}, {"a"}, iter(["a"]), [None], [["a"]], str],
    ids=lambda content: type(content).__name__,
)
@pytest.mark.parametrize("make", [embedrl.query, embedrl.candidate, embedrl.Query])
def test_content_of_another_type_is_refused_by_its_type(make: Callable[[Any], Any], content: Any):
    with pytest.raises(ConfigError, match=r"^content of type \w+: give a str, a Path, a Pillow image"):
        make(content)


@pytest.mark.parametrize("content", ["", "  ", [], ["", " "]])
def test_an_empty_candidate_is_refused_as_an_empty_query_is(content: Any):
    with pytest.raises(ConfigError, match="the candidate is empty"):
        embedrl.candidate(content)


@pytest.mark.parametrize("kind", ["audio", None, ["image"]])
def test_a_kind_that_is_none_is_refused(kind: Any):
    with pytest.raises(ConfigError, match=r"looking_for=.*: choose from"):
        embedrl.query("a", looking_for=kind)


def _exif(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("name", ["transparent.png", "palette.png", "deep.png", "turned.png"])
def test_a_pillow_image_is_what_its_file_is(name: str, tmp_path: Path):
    path = tmp_path / name
    match name:
        case "transparent.png":
            PIL.Image.new("RGBA", (8, 8), (220, 30, 30, 0)).save(path)
        case "palette.png":
            PIL.Image.new("P", (8, 8), 3).save(path, transparency=3)
        case "deep.png":
            PIL.Image.fromarray(np.full((8, 8), 20_000, np.uint16)).save(path)
        case "turned.png":
            PIL.Image.new("RGB", (8, 4)).save(path, exif=_exif(6))
    with PIL.Image.open(path) as opened:
        (part,) = embedrl.candidate(opened).content
    assert isinstance(part, Image)
    pixels, decoded = load_image(part), load_visual(Image(path=path))
    assert isinstance(decoded, PIL.Image.Image)
    assert np.array_equal(np.asarray(pixels), np.asarray(decoded))


def _closed() -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(_png()))
    image.close()
    return image


def _png() -> bytes:
    buffer = io.BytesIO()
    RED.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        _closed,
        lambda: PIL.Image.open(io.BytesIO(_png()[:50])),
        lambda: PIL.Image.new("RGB", (0, 4)),
        lambda: PIL.Image.new("F", (8, 8)),
    ],
    ids=["closed", "cut", "empty", "float"],
)
def test_a_pillow_image_that_shows_nothing_is_a_media_error(make: Callable[[], PIL.Image.Image]):
    with pytest.raises(MediaError, match=r"^a Pillow image "):
        embedrl.candidate(make())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sort", "best"),
        ("match", "or"),
        ("unit", "page"),
        ("min_score", "0.5"),
        ("rerank", None),
        ("filter", {"modality": ["image"]}),
        ("exclude_keys", "abc"),
        ("exclude_keys", None),
    ],
)
def test_a_setting_of_a_query_is_never_left_unread(setting: str, value: Any):
    with pytest.raises(ConfigError, match=f"^{setting}="):
        embedrl.Query("red", **{setting: value})


@pytest.mark.parametrize("setting", ["modality", "words"])
def test_a_text_is_no_list_of_letters(setting: str):
    with pytest.raises(ConditionError, match=f"^{setting}='image': give a tuple"):
        embedrl.Filter(**{setting: "image"})


def test_models_are_named_by_paths_too(tmp_path: Path):
    for load in (embedrl.load_embedder, embedrl.load_reasoner):
        with pytest.raises(EmbedRLError, match=str(tmp_path)):
            load(tmp_path)
        with pytest.raises(ConfigError, match="a model's name of type NoneType"):
            load(None)  # type: ignore[arg-type]


def test_what_is_no_item_or_no_tcot_is_named(tmp_path: Path):
    item = embedrl.candidate("a red star")
    failure = FakeReasoner(fail_keys=[item.key]).reason([item])[0]
    wrong: Any
    for wrong, match in (
        (("a red star", None), "an item of type str: make Items"),
        ((item, failure), "a T-CoT of type ParseFailure: give a TCoT or None"),
        ((item, "<answer> a </answer>"), "a T-CoT of type str"),
    ):
        with pytest.raises(ConfigError, match=match):
            check_inputs([wrong[0]], [wrong[1]])
    for wrong in (item, "a red star"):
        with pytest.raises(ConfigError, match=r"one item of type (Item|str): give a list of Items, as in \[embedrl.query"):
            check_inputs(wrong, [None])
    with pytest.raises(ConfigError, match="an item of type str"):
        tcot_prompt("a red star", "nano", None, 32)  # type: ignore[arg-type]
    index = embedrl.Index.open(tmp_path, embedder=FakeEmbedder())
    with pytest.raises(ConfigError, match=r"a query of type str: give embedrl.Query"):
        embedrl.search(index, "red", FakeEmbedder(), FakeReasoner())  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -1.0])
def test_a_temperature_is_a_finite_number(temperature: float):
    with pytest.raises(ConfigError, match="temperature="):
        embedrl.load_reasoner("nano", temperature=temperature)


@pytest.mark.parametrize("span", [(5.0, 1.0), (float("nan"), None), (0.0, float("nan")), (float("inf"), None)])
def test_a_span_of_a_video_ends_behind_its_start(span: tuple[float, float | None]):
    with pytest.raises(ValueError, match="a span ends behind its start"):
        embedrl.Video(path=Path("x.mp4"), start_s=span[0], end_s=span[1])
