"""MMEB-V2's video datasets: rows that name a video, whose frames lie in a folder of their own, and what each dataset asks of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.side import side
from embedrl.evaluate.official.inspection import Inspection
from embedrl.evaluate.official.pool import Pool
from embedrl.evaluate.official.rows import read_rows
from embedrl.evaluate.official.source import Source
from embedrl.media.content import Content, Video

LABELS = "labels.txt"
"""The names of all classes, one a line, beside the rows of a classification dataset."""


@dataclass(frozen=True)
class FrameFolders:
    """Folders of frames, one for each video."""

    media: MediaFolder
    num_frames: int

    def video(self, name: str) -> Video:
        """Choose frames of a video; a name may carry the suffix that its folder lacks. Raises MediaError."""
        plain = PurePosixPath(name)
        known = name if (self.media.root / name).is_dir() else str(plain.with_suffix("")) if plain.suffix else name
        return self.media.frame_files(known, self.num_frames)


class Question(NamedTuple):
    """A question about a video, with its options."""

    video: str
    text: str
    """With the options, as the dataset lists them."""
    options: dict[str, str]
    """Name of an option -> its text as it is embedded."""
    right: str
    """Name of the right one."""


def read_labels(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a classification dataset: every query ranks all classes. Those that no row is of stand in `labels.txt`."""
    pool = Pool(source, inspection, "text")
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    video, text = source.columns
    for number, row in read_rows(source, data, inspection, source.columns):
        label = str(row[text])
        pool.offer(label, _words(label), number)
        pool.ask(lambda row=row: (frames.video(str(row[video])),), {label: 1.0}, number)
    path = data / source.rows / LABELS
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            if line.strip():
                pool.offer(line.strip(), _words(line), None)
    elif len(pool.candidates) < source.num_labels:
        what = (
            f"its rows are of {len(pool.candidates)} of {source.num_labels} classes; write the names of all into {str(path)!r}, one a line"
        )
        inspection.report(source.name, what)
    return pool


def read_texts(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset whose rows list the texts to choose from under "neg_text", the right one among them."""
    pool = Pool(source, inspection, "text")
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    video, text = source.columns
    for number, row in read_rows(source, data, inspection, (*source.columns, "neg_text")):
        for option in row["neg_text"]:
            pool.offer(option, _words(option), number)
        pool.ask(lambda row=row: (frames.video(str(row[video])),), {row[text]: 1.0}, number, local=row["neg_text"])
    return pool


def read_questions(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset of questions with options."""
    pool = Pool(source, inspection, "text")
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    columns, make = QUESTIONS[source.layout]
    for number, row in read_rows(source, data, inspection, columns):
        try:
            asked = make(row)
        except (ValueError, IndexError, TypeError) as error:
            inspection.report(
                source.name, f"its answer {row['answer']!r} does not name an option ({error}); download the rows again", number
            )
            continue
        for name, text in asked.options.items():
            pool.offer(name, _words(text), number)
        query = lambda asked=asked: side(asked.text, frames.video(asked.video))  # noqa: E731 (it closes over one row)
        pool.ask(query, {asked.right: 1.0}, number, local=asked.options)
    return pool


def read_text_to_video(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset of videos with a caption (of several, the first counts): every caption ranks all videos."""
    pool = Pool(source, inspection, "video")
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    video, text = source.columns
    for number, row in read_rows(source, data, inspection, source.columns):
        name = PurePosixPath(str(row[video])).stem if "/" in str(row[video]) else str(row[video])
        caption = row[text] if isinstance(row[text], str) else next(iter(row[text]), "")
        pool.offer(name, lambda name=name: (frames.video(name),), number)
        pool.ask(_words(caption), {name: 1.0}, number)
    return pool


def _words(text: str) -> Callable[[], Content]:
    return lambda: side(text)


def lettered(options: Sequence[str]) -> list[str]:
    """Return options as MVBench and its kin number them: "(A) …"."""
    return [f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options)]


def _mvbench(row: Mapping[str, Any]) -> Question:
    options = lettered(row["candidates"])
    right = options[list(row["candidates"]).index(row["answer"])]
    return Question(f"{row['_subset']}/{row['video']}", _listed(row["question"], options), {name: name for name in options}, right)


def _videomme(row: Mapping[str, Any]) -> Question:
    options = {option: _behind(option) for option in row["options"]}
    right = list(options)["ABCDEFGH".index(row["answer"])]
    return Question(str(row["videoID"]), _listed(row["question"], list(options)), options, right)


def _nextqa(row: Mapping[str, Any]) -> Question:
    options = [str(row[f"a{place}"]) for place in range(5)]
    return Question(str(row["video"]), _listed(row["question"], lettered(options)), {name: name for name in options}, options[_place(row)])


def _egoschema(row: Mapping[str, Any]) -> Question:
    options = {option: _behind(option) for option in row["option"]}
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
    """Return an option without its letter ("A. red" is "red")."""
    return option.partition(". ")[2] or option


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
