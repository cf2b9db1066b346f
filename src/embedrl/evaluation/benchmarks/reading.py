"""Read benchmark files as retrieval tasks."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from embedrl import log
from embedrl.data.sources.media_folder import NUM_FRAMES
from embedrl.errors import ConfigError, EmbedRLError
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.pool import Pool
from embedrl.evaluation.benchmarks.source import Official, Source
from embedrl.evaluation.task import RetrievalTask


def choose(official: Official, names: Sequence[str] = ()) -> list[Source]:
    """Return the datasets of these names; without any, those that a column counts. Raises ConfigError for an unknown name."""
    known = {source.name: source for source in official.sources}
    wanted = {name: row.name if (row := official.benchmark.find(name)) else name for name in names}
    if unknown := [name for name, dataset in wanted.items() if dataset not in known]:
        raise ConfigError(f"dataset {unknown[0]!r}: {official.benchmark.name} has {', '.join(known)}")
    if wanted:
        return [known[name] for name in dict.fromkeys(wanted.values())]
    return [source for source in official.sources if official.num_queries(source.name)]


def with_instructions(official: Official, path: Path) -> Official:
    """Return a benchmark with the instructions of a TOML file: a table for each dataset, with `query`, `candidate` or both.

    They take the place of ours and of the rows' own. A table named by a modality (`[image]`) is for all its datasets that have none
    of their own. Raises ConfigError for a file that cannot be read and names that are unknown.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)!r}: instructions are a TOML file of tables, one a dataset ({error})") from error
    replaced: dict[str, tuple[str | None, str | None]] = {}
    modalities = {source.modality for source in official.sources}
    for name, table in tables.items():
        key = name if name in modalities else choose(official, [name])[0].name
        texts = list(table.values()) if isinstance(table, dict) else [None]
        if not texts or not set(table) <= {"query", "candidate"} or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"{str(path)!r}, {name}: give `query`, `candidate` or both, each a text")
        replaced[key] = (table.get("query"), table.get("candidate"))
    sources = tuple(
        replace(source, replaced=replaced.get(source.name, replaced.get(source.modality, source.replaced))) for source in official.sources
    )
    return replace(official, sources=sources)


def read_pool(source: Source, data: Path, inspection: Inspection, num_frames: int = NUM_FRAMES) -> Pool:
    """Read the rows of one dataset; what is wrong is reported to the inspection. Videos give at most `num_frames` frames."""
    if not data.is_dir():
        raise ConfigError(f"{str(data)!r}: there is no such folder; give the one that holds the benchmark's files")
    media = data / source.media
    if source.layout.has_media and not media.is_dir():
        inspection.report(source.name, f"the folder {str(media)!r} is missing; unpack its images or frames there")
        return Pool(source, inspection)
    try:
        return source.layout.read(source, data, inspection, num_frames)
    except EmbedRLError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:  # boundary: a row may hold values of any kind
        what = f"it does not fit its dataset ({type(error).__name__}: {error}), and rows behind it are not read; download the rows again"
        inspection.report(source.name, what, inspection.row)
        return Pool(source, inspection)


def read_tasks(official: Official, data: Path, names: Sequence[str] = (), *, num_frames: int = NUM_FRAMES) -> Iterator[RetrievalTask]:
    """Yield the tasks of a benchmark. Raises ConfigError naming the dataset, the row and the fix for whatever is wrong."""
    for source in choose(official, names):
        pool = read_pool(source, data, inspection := Inspection(), num_frames)
        pool.check(official.num_queries(source.name))
        assert not inspection.problems
        if rows := pool.unlabelled:
            shown = ", ".join(map(str, rows[:8])) + " …" * (len(rows) > 8)
            log.warn(f"{source.name}: nothing is right for {len(rows)} queries (rows {shown}): they count as 0")
        yield pool.task()
