"""Items (one side, with its instruction) and Pairs (a query, its target, hard negatives)."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from embedrl.errors import ConfigError
from embedrl.media.content import Content, Image, Page, Text, Video, content_key


class Role(StrEnum):
    """The seven Reasoner prompts (Embed-RL, appendix F). Pages count as images."""

    QUERY_TEXT_TO_IMAGE = "query_text_to_image"
    QUERY_TEXT_TO_VIDEO = "query_text_to_video"
    QUERY_IMAGE = "query_image"
    QUERY_VIDEO = "query_video"
    TARGET_TEXT = "target_text"
    TARGET_IMAGE = "target_image"
    TARGET_VIDEO = "target_video"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ignored_types=(cached_property,))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other fields, and with a key of its own: pydantic's would keep the one that is cached."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("key", None)
        return copied


class Item(_Row):
    """One side of retrieval: content with an instruction. The unit that is reasoned about and embedded."""

    content: Content
    instruction: str = ""
    role: Role

    @cached_property
    def key(self) -> str:
        """sha256 (hex) of instruction, role and content."""
        head = f"{self.role}\0{self.instruction}\0{content_key(self.content)}"
        return hashlib.sha256(head.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def text(self) -> str:
        """All text parts, joined by newlines."""
        return "\n".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def visual(self) -> Image | Video | Page | None:
        """The first visual part, which evidence refers to."""
        return next((part for part in self.content if not isinstance(part, Text)), None)

    def model_post_init(self, _: object) -> None:
        """Raise ConfigError for an empty item."""
        if all(isinstance(part, Text) and not part.text.strip() for part in self.content):
            raise ConfigError("an Item needs at least one visual part or some text")


class Pair(_Row):
    """A training pair: query, target (positive) and hard negatives."""

    task: str
    query: Item
    target: Item
    negatives: tuple[Item, ...] = ()
    """Hard negatives: targets that nearly match the query."""

    @cached_property
    def key(self) -> str:
        """sha256 (hex) of the task and both sides."""
        return hashlib.sha256(f"{self.task}\0{self.query.key}\0{self.target.key}".encode()).hexdigest()
