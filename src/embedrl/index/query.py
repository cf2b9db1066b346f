"""The search query: what is looked for, which items may be returned, in which order, and which page of them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.errors import ConfigError
from embedrl.index.filter import Filter
from embedrl.media.content import Content, Text

Sort = Literal["score", "newest", "oldest", "name"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which hits are returned, and which page of them. Raises ConfigError for what no search can have."""

    filter: Filter = field(default_factory=Filter)
    min_score: float | None = None
    """Lowest cosine, -1..1."""
    exclude_keys: Collection[str] = ()
    """Items that are left out."""
    use_tcot: bool = True
    """Compare items by the vectors that know their T-CoTs; else by plain vectors."""
    offset: int = 0
    """Rank of the first hit, from 0."""
    limit: int = 10
    """Hits of a page."""

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise ConfigError(f"offset={self.offset}: give 0 (the first page) or more")
        if self.limit < 1:
            raise ConfigError(f"limit={self.limit}: give at least 1")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise ConfigError(f"min_score={self.min_score}: a cosine lies in -1..1")

    @property
    def end(self) -> int:
        """Rank behind the last hit."""
        return self.offset + self.limit


@dataclass(frozen=True)
class Query(Selection):
    """A search. Without content nothing is compared, and what passes the filter is listed."""

    content: Content = ()
    """Text, an image, a video or a page; or text about one of these. Strings, paths and Pillow images are taken too (`items.Input`)."""
    instruction: str | None = None
    """Without one, the standard instruction for such a query is used (`embedrl.data.items`)."""
    sort: Sort | None = None
    """By score unless it says otherwise; without content, the newest first."""
    medium_key: str | None = None
    """Key of the item that holds the query's own medium, where the content has only its decoded pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "content", items.as_content(self.content))

    @property
    def order(self) -> Sort:
        """How the hits are sorted."""
        return self.sort or ("score" if self.content else "newest")

    @cached_property
    def item(self) -> Item:
        """The query as an Item. Raises ConfigError for content that is empty."""
        kinds = self.filter.modality or ()
        return items.query(self.content, self.instruction, looking_for=kinds[0] if len(kinds) == 1 else "image")

    @property
    def same_key(self) -> str | None:
        """Key of the item with the query's own content, if that is one part: the first hit. Raises MediaError for an unreadable file."""
        if len(self.content) != 1:
            return None
        return self.medium_key or items.candidate(self.content).key

    @property
    def reference_keys(self) -> set[str]:
        """Keys of the media that the query says something about: they are not returned. Raises MediaError for an unreadable file."""
        media = [part for part in self.content if not isinstance(part, Text)]
        if len(self.content) == 1 or not media:
            return set()
        return {items.candidate((part,)).key for part in media} | ({self.medium_key} if self.medium_key else set())
