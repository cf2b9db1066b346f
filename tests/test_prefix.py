"""Prefix-shared encoding gives the vectors of the plain path."""

import random

import numpy as np
import PIL.Image
import pytest

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.prefix import embed_groups
from embedrl.media.content import Frames, Image, Text, Video


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


PICTURE = Image(pixels=noise(0))
CLIP = Video(frames=Frames(tuple(noise(seed, (32, 32)) for seed in range(4)), (0.0, 0.5, 1.0, 1.5)))
ITEMS = {
    "text": Item(content=(Text(text="a small red star"),), role=Role.TARGET_TEXT, instruction="Describe the text."),
    "image": Item(content=(PICTURE,), role=Role.TARGET_IMAGE),
    "two images": Item(content=(PICTURE, Image(pixels=noise(5, (48, 48))), Text(text="what changed")), role=Role.QUERY_IMAGE),
    "video": Item(content=(CLIP, Text(text="what happens")), role=Role.QUERY_VIDEO),
}


def tcots(*, evidence: bool, count: int = 5) -> list[TCoT | None]:
    rng = random.Random(3)
    made = []
    for number in range(count):
        boxes = tuple((50 * rng.randint(0, 9), 50 * rng.randint(0, 9), 50 * rng.randint(11, 20), 1000) for _ in range(number % 3 + 1))
        points = Evidence(boxes=boxes, key_frames=(number % 4 + 1, 2)) if evidence else Evidence()
        words = " ".join(rng.choice(["red", "star", "blue", "moves", "left"]) for _ in range(rng.randint(2, 12)))
        made.append(TCoT(thinking=words, evidence=points, rethink="fine.", answer=words))
    return made


@pytest.mark.parametrize("evidence", [False, True], ids=["text only", "with evidence"])
@pytest.mark.parametrize("kind", ITEMS)
def test_one_group_is_exact(random_embedder: Embedder, kind: str, evidence: bool) -> None:
    item, group = ITEMS[kind], tcots(evidence=evidence)
    plain = random_embedder.embed([item] * len(group), group)
    shared = embed_groups(random_embedder, [item], [group])[0]
    assert (plain * shared).sum(1).min() >= 0.99999
    assert not np.allclose(shared[0], shared[1], atol=1e-3), "members differ"


def test_groups_of_all_kinds_in_one_batch_are_exact(random_embedder: Embedder) -> None:
    items = list(ITEMS.values())
    groups = [tcots(evidence=True, count=3), [None, *tcots(evidence=True)], tcots(evidence=False, count=1), [*tcots(evidence=True), None]]
    shared = embed_groups(random_embedder, items, groups)
    for item, group, vectors in zip(items, groups, shared, strict=True):
        assert (random_embedder.embed([item] * len(group), group) * vectors).sum(1).min() >= 0.99999
    random_embedder.batch_tokens = 1
    alone = embed_groups(random_embedder, items, groups)
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(shared, alone, strict=True))


def test_crops_that_all_members_share_stay_out_of_the_prefix(random_embedder: Embedder) -> None:
    """Equal text up to the crop and a crop of equal size, but other pixels: only the tokens agree."""
    same = {"thinking": "a star", "rethink": "fine.", "answer": "a star"}
    group = [TCoT(**same, evidence=Evidence(boxes=((x, 0, x + 500, 500),))) for x in (0, 500)]
    plain = random_embedder.embed([ITEMS["image"]] * 2, group)
    shared = embed_groups(random_embedder, [ITEMS["image"]], [group])[0]
    assert (plain * shared).sum(1).min() >= 0.99999
    assert plain[0] @ plain[1] < 0.99999


def test_equal_tcots_are_encoded_once_and_no_tcots_give_no_vectors(random_embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tcots(evidence=True, count=2)
    built = []
    build = random_embedder.build
    monkeypatch.setattr(random_embedder, "build", lambda *args, **kwargs: built.append(args) or build(*args, **kwargs))
    vectors = embed_groups(random_embedder, [ITEMS["image"], ITEMS["text"]], [[first, second, first], []])
    assert len(built) == 2
    assert (vectors[0][0] == vectors[0][2]).all()
    assert vectors[1].shape == (0, random_embedder.dim)
