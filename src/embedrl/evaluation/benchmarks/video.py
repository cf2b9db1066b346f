"""MMEB-V2 video datasets: classification, question answering and text-to-video retrieval over frame folders."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.pair import side
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.pool import Pool
from embedrl.evaluation.benchmarks.queries import FrameFolders, asks
from embedrl.evaluation.benchmarks.questions import QUESTIONS
from embedrl.evaluation.benchmarks.rows import list_of, read_rows, rows_folder
from embedrl.evaluation.benchmarks.source import Layout, Source
from embedrl.media.content import Content

LABELS = "labels.txt"
"""The names of all classes, one a line, beside the rows of a classification dataset."""


def read_labels(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a classification dataset: every query ranks all classes. Those that no row is of stand in `labels.txt`."""
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    text = source.columns[1]
    for number, row in read_rows(source, data, inspection, source.columns):
        label = str(row[text])
        pool.offer(label, _words(label), number)
        pool.ask(lambda row=row: ask(row), {label: 1.0}, number)
    path = rows_folder(source, data) / LABELS
    if path.is_file():
        for line in path.read_text("utf-8-sig").splitlines():
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
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    text = source.columns[1]
    for number, row in read_rows(source, data, inspection, (*source.columns, "neg_text")):
        for option in list_of(row, "neg_text"):
            pool.offer(option, _words(option), number)
        pool.ask(lambda row=row: ask(row), {row[text]: 1.0}, number, local=row["neg_text"])
    return pool


def read_questions(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset of questions with options."""
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    columns, make = QUESTIONS[source.layout.name]
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
        pool.ask(lambda row=row: ask(row), {asked.right: 1.0}, number, local=asked.options)
    return pool


def read_text_to_video(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset of videos with a caption (of several, the first counts): every caption ranks all videos."""
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    video = source.columns[0]
    for number, row in read_rows(source, data, inspection, source.columns):
        name = PurePosixPath(str(row[video])).stem if "/" in str(row[video]) else str(row[video])
        pool.offer(name, lambda name=name: (frames.video(name),), number)
        pool.ask(lambda row=row: ask(row), {name: 1.0}, number)
    return pool


def _words(text: str) -> Callable[[], Content]:
    return lambda: side(text)


VIDEO_LABEL = Layout("video_label", read_labels)
VIDEO_TEXTS = Layout("video_texts", read_texts)
TEXT_VIDEO = Layout("text_video", read_text_to_video, wanted="video")
QUESTION_LAYOUTS = {name: Layout(name, read_questions) for name in QUESTIONS}
