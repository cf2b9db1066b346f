"""Table row of a benchmark dataset: where its files are and how its rows are read."""

from dataclasses import dataclass
from typing import Literal

from embedrl.evaluation.tables import Benchmark
from embedrl.evaluation.task import Modality

Layout = Literal[
    "image_text",
    "image_path",
    "image_both",
    "video_label",
    "video_texts",
    "mvbench",
    "videomme",
    "nextqa",
    "egoschema",
    "activitynetqa",
    "text_video",
    "moments",
    "momentseeker",
    "pages",
    "uvrb",
]
"""How a dataset's rows are read. The image layouts differ in what names a candidate: its text, its image, or both."""

_SEEKS_VIDEO = ("text_video", "moments", "momentseeker", "uvrb")
_SEEKS_IMAGE = ("image_path", "image_both", "pages")


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

    @property
    def wanted(self) -> Literal["text", "image", "video"]:
        """Kind of part that a query looks for."""
        return "video" if self.layout in _SEEKS_VIDEO else "image" if self.layout in _SEEKS_IMAGE else "text"

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
