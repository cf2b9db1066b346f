"""Search queries: content, filter, order and page."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, SupportsFloat, SupportsIndex, get_args

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.errors import ConfigError
from embedrl.index.filter import Filter
from embedrl.media.content import Content, Text

Sort = Literal["score", "newest", "oldest", "name"]
ResultUnit = Literal["file", "unit"]
"""What a result is: a file, for which its best page, scene or passage stands; or each of these."""
Match = Literal["filter", "fuse"]

MAX_RERANK = 100


def _choose(name: str, value: object, choices: Any) -> None:
    """Raise ConfigError for a value that is none of a Literal's."""
    allowed = [choice for part in get_args(choices) for choice in get_args(part) or [None if part is type(None) else part]]
    if value not in allowed:
        raise ConfigError(f"{name}={value!r}: choose from {', '.join(map(str, allowed))}")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Filter, score threshold and page of the hits. Raises ConfigError for values out of range."""

    filter: Filter = field(default_factory=Filter)
    min_score: float | None = None
    """Lowest cosine, -1..1."""
    exclude_keys: Collection[str] = ()
    """Keys of items that are never returned."""
    use_tcot: bool = True
    """Compare by the vectors that include T-CoTs; otherwise by plain vectors."""
    unit: ResultUnit = "file"
    """Whether a file is one result, or each of its pages, scenes and passages."""
    offset: int = 0
    """Rank of the first hit, from 0."""
    limit: int = 10
    """Maximum number of hits (page size)."""

    def __post_init__(self) -> None:
        for name in ("offset", "limit"):
            if not isinstance(getattr(self, name), SupportsIndex):
                raise ConfigError(f"{name}={getattr(self, name)!r}: give a whole number")
        if self.offset < 0:
            raise ConfigError(f"offset={self.offset}: give 0 (the first page) or more")
        if self.limit < 1:
            raise ConfigError(f"limit={self.limit}: give at least 1")
        _choose("unit", self.unit, ResultUnit)
        if not isinstance(self.filter, Filter):
            raise ConfigError(f"filter={self.filter!r}: give a Filter, as in Filter(modality=('image',))")
        if isinstance(self.exclude_keys, str) or not isinstance(self.exclude_keys, Collection):
            raise ConfigError(f"exclude_keys={self.exclude_keys!r}: give a list of keys")
        if self.min_score is not None and not isinstance(self.min_score, SupportsFloat):
            raise ConfigError(f"min_score={self.min_score!r}: give a number")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise ConfigError(f"min_score={self.min_score}: a cosine lies in -1..1")

    @property
    def end(self) -> int:
        """Rank after the last hit of the page (exclusive)."""
        return self.offset + self.limit


@dataclass(frozen=True)
class Query(Selection):
    """A search query. Without content nothing is compared: all items that pass the filter are listed, with score 0.

    Raises ConfigError for values out of range, MediaError for a file that cannot be used as content.
    """

    content: Content = ()
    """Text, an image, a video or a page, or text about one of these. Strings, paths and Pillow images are converted (`items.Input`)."""
    instruction: str | None = None
    """None: the standard instruction for such a query (`embedrl.data.items`)."""
    sort: Sort | None = None
    """None: by score; without content, newest first."""
    match: Match = "filter"
    """`filter`: an item must hold all of the filter's words. `fuse`: these words, or without any the rare ones of the query's text, rank
    items, and that ranking is fused with that of the vectors by reciprocal ranks."""
    rerank: int = 0
    """Number of top hits to rerank; 0: none."""
    medium_key: str | None = None
    """Key of the item whose file the content was decoded from, where the content holds only pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _choose("sort", self.sort, Sort | None)
        _choose("match", self.match, Match)
        if not isinstance(self.rerank, SupportsIndex):
            raise ConfigError(f"rerank={self.rerank!r}: give a whole number")
        if not 0 <= self.rerank <= MAX_RERANK:
            raise ConfigError(f"rerank={self.rerank}: give 0 (none) to {MAX_RERANK}")
        if self.rerank and (self.sort or "score") != "score":
            raise ConfigError(
                f"rerank={self.rerank}, sort={self.sort!r}: what is sorted otherwise than by score is not reranked; leave out one"
            )
        object.__setattr__(self, "content", items.as_content(self.content))
        if self.match == "fuse" and not self.content:
            raise ConfigError("match='fuse': there is nothing to compare; give content, or match='filter' to list what holds the words")

    @property
    def order(self) -> Sort:
        """The sort order that applies."""
        return self.sort or ("score" if self.content else "newest")

    @cached_property
    def item(self) -> Item:
        """The query as an Item. Raises ConfigError for empty content."""
        kinds = self.filter.modality or ()
        return items.query(self.content, self.instruction, looking_for=kinds[0] if len(kinds) == 1 else "image")

    @property
    def same_key(self) -> str | None:
        """Key of the item with the same content as a one-part query, which is the first hit; else None. Raises MediaError."""
        if len(self.content) != 1:
            return None
        return self.medium_key or items.candidate(self.content).key

    @property
    def reference_keys(self) -> set[str]:
        """Keys of the media in a query that also has text (composed retrieval): they are not returned. Raises MediaError."""
        media = [part for part in self.content if not isinstance(part, Text)]
        if len(self.content) == 1 or not media:
            return set()
        return {items.candidate((part,)).key for part in media} | ({self.medium_key} if self.medium_key else set())
