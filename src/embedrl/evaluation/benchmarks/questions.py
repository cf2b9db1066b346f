"""Multiple-choice video questions of MMEB-V2: question text, options, right answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from embedrl.evaluation.benchmarks.rows import list_of


class Question(NamedTuple):
    """A question about a video, with its options."""

    video: str
    text: str
    """With the options, as the dataset lists them."""
    options: dict[str, str]
    """Name of an option -> its text as it is embedded."""
    right: str
    """Name of the right one."""


def lettered(options: Sequence[str]) -> list[str]:
    """Return options as MVBench and its kin number them: "(A) …"."""
    return [f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options)]


def _mvbench(row: Mapping[str, Any]) -> Question:
    candidates = list_of(row, "candidates")
    options = lettered(candidates)
    right = options[candidates.index(row["answer"])]
    return Question(f"{row['_subset']}/{row['video']}", _listed(row["question"], options), {name: name for name in options}, right)


def _videomme(row: Mapping[str, Any]) -> Question:
    options = {option: _behind(option) for option in list_of(row, "options")}
    right = list(options)[list("ABCDEFGH").index(row["answer"])]
    return Question(str(row["videoID"]), _listed(row["question"], list(options)), options, right)


def _nextqa(row: Mapping[str, Any]) -> Question:
    options = [str(row[f"a{place}"]) for place in range(5)]
    return Question(str(row["video"]), _listed(row["question"], lettered(options)), {name: name for name in options}, options[_place(row)])


def _egoschema(row: Mapping[str, Any]) -> Question:
    options = {option: _behind(option) for option in list_of(row, "option")}
    return Question(str(row["video_idx"]), _listed(row["question"], list(options)), options, list(options)[_place(row)])


def _activitynetqa(row: Mapping[str, Any]) -> Question:
    options = ("yes", "no")
    right = options[options.index(str(row["answer"]).strip().lower())]
    return Question(f"v_{row['video_name']}", _listed(row["question"], options), {name: name for name in options}, right)


def _place(row: Mapping[str, Any]) -> int:
    place = int(row["answer"])
    if place < 0:
        raise ValueError("it is below 0")
    return place


def _behind(option: str) -> str:
    """Return an option as the benchmark embeds it: without its letter and without a full stop ("A. It turns red." is "It turns red")."""
    return (option.partition(". ")[2] or option).strip(". ")


def _listed(question: str, options: Sequence[str]) -> str:
    return "\n".join([question, *options])


QUESTIONS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Question]]] = {
    "mvbench": (("video", "question", "candidates", "answer"), _mvbench),
    "videomme": (("videoID", "question", "options", "answer"), _videomme),
    "nextqa": (("video", "question", "answer", "a0", "a1", "a2", "a3", "a4"), _nextqa),
    "egoschema": (("video_idx", "question", "option", "answer"), _egoschema),
    "activitynetqa": (("video_name", "question", "answer"), _activitynetqa),
}
"""Layout -> the columns it needs, and what a row asks."""
