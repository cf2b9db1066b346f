"""The generated world in MMEB-V2's layout, so that the readers of official files run on it.

Each task is written as a layout of its family: rows as JSON Lines, pictures and pages as PNG, videos as folders of frames. A task
that the benchmark has no layout for (a page with a question, answered by a text) is left out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedrl.data.sample import Item
from embedrl.errors import StoreError
from embedrl.evaluation.benchmarks.questions import lettered
from embedrl.evaluation.benchmarks.source import Official, Source
from embedrl.evaluation.benchmarks.video import LABELS
from embedrl.evaluation.tables import Benchmark, Dataset
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import FrameFiles, Image, Page, Part, Text, Video, content_key
from embedrl.media.decode import load_visual
from embedrl.media.image import save_image
from tests import official_files

LAYOUTS = {
    "image_cls": "image_text",
    "image_qa": "image_text",
    "image_i2t": "image_text",
    "image_t2i": "image_path",
    "image_composed": "image_path",
    "image_grounding": "image_path",
    "video_cls": "video_label",
    "video_qa": "mvbench",
    "video_t2v": "text_video",
    "video_v2t": "video_texts",
    "video_moment": "moments",
    "visdoc_notes": "pages",
    "visdoc_table": "pages",
    "visdoc_chart": "pages",
}
_FOLDERS = {"image": "image-tasks", "video": "video-tasks/frames", "visdoc": "visdoc-tasks"}


def write_world(tasks: Iterable[RetrievalTask], folder: Path) -> tuple[Official, list[RetrievalTask]]:
    """Write the tasks that have a layout. Returns the benchmark to read them with, and the same tasks over the written files.

    The second is the direct path: what a reader makes of the files must equal it. Raises StoreError for a used folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise StoreError(f"{str(folder)!r} is not empty: choose an empty or a new folder")
    written = [_Writer(task, folder) for task in tasks if task.name in LAYOUTS]
    sources = [writer.write() for writer in written]
    rows = tuple(Dataset(writer.task.name, writer.task.modality, (), "hit@1", len(writer.task.queries)) for writer in written)
    benchmark = Benchmark("world", rows, {"all": tuple(row.name for row in rows)})
    return Official(benchmark, tuple(sources), "written by embedrl"), [writer.direct() for writer in written]


class _Writer:
    """One task on its way to files."""

    def __init__(self, task: RetrievalTask, folder: Path) -> None:
        self.task, self.folder = task, folder
        self.home = folder / _FOLDERS[task.modality] / task.name
        self.media: dict[str, Part] = {}
        """Content key of a part -> the part as a file."""
        self.local: list[tuple[str, ...]] | None = None
        self.layout = LAYOUTS[task.name]

    def write(self) -> Source:
        """Write media and rows."""
        source = Source(
            *(self.task.name, self.task.modality, official_files.LAYOUTS[self.layout], f"world/{self.task.name}"),
            media=_FOLDERS["image"] if self.task.modality == "image" else str(self.home.relative_to(self.folder)),
            instructions=(self.task.queries[0].instruction, self.task.candidates[0].instruction),
        )
        match self.layout:
            case "pages":
                self._pages(source)
            case "moments":
                self._rows(source, self._moments())
            case "video_label":
                self._rows(source, [{"video_id": self._frames(query), "pos_text": right.text} for query, right in self._pairs()])
                labels = "".join(f"{item.text}\n" for item in self.task.candidates)
                (self.folder / source.rows / LABELS).write_text(labels, "utf-8")
                return replace(source, num_labels=len(self.task.candidates))
            case "video_texts":
                texts = [item.text for item in self.task.candidates]
                rows = [{"video_id": self._frames(query), "pos_text": right.text, "neg_text": texts} for query, right in self._pairs()]
                self._rows(source, rows)
            case "text_video":
                self._rows(source, self._captions())
                return replace(source, columns=("video_id", "caption"))
            case "mvbench":
                return self._questions(source)
            case _:
                self._rows(source, self._lists())
        return source

    def direct(self) -> RetrievalTask:
        """Return the task over its files."""
        queries, candidates = (tuple(self._as_files(item) for item in side) for side in (self.task.queries, self.task.candidates))
        keys = {before.key: after.key for before, after in zip(self.task.candidates, candidates, strict=True)}
        relevant = tuple({keys[key]: grade for key, grade in labels.items()} for labels in self.task.relevant)
        local = None if self.local is None else tuple(tuple(keys[key] for key in row) for row in self.local)
        return RetrievalTask(self.task.name, self.task.modality, queries, candidates, relevant, local)

    def _pairs(self) -> list[tuple[Item, Item]]:
        found = {item.key: item for item in self.task.candidates}
        return [(query, found[next(iter(labels))]) for query, labels in zip(self.task.queries, self.task.relevant, strict=True)]

    def _right_first(self, right: Item) -> list[Item]:
        return [right, *(item for item in self.task.candidates if item.key != right.key)]

    def _lists(self) -> list[dict[str, Any]]:
        rows = []
        for query, right in self._pairs():
            listed = self._right_first(right)
            rows.append(
                {
                    "qry_inst": f"<|image_1|>\n{query.instruction}\n",
                    "qry_text": query.text,
                    "qry_img_path": self._picture(query),
                    "tgt_inst": right.instruction,
                    "tgt_text": [item.text for item in listed],
                    "tgt_img_path": [self._picture(item) for item in listed],
                }
            )
        return rows

    def _captions(self) -> list[dict[str, Any]]:
        """Write a row for every video; those that no query wants ask nothing, so the candidates are the wanted ones."""
        wanted = {right.key for _, right in self._pairs()}
        self.task = replace(self.task, candidates=tuple(item for item in self.task.candidates if item.key in wanted))
        return [{"video_id": self._frames(right), "video": "", "caption": query.text} for query, right in self._pairs()]

    def _questions(self, source: Source) -> Source:
        """Write options as the benchmark does, lettered; the tasks over the files then hold the lettered texts."""
        rows, queries, relevant, local = [], [], [], []
        pool: dict[str, Item] = {}
        texts = [item.text for item in self.task.candidates]
        shown = lettered(texts)
        options = [_with_text(item, text) for item, text in zip(self.task.candidates, shown, strict=True)]
        for query, right in self._pairs():
            rows.append({"video": self._frames(query, "options/"), "question": query.text, "candidates": texts, "answer": right.text})
            queries.append(_with_text(query, "\n".join([query.text, *shown])))
            pool |= {item.key: item for item in options}
            relevant.append({options[texts.index(right.text)].key: 1.0})
            local.append(tuple(item.key for item in options))
        self.task = replace(self.task, queries=tuple(queries), candidates=tuple(pool.values()), relevant=tuple(relevant), truths={})
        self.local = local
        self._rows(replace(source, config="options"), rows)
        return replace(source, config="options")

    def _moments(self) -> list[dict[str, Any]]:
        rows, self.local = [], []
        for number, (query, right) in enumerate(self._pairs()):
            self._frames(query, f"{number:04}/", "query")
            for place, clip in enumerate(self._right_first(right)):
                self._frames(clip, f"{number:04}/", "positive" if clip is right else f"negative_{place:04}")
            rows.append({"query": query.text, "video_path": f"videos/{number:04}.mp4"})
            self.local.append(tuple(item.key for item in self.task.candidates))
        return rows

    def _pages(self, source: Source) -> None:
        pages = {item.key: place for place, item in enumerate(self.task.candidates)}
        for item in self.task.candidates:
            self._save(item, self.home / f"{pages[item.key]}.png")
        self._rows(source, [{"corpus-id": place} for place in pages.values()], "corpus")
        queries = [{"query-id": number, "query": query.text} for number, query in enumerate(self.task.queries)]
        self._rows(source, queries, "queries")
        grades = [(row, labels) for row, labels in enumerate(self.task.relevant)]
        qrels = [{"query-id": row, "corpus-id": pages[key], "score": grade} for row, labels in grades for key, grade in labels.items()]
        self._rows(source, qrels, "qrels")

    def _rows(self, source: Source, rows: Iterable[Mapping[str, Any]], part: str = "") -> None:
        path = self.folder / source.rows / (part or source.config) / f"{source.split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")

    def _picture(self, item: Item) -> str:
        """Write the picture of an item, if it has one, and return its path in the rows."""
        if item.visual is None:
            return ""
        path = self.home / f"{content_key((item.visual,))[:16]}.png"
        self._save(item, path)
        return str(path.relative_to(self.folder / _FOLDERS["image"]))

    def _save(self, item: Item, path: Path) -> None:
        assert isinstance(item.visual, Image | Page)
        picture = load_visual(item.visual)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            save_image(picture, path)  # ty: ignore[invalid-argument-type]
        self.media[content_key((item.visual,))] = Image(path=path)

    def _frames(self, item: Item, under: str = "", name: str = "") -> str:
        """Write the frames of an item and return the name of its video."""
        assert isinstance(item.visual, Video)
        assert item.visual.frames is not None
        key = content_key((item.visual,))
        name = name or key[:16]
        paths = []
        for number, frame in enumerate(item.visual.frames.images, 1):
            paths.append(self.home / under / name / f"frame_{number:04}.png")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            save_image(frame, paths[-1])
        files = FrameFiles(paths=tuple(paths), times_s=tuple(float(place) for place in range(len(paths))))
        self.media[key] = Video(frame_files=files)
        return name

    def _as_files(self, item: Item) -> Item:
        content = tuple(part if isinstance(part, Text) else self.media[content_key((part,))] for part in item.content)
        return Item(content=content, instruction=item.instruction, role=item.role)


def _with_text(item: Item, text: str) -> Item:
    kept: Sequence[Part] = [part for part in item.content if not isinstance(part, Text)]
    return Item(content=(*kept, Text(text=text)), instruction=item.instruction, role=item.role)
