"""Why a hit matches: names of boxes, phrases that query and hit share, what a check says, and crops against their names."""

from pathlib import Path

import PIL.Image
import pytest

from embedrl.cli.listing import evidence
from embedrl.data.box_names import box_names
from embedrl.data.crop_check import MIN_OTHERS, check_crops
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.tcot import Evidence, TCoT
from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.testing import COLOURS, FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder, picture
from tests.served import served

WHOLE = (0, 0, 1000, 1000)


def tcot(thinking: str, num_boxes: int) -> TCoT:
    return TCoT(thinking=thinking, evidence=Evidence(boxes=(WHOLE,) * num_boxes), rethink="r", answer="a")


@pytest.mark.parametrize(
    ("thinking", "num_boxes", "names"),
    [
        ("red star, blue ring.", 2, ("red star", "blue ring")),
        ("glass chart: perth, lima, accra.", 3, ("perth", "lima", "accra")),
        ("A red star. It is at the top left.", 1, ("A red star",)),
        ("a red star and a blue ring", 2, ("a red star", "a blue ring")),
        ("红色星形，蓝色圆环。", 2, ("红色星形", "蓝色圆环")),
        ("red star, blue ring, green heart.", 2, (None, None)),
        ("", 1, (None,)),
        ("red star.", 0, ()),
    ],
)
def test_boxes_have_the_names_that_the_thinking_gives_them(thinking: str, num_boxes: int, names: tuple[str | None, ...]):
    assert box_names(tcot(thinking, num_boxes)) == names


def test_a_check_says_what_was_checked_and_no_more():
    words = {kind.name: (kind.say(True), kind.say(False)) for kind in EVIDENCE_KINDS}
    assert words == {
        "boxes": ("inside the picture", "not inside the picture"),
        "key_frames": ("frame exists", "no such frame"),
        "keywords": ("quoted", "not quoted"),
    }


def test_search_says_what_query_and_hit_share_as_recommendation_does(tmp_path: Path):
    folder = make_folder(tmp_path / "media")
    index, reasoner, embedder = Index.open(folder, embedder=FakeEmbedder()), FakeReasoner(), FakeEmbedder()
    ingest(folder, index, reasoner, embedder)
    hits = search(index, Query(content="the elephant and a red picture"), embedder, reasoner).hits
    shared = {hit.path.name: hit.shared for hit in hits}
    assert shared["note.md"] == ("elephant",)
    assert shared["red again.png"] == ("red picture",)
    assert "not quoted" not in "".join(map(evidence, hits))


def test_a_name_that_fits_its_crop_beats_other_names_and_a_wrong_one_does_not():
    others = [f"a {colour} square" for colour in COLOURS if colour != "red"] + ["an elephant"] * 3
    checks = check_crops(FakeEmbedder(), picture("red"), [WHOLE, WHOLE, WHOLE], ["a red square", "a blue square", None], others)
    assert checks[2] is None
    right, wrong = checks[:2]
    assert right is not None
    assert wrong is not None
    assert right.fits
    assert wrong.score < right.score
    with pytest.raises(ConfigError, match=f"2 other names of boxes: at least {MIN_OTHERS}"):
        check_crops(FakeEmbedder(), PIL.Image.new("RGB", (9, 9)), [WHOLE], ["a"], ["b", "c", "b"])


def test_the_server_names_boxes_looks_for_items_by_key_and_refuses_a_check_without_other_names(tmp_path: Path):
    with served(make_folder(tmp_path / "media")) as server:
        key = server.key("red.png")
        first = server.search(key=key)["hits"][0]
        assert first["key"] == key
        [box] = first["evidence"]["boxes"]
        assert (box["name"], box["check"]) == ("There is a red picture", "inside the picture")
        assert key not in [hit["key"] for hit in server.search(key=key, text="make it blue")["hits"]]
        both = server.client.post("/api/search", data={"key": key}, files={"file": b"x"})
        assert both.json()["error"]["message"] == "file and key exclude each other: give one"
        assert server.client.post("/api/search", data={"key": "0" * 64}).status_code == 404
        refused = server.client.get(f"/api/items/{key}/crops")
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "too_few_names")
        found = server.search(file=("red.png", (server.folder / "red.png").read_bytes(), "image/png"))
        assert found["query"]["key"] == key
