"""Published T-CoT files instead of a Reasoner. Entries match items exactly; ambiguous ones are reported, never guessed.

The tools they were made for look them up by parts of names: the last row about an image or a video stands for all questions about
it, and a text is found inside another. Here a query is matched by its whole content, a candidate by what the benchmark calls it.
Where those tools would have had a choice, or have taken another item's, the item is listed as ambiguous.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath

from embedrl.data.sample import Item
from embedrl.data.sources.media_folder import NUM_FRAMES
from embedrl.data.sources.row import RowError
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, read, render
from embedrl.errors import ConfigError, MediaError
from embedrl.evaluation.benchmarks.queries import asks
from embedrl.evaluation.benchmarks.source import Official, Source
from embedrl.evaluation.benchmarks.tcot_files import FILES, Entry, Written, read_candidates, read_queries
from embedrl.evaluation.evaluate import Outcome
from embedrl.evaluation.task import RetrievalTask
from embedrl.media.content import Image, Video

_LETTER = re.compile(r"^\([A-Z]\) ")


@dataclass
class Coverage:
    """Coverage of one side of a dataset by the files. The lists name items or rows, with the reason."""

    num_items: int
    """Number of distinct items."""
    num_found: int = 0
    """Number of items with a T-CoT."""
    missing: list[str] = field(default_factory=list)
    """Items without one: they are embedded plain."""
    malformed: list[str] = field(default_factory=list)
    """Items whose T-CoT cannot be read, which are embedded plain, and rows that are broken."""
    ambiguous: list[str] = field(default_factory=list)
    """Items that a look-up by parts of names would have confused with others."""
    undecided: list[str] = field(default_factory=list)
    """Items that share a key of the files with others, so that nobody can tell whose T-CoT it is: they are embedded plain."""
    strangers: list[str] = field(default_factory=list)
    """Rows that match no item of the dataset."""


@dataclass(frozen=True)
class DatasetTCoTs:
    """The T-CoTs of one dataset. Fulfils `Reasons`; an item without one gets an empty failure."""

    fingerprint: str
    """Changes whenever a T-CoT does."""
    num_frames: int
    outcomes: Mapping[str, Outcome]
    """By item key."""
    coverage: Mapping[str, Coverage]
    """Of "queries" and of "candidates"."""

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Return one T-CoT per item, in order."""
        nothing = ParseFailure(reason=FailureReason.EMPTY, text="")
        return [self.outcomes.get(item.key, nothing) for item in items]


@dataclass(frozen=True)
class ImportedTCoTs:
    """The T-CoTs of a benchmark: one dataset's are never used for another, though both may ask about the same item."""

    datasets: Mapping[str, DatasetTCoTs]
    folder: str
    """Name of the folder they came from."""

    @property
    def fingerprint(self) -> str:
        """What was imported: changes whenever a T-CoT does."""
        return _named(self.folder, *(tcots.fingerprint for tcots in self.datasets.values()))


def import_tcots(
    official: Official, tasks: Sequence[RetrievalTask], data: Path, folder: Path, *, num_frames: int = NUM_FRAMES
) -> ImportedTCoTs:
    """Match a folder of T-CoT files to tasks that were read from `data`.

    Raises ConfigError for a folder or a file that cannot be read, for a dataset that the folder has nothing for, and for another
    number of frames than the T-CoTs count their key frames in.
    """
    if not folder.is_dir():
        raise ConfigError(f"--tcots {str(folder)!r}: there is no such folder; give the one that holds Image, Video and VisDo")
    if num_frames != NUM_FRAMES:
        raise ConfigError(f"num_frames={num_frames}: published T-CoTs count their key frames in {NUM_FRAMES} frames; leave it at that")
    sources = {source.name: source for source in official.sources}
    if strange := [task.name for task in tasks if sources[task.name].layout.name == "uvrb"]:
        raise ConfigError(f"--tcots: there are no files of T-CoTs for {strange[0]} of {official.benchmark.name}; leave it out")
    return ImportedTCoTs({task.name: _import(official, sources[task.name], task, data, folder) for task in tasks}, folder.resolve().name)


def _import(official: Official, source: Source, task: RetrievalTask, data: Path, folder: Path) -> DatasetTCoTs:
    row = official.benchmark.find(task.name)
    spellings = [name for name in (task.name, row.alias if row else "", row.corrected if row else "") if name]
    paths = [_file(folder, pattern, spellings) for pattern in FILES[task.modality]]
    queries, candidates = _queries(source, task, data, paths[0]), _candidates(source, task, data, paths[1])
    outcomes = {**candidates.outcomes, **queries.outcomes}
    if not outcomes:
        expected = " nor in ".join(repr(str(path)) for path in paths)
        raise ConfigError(f"{task.name}: no T-CoT for it in {expected}; complete the folder, or leave the dataset out")
    written = (f"{key} {render(outcome) if isinstance(outcome, TCoT) else outcome.text}" for key, outcome in sorted(outcomes.items()))
    coverage = {"queries": queries.coverage, "candidates": candidates.coverage}
    return DatasetTCoTs(_named(folder.resolve().name, task.name, *written), NUM_FRAMES, outcomes, coverage)


def _named(folder: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"T-CoTs of {folder}, {digest[:12]}"


def _file(folder: Path, pattern: str, spellings: Sequence[str]) -> Path:
    paths = [folder / pattern.format(name) for name in spellings]
    return next((path for path in paths if path.is_file()), paths[0])


class _Matched:
    """One side of a dataset, with what the files hold under the exact key of each item."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        self.items = items
        self.exact: defaultdict[str, list[Written]] = defaultdict(list)
        self.coverage = Coverage(len(items))
        self.undecided: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}

    def settle(self, near: Callable[[Item], Sequence[Written]]) -> "_Matched":
        """Choose the T-CoT of each item. `near` returns those that a look-up by parts of names would have taken it for."""
        for key, item in self.items.items():
            own, others = self.exact[key], near(item)
            texts = dict.fromkeys(entry.text for entry in own)
            rivals = [entry for entry in others if entry.text not in texts]
            if len(texts) > 1:
                places = "; ".join(entry.where for entry in own)
                self.coverage.ambiguous.append(f"{_called(item)}: {len(texts)} T-CoTs are its own ({places}); the first good one is used")
            elif rivals:
                place = own[0].where if own else "none of its own"
                self.coverage.ambiguous.append(f"{_called(item)}: {rivals[-1].where} could be taken for it; it has {place}")
            if own:
                self._choose(key, item, own)
            elif key not in self.undecided:
                self.coverage.missing.append(_called(item))
        return self

    def _choose(self, key: str, item: Item, own: Sequence[Written]) -> None:
        outcomes = [read(entry.text).written(NUM_FRAMES) for entry in own]
        good = next((outcome for outcome in outcomes if isinstance(outcome, TCoT)), None)
        if good is None:
            reason = own[0].error or str(outcomes[0].reason if isinstance(outcomes[0], ParseFailure) else "")
            self.coverage.malformed.append(f"{_called(item)}: {reason} ({own[0].where})")
        self.coverage.num_found += good is not None
        self.outcomes[key] = good or outcomes[0]


def _entries(matched: _Matched, entries: Iterator[Entry | str]) -> Iterator[Entry]:
    for entry in entries:
        if isinstance(entry, str):
            matched.coverage.malformed.append(entry)
        else:
            yield entry


def _queries(source: Source, task: RetrievalTask, data: Path, path: Path) -> _Matched:
    """Match rows to the queries that they would be in the benchmark."""
    matched = _Matched({item.key: item for item in task.queries})
    asked = _asked(source, data)
    by_place: defaultdict[str, list[Written]] = defaultdict(list)
    by_text: defaultdict[str, list[Written]] = defaultdict(list)
    for entry in _entries(matched, read_queries(path)) if path.is_file() else ():
        made = asked(entry)
        for item in made:
            matched.exact[item.key].append(entry.written)
            by_place[_place(item)].append(entry.written)
            by_text[item.text].append(entry.written)
        if not any(item.key in matched.items for item in made):
            matched.coverage.strangers.append(entry.written.where)

    def near(item: Item) -> list[Written]:
        place = _place(item)
        if isinstance(item.visual, Image):
            name = PurePosixPath(place).name
            return [entry for other, entries in by_place.items() if name in other for entry in entries]
        if place:
            return by_place[place]
        if matched.exact.get(item.key):
            return []
        said = f"{item.instruction} {item.text}"
        return [entry for text, entries in by_text.items() if text and text in said for entry in entries]

    return matched.settle(near)


def _asked(source: Source, data: Path) -> Callable[[Entry], list[Item]]:
    """Return what makes the queries that a row may stand for: several only if it does not say which part of a dataset it is of."""
    ask = asks(source, data, NUM_FRAMES)

    def items(entry: Entry) -> list[Item]:
        parts = [str(entry.row["subset"])] if "subset" in entry.row else source.config.split() or [""]
        made: dict[str, Item] = {}
        for part in parts if source.layout.name == "mvbench" else [""]:
            try:
                item = ask({"_subset": part, **entry.row})
                made[item.key] = item
            except (RowError, MediaError, ConfigError, KeyError, ValueError, IndexError, TypeError):
                continue  # it stands for no query of this dataset, and is counted among the strangers
        return list(made.values())

    return items


def _candidates(source: Source, task: RetrievalTask, data: Path, path: Path) -> _Matched:
    """Match rows to candidates by the name that the benchmark gives them; a text also by its words alone."""
    ids = task.candidate_ids
    matched = _Matched({item.key: item for item in task.candidates})
    root = data / source.media
    known: defaultdict[tuple[str, str], dict[str, Item]] = defaultdict(dict)
    for key, item in zip(ids, task.candidates, strict=True):
        name = str(task.names.get(key, key))
        for key in _keys(source, name, item, root):
            known[key][item.key] = item
    images: dict[str, Written] = {}
    for entry in _entries(matched, read_candidates(path, task.modality)) if path.is_file() else ():
        items = next((known[key] for key in _stored_keys(source, entry) if key in known), {})
        if entry.kind == "image":
            images[entry.name] = entry.written
        if not items:
            matched.coverage.strangers.append(entry.written.where)
        elif entry.kind == "image" and len(items) > 1:
            matched.undecided |= items.keys()
            matched.coverage.undecided += [f"{_called(item)}: {entry.written.where} is one for {len(items)}" for item in items.values()]
        else:
            for key in items:
                matched.exact[key].append(entry.written)
    names = {PurePosixPath(name).name: written for name, written in images.items()}

    def near(item: Item) -> list[Written]:
        if not images or not isinstance(item.visual, Image):
            return []
        place = _place(item)
        ends = [place[start:] for start in range(len(place))]
        taken = names.get(PurePosixPath(place).name)
        return [images[end] for end in ends if end in images] or ([taken] if taken else [])

    return matched.settle(near)


def _keys(source: Source, name: str, item: Item, root: Path) -> list[tuple[str, str]]:
    """Return the keys (kind, name) of a candidate in files; the kind is "text", "image", "path" (its last parts) or "id"."""
    if source.modality == "visdoc":
        return [("id", name)]
    if item.visual is None:
        return [("text", key) for key in dict.fromkeys((name, item.text, _LETTER.sub("", name)))]
    if source.modality == "video":
        return [("path", name.removesuffix(".mp4"))]
    assert isinstance(item.visual, Image), "official images are files"
    assert item.visual.path is not None, "official images are files"
    return [("image", item.visual.path.relative_to(root).as_posix())]


def _stored_keys(source: Source, entry: Entry) -> list[tuple[str, str]]:
    """Return the keys that an entry of a file may be found under, the longest first."""
    if source.modality == "visdoc":
        return [("id", entry.name)]
    if source.modality == "image":
        name = PurePosixPath(entry.name).as_posix() if entry.kind == "image" else entry.name
        return [(entry.kind, name)]
    parts = PurePosixPath(entry.name).parts
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    return [("text", entry.name), *(("path", tail.removesuffix(".mp4")) for tail in tails)]


def _place(item: Item) -> str:
    """Return where the image, or the frames, of an item lie; nothing for a text."""
    match item.visual:
        case Image(path=Path() as path):
            return path.as_posix()
        case Video(frame_files=files) if files is not None:
            return files.paths[0].parent.as_posix()
    return ""


def _called(item: Item) -> str:
    """Return a display name of an item: the end of its path and the start of its text."""
    tail = "/".join(PurePosixPath(_place(item)).parts[-2:])
    return " ".join(filter(None, [tail, repr(item.text[:80]) if item.text else ""]))


LISTS = tuple(field.name for field in fields(Coverage) if field.name not in ("num_items", "num_found"))
"""The kinds of things that a coverage names."""
