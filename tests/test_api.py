"""The public API: what `import embedrl` offers, without importing anything heavy before it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

import embedrl
from embedrl.errors import ConfigError, MediaError
from embedrl.media.image import save_image
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_nothing_else():
    for name in set(embedrl.__all__) - {"__version__"}:
        assert getattr(embedrl, name).__name__ == name
    assert set(embedrl.__all__) <= set(dir(embedrl))
    with pytest.raises(AttributeError, match=r"no attribute 'serch'; public are: .*search"):
        _ = embedrl.serch


def test_type_checkers_see_the_same_names():
    stub = ast.parse((ROOT / "src" / "embedrl" / "__init__.pyi").read_text("utf-8"))
    named = {node.names[0].name: node.module for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert named == {name: embedrl.home_of(name) for name in set(embedrl.__all__) - {"__version__"}}


@pytest.mark.parametrize("names", ["Item, Query, Text, TCoT, query", "load_reasoner, load_embedder"])
def test_public_names_import_no_torch(names: str):
    code = f"import sys; from embedrl import {names}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_from_a_folder_to_hits_with_evidence(tmp_path: Path):
    reasoner, embedder = FakeReasoner(), FakeEmbedder()
    make_folder(tmp_path)
    index = embedrl.Index.open(tmp_path, embedder=embedder)
    embedrl.ingest(tmp_path, index, reasoner, embedder)
    by_text = embedrl.search(index, embedrl.Query("red", limit=3), embedder, reasoner)
    assert by_text.used_tcot
    assert len(by_text.hits) == 3
    picture = next(hit for hit in embedrl.search(index, embedrl.Query("red"), embedder, reasoner).hits if hit.modality == "image")
    by_path = embedrl.search(index, embedrl.Query(index.locate(picture.path)), embedder, reasoner)
    assert by_path.hits[0].key == picture.key
    assert by_path.hits[0].verification is not None


def test_content_of_strings_paths_and_pixels(tmp_path: Path):
    pixels = PIL.Image.new("RGBA", (8, 8), "red")
    save_image(PIL.Image.new("RGB", (8, 8), "red"), tmp_path / "a.png")
    (tmp_path / "note.md").write_text("a letter")
    (tmp_path / "sound.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    assert embedrl.candidate("a red star").text == "a red star"
    assert embedrl.candidate(tmp_path / "note.md").text == "a letter"
    assert embedrl.candidate(tmp_path / "a.png").visual == embedrl.Image(path=tmp_path / "a.png")
    assert embedrl.candidate(pixels).visual is not None
    composed = embedrl.query((tmp_path / "a.png", "make it blue"))
    assert [part.kind for part in composed.content] == ["image", "text"]
    with pytest.raises(MediaError, match="is no image, video, PDF or text file"):
        embedrl.candidate(tmp_path / "sound.wav")


def test_the_page_of_the_api_is_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "api.py"], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "docs" / "api.md").read_text("utf-8"), "run `make api`"


def test_arguments_that_are_mixed_up_are_named(tmp_path: Path):
    make_folder(tmp_path)
    embedder, reasoner = FakeEmbedder(), FakeReasoner()
    index = embedrl.Index.open(tmp_path, embedder=embedder)
    embedrl.ingest(tmp_path, index, reasoner, embedder)
    asked = embedrl.Query("red", use_tcot=False)
    mixed_up = {
        "an index of type str: give embedrl.Index.open": lambda: embedrl.search("folder", asked, embedder),
        "a query of type Item: give embedrl.Query": lambda: embedrl.search(index, embedrl.query("red"), embedder),
        "embedder='nano' is a name: give the model, embedrl.load_embedder\\('nano'\\)": lambda: embedrl.search(index, asked, "nano"),
        "reasoner='nano' is a name: give the model, embedrl.load_reasoner": lambda: embedrl.search(index, asked, embedder, "nano"),
        "a question of type Query: give its words": lambda: embedrl.ask(index, asked, embedder),
        "embedder='fake' is a name": lambda: embedrl.ask(index, "what is red?", "fake"),
        "an index of type PosixPath": lambda: embedrl.ingest(tmp_path, tmp_path, reasoner, embedder),
        "reasoner='fake' is a name": lambda: embedrl.ingest(tmp_path, index, "fake", embedder),
        "examples of type list: give embedrl.Examples": lambda: embedrl.recommend(index, ["abcdef"]),
        "liked of type tuple: give the weight of each item by its key": lambda: embedrl.Examples(liked=("abcdef",)),
        "disliked of type str": lambda: embedrl.Examples(liked={"abcdef": 1.0}, disliked="abcdef"),
        "a key in liked of type int": lambda: embedrl.Examples(liked={3: 1.0}),
        "the weight of item 'abcdef' of type str": lambda: embedrl.Examples(liked={"abcdef": "much"}),
        "tasks of type RetrievalTask: give a list": lambda: embedrl.evaluate(embedrl.RetrievalTask("one", "image", (), (), ()), embedder),
        "a task of type str": lambda: embedrl.evaluate("nano", embedder),
        "tasks: none is given": lambda: embedrl.evaluate([], embedder),
    }
    for message, call in mixed_up.items():
        with pytest.raises(ConfigError, match=message):
            call()
