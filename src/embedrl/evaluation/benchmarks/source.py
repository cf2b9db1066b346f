"""Table row of a benchmark dataset: where its files are and how its rows are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embedrl.evaluation.tables import Benchmark
from embedrl.evaluation.task import Modality

if TYPE_CHECKING:
    from embedrl.evaluation.benchmarks.inspection import Inspection
    from embedrl.evaluation.benchmarks.pool import Pool


@dataclass(frozen=True)
class Layout:
    """How the rows of a dataset are read. It stands beside its reader; a row of a benchmark's table names it."""

    name: str
    read: Callable[["Source", Path, "Inspection", int], "Pool"]
    """Reader: source, folder of the benchmark's files, inspection for problems, frames per video at most."""
    wanted: Literal["text", "image", "video"] = "text"
    """Kind of part that a query looks for."""
    has_media: bool = True
    """Whether images or frames lie in the `media` folder of the source."""


@dataclass(frozen=True)
class Source:
    """The files of one dataset."""

    name: str
    modality: Modality
    layout: Layout
    rows: str
    """Its dataset repository, downloaded under its name."""
    config: str = ""
    """Part of that repository; several, separated by spaces, are read one after the other."""
    split: str = "test"
    published: str = ""
    """Names of its files, as a pattern with `{config}`, where the repository's card is missing."""
    also: tuple[str, ...] = ()
    """Other repositories that hold the same rows."""
    media: str = ""
    """Folder of its images, or of its folders of frames."""
    instructions: tuple[str, str] = ("", "")
    """Of queries and of candidates, where the rows bring none."""
    replaced: tuple[str | None, str | None] = (None, None)
    """Instructions that a user gives for queries and for candidates, in the place of all others ("" is none at all)."""
    columns: tuple[str, str] = ("video_id", "pos_text")
    """Of "video_label", "video_texts" and "text_video": which name the video, and the text."""
    num_labels: int = 0
    """Classes of "video_label"."""
    num_candidates: int = 0
    """Of "uvrb"; 0 if that is not known."""
    max_rows: int | None = None
    """Rows behind these are left."""
    language: str = ""
    """Of "pages": queries in other languages are left."""

    def instruction(self, side: int, own: str | None = None) -> str:
        """Return the instruction of queries (0) or candidates (1): a user's, else the row's `own`, else that of the table."""
        replaced = self.replaced[side]
        return replaced if replaced is not None else self.instructions[side] if own is None else own


@dataclass(frozen=True)
class Official:
    """A benchmark with its files."""

    benchmark: Benchmark
    sources: tuple[Source, ...]
    download: str
    """Where its files come from."""

    def num_queries(self, name: str) -> int:
        """Return how many queries a dataset should have, 0 if no column counts it."""
        row = self.benchmark.find(name)
        return row.num_queries if row else 0
