"""Readers of public training data and of our JSON Lines: a Pair or a named SourceProblem for every row.

A reader is called with a path, a `media_root` that names of media are relative to, and `task`, the name that its pairs get.
"""

from collections.abc import Callable, Iterator
from functools import partial

from embedrl.data.sources.embed_rl import read_embed_rl
from embedrl.data.sources.folder import read_folder
from embedrl.data.sources.lines import read_lines
from embedrl.data.sources.llava_hound import read_llava_hound
from embedrl.data.sources.mmeb import read_mmeb
from embedrl.data.sources.row import AnnotatedPair, Outcome, ProblemKind, SourceProblem, SourceReport
from embedrl.data.sources.visdoc import read_vidore, read_visrag

SOURCES: dict[str, Callable[..., Iterator[Outcome]]] = {
    "mmeb": read_mmeb,
    "llava-hound-caption": partial(read_llava_hound, use="caption"),
    "llava-hound-video": partial(read_llava_hound, use="video"),
    "llava-hound-qa": partial(read_llava_hound, use="qa"),
    "vidore": read_vidore,
    "visrag": read_visrag,
    "embed-rl": read_embed_rl,
    "lines": read_lines,
    "folder": read_folder,
}
"""Reader name in recipes -> reader."""

__all__ = ["SOURCES", "AnnotatedPair", "Outcome", "ProblemKind", "SourceProblem", "SourceReport"]
