"""Names that the system takes, while those that are made from them are too long, and names that are too long at once.

`embedrl index` of a folder with a photo of 244 characters ended with a traceback: no sidecar of that name can exist
(`…supplemental-metadata.json`), and to ask for one is an error of the system (Linux: 255 bytes a name).
"""

from pathlib import Path

import PIL.Image
import pytest

from embedrl.cli.main import main
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.media.sidecars import is_sidecar, sidecars_of
from embedrl.testing import FakeEmbedder

LONGEST = 255


@pytest.mark.parametrize("suffix", [".png", ".mp4", ".json", ".srt"])
def test_no_sidecar_is_asked_for_by_a_name_that_is_too_long(tmp_path: Path, suffix: str):
    path = tmp_path / ("a" * (LONGEST - len(suffix)) + suffix)
    path.write_bytes(b"x")
    assert sidecars_of(path) == []
    assert not is_sidecar(path)


def test_a_file_with_the_longest_name_is_indexed(tmp_path: Path):
    name = "ö" * 124 + "a.png"
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    report = ingest(tmp_path, index, None, FakeEmbedder(), think=False)
    assert report.failures == ()
    assert [str(place.path) for place in index.places()] == [name]


@pytest.mark.parametrize(
    "command",
    [
        ("search", "--image", "NAME"),
        ("index", "NAME"),
        ("serve", "--index", "NAME"),
        ("index", ".", "--transcribe", "NAME"),
        ("world", "make", "NAME/x", "--pairs", "1"),
        ("train", "embedder", "NAME"),
    ],
)
def test_a_name_that_is_too_long_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([word.replace("NAME", "a" * 300) for word in command])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "File name too long" in said
    assert "a" * 300 in said
