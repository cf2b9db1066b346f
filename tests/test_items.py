"""The one way to an Item: roles and standard instructions follow from the content and what is looked for."""

from pathlib import Path

import pytest

from embedrl.data import items
from embedrl.data.sample import Role
from embedrl.errors import ConfigError
from embedrl.media.content import Image, Page, Text, Video

TEXT, IMAGE, VIDEO, PAGE = Text(text="a"), Image(path=Path("a.png")), Video(path=Path("a.mp4")), Page(path=Path("a.pdf"))


@pytest.mark.parametrize(
    ("content", "looking_for", "role", "instruction"),
    [
        ((TEXT,), "image", Role.QUERY_TEXT_TO_IMAGE, items.FIND["image"]),
        ((TEXT,), "video", Role.QUERY_TEXT_TO_VIDEO, items.FIND["video"]),
        ((TEXT,), "text", Role.QUERY_TEXT_TO_IMAGE, items.FIND["text"]),
        ((IMAGE,), "image", Role.QUERY_IMAGE, items.CAPTION["image"]),
        ((PAGE,), "text", Role.QUERY_IMAGE, items.CAPTION["page"]),
        ((TEXT, IMAGE), "video", Role.QUERY_IMAGE, items.CHANGE),
        ((VIDEO, TEXT), "image", Role.QUERY_VIDEO, items.MOMENT),
    ],
)
def test_queries(content, looking_for: str, role: Role, instruction: str):
    item = items.query(content, looking_for=looking_for)
    assert item.role is role
    assert item.instruction == instruction
    assert items.query(content, "Find it.", looking_for=looking_for).instruction == "Find it."
    assert items.query(content, "", looking_for=looking_for).instruction == "", "none at all is an answer too"


@pytest.mark.parametrize(
    ("content", "role", "kind"),
    [
        ((TEXT,), Role.TARGET_TEXT, "text"),
        ((TEXT, IMAGE), Role.TARGET_IMAGE, "image"),
        ((PAGE,), Role.TARGET_IMAGE, "page"),
        ((VIDEO,), Role.TARGET_VIDEO, "video"),
    ],
)
def test_candidates(content, role: Role, kind: str):
    item = items.candidate(content)
    assert item.role is role
    assert item.instruction == items.DESCRIBE[kind]


def test_an_empty_query_is_named():
    with pytest.raises(ConfigError, match="the query is empty: give some text"):
        items.query((Text(text=" "),))


def test_a_changed_copy_has_a_key_of_its_own():
    item = items.query(TEXT)
    key = item.key
    changed = item.model_copy(update={"instruction": "Find a poem."})
    assert changed.key != key
    assert changed.key == type(item).model_validate(changed.model_dump()).key
    assert item.key == key
    assert item.model_copy().key == key
