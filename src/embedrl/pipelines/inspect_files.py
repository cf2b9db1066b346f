"""Inspect a benchmark's files before any model is loaded: missing, incomplete, unreadable."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedrl import log
from embedrl.errors import ConfigError, MediaError
from embedrl.evaluation.benchmarks.extract import extracting
from embedrl.evaluation.benchmarks.inspection import Inspection, Problem
from embedrl.evaluation.benchmarks.pool import Pool
from embedrl.evaluation.benchmarks.reading import choose, read_pool
from embedrl.evaluation.benchmarks.register import find_benchmark
from embedrl.evaluation.benchmarks.source import Official
from embedrl.media.content import content_key
from embedrl.media.decode import check

MAX_LINES = 5
"""Number of problems of one dataset that are listed."""


@dataclass(frozen=True)
class Finding:
    """Counts and problems of one dataset's files."""

    dataset: str
    num_queries: int
    expected: int
    """Queries that it should have; 0 if no column counts it."""
    num_candidates: int
    problems: tuple[Problem, ...]


def inspect(official: Official, data: Path, names: Sequence[str] = ()) -> list[Finding]:
    """Read every row of the datasets, and open every image, page and frame once. Raises ConfigError for a missing folder."""
    findings = []
    for source in log.progress(choose(official, names), f"{official.benchmark.name}: look at the files"):
        pool = read_pool(source, data, inspection := Inspection(gather=True))
        expected = official.num_queries(source.name)
        pool.check(expected)
        _open_media(pool, inspection)
        findings.append(Finding(source.name, len(pool.queries), expected, len(pool.candidates), tuple(inspection.problems)))
    return findings


def _open_media(pool: Pool, inspection: Inspection) -> None:
    seen: set[str] = set()
    for item in (*pool.queries, *pool.candidates.values()):
        visual = item.visual if item else None
        if visual is not None and (key := content_key((visual,))) not in seen:
            seen.add(key)
            try:
                check(visual)
            except MediaError as error:
                inspection.report(pool.source.name, f"{error}; download or unpack it again")


def extract_frames(official: Official, data: Path, names: Sequence[str], videos: Path) -> None:
    """Extract the frames that the datasets miss from the raw videos of a folder; what could not be is listed. Raises ConfigError."""
    if not videos.is_dir():
        raise ConfigError(f"{str(videos)!r}: there is no such folder; give the one that holds the raw videos")
    with extracting(videos) as extractor:
        for source in log.progress(choose(official, names), f"{official.benchmark.name}: extract frames"):
            if source.modality == "video":
                (data / source.media).mkdir(parents=True, exist_ok=True)
                read_pool(source, data, Inspection(gather=True))
    for folder, why in list(extractor.failed.items())[:MAX_LINES]:
        log.warn(f"{folder}: {why}")
    if len(extractor.failed) > MAX_LINES:
        log.warn(f"and {len(extractor.failed) - MAX_LINES:,} more folders of frames without their video")
    log.info(
        f"{extractor.num_videos:,} videos in {videos}; frames of {extractor.num_extracted:,} extracted, of {len(extractor.failed):,} not"
    )


def examine_benchmark(name: str, data: Path, names: Sequence[str] = (), *, videos: Path | None = None) -> bool:
    """Print a table of the datasets and their problems; return whether there is none. Missing frames come out of `videos`, if given."""
    official = find_benchmark(name)
    if videos is not None:
        extract_frames(official, data, names, videos)
    findings = inspect(official, data, names)
    rows = [
        (
            finding.dataset,
            "ok" if not finding.problems else "WRONG",
            f"{finding.num_queries:,}",
            f"{finding.expected:,}",
            f"{finding.num_candidates:,}",
        )
        for finding in findings
    ]
    log.table(f"{official.benchmark.name} in {data}", ["dataset", "state", "queries", "expected", "candidates"], rows)
    for finding in findings:
        for problem in finding.problems[:MAX_LINES]:
            log.warn(str(problem))
        if len(finding.problems) > MAX_LINES:
            log.warn(f"{finding.dataset}: and {len(finding.problems) - MAX_LINES:,} more")
    broken = sum(bool(finding.problems) for finding in findings)
    log.info(f"{len(findings) - broken} of {len(findings)} datasets can be evaluated; the files come from: {official.download}")
    return not broken
