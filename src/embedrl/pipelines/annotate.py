"""Annotate the pairs of a source, and filter them, with models by name."""

from collections.abc import Iterator
from pathlib import Path

from embedrl import log
from embedrl.annotate.annotate import AnnotateReport, Budget, Retry, annotate
from embedrl.annotate.filter import FilterReport, filter_pairs, report_rows
from embedrl.annotate.mining import MineConfig, Mined, mine_negatives
from embedrl.data.protocols import Judges
from embedrl.data.sources import SOURCES, Outcome
from embedrl.errors import ConfigError
from embedrl.evaluation.report import write_report
from embedrl.reports.html import render_page, write_html
from embedrl.reports.templates import fragment
from embedrl.runtime.engine import LOCAL, Engine, start_models
from embedrl.runtime.names import load_embedder, load_reasoner

_WRITES_MEDIA = ("vidore", "visrag")
"""Sources with images inside their rows."""
_TURNS = 8
"""Questions for each place at a server that make a batch."""


def annotate_source(
    source: str,
    path: Path,
    out: Path,
    reasoner: str,
    *,
    media_root: Path | None = None,
    task: str | None = None,
    batch_size: int | None = None,
    concurrency: int | None = None,
    answer_share: float = 0.0,
    retry: Retry | None = None,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    give_up_after: int = 16,
    engine: Engine = LOCAL,
) -> AnnotateReport:
    """Annotate both sides of a source's pairs with T-CoTs, stored in `out`; see `annotate`.

    A server is asked up to `concurrency` things at once. Its batches are longer than that: each waits for its slowest answer.
    """
    pairs = read_source(source, path, out, media_root=media_root, task=task)
    budget = Budget(max_tokens=max_tokens, max_seconds=max_seconds)
    with start_models(engine, [reasoner], None, concurrency=concurrency) as models, log.progress(num_rows(path), "annotate") as bar:
        reasons = models.reasoners[reasoner]
        return annotate(
            pairs,
            reasons,
            out,
            batch_size=batch_size or (16 if concurrency is None else _TURNS * concurrency),
            answer_share=answer_share,
            retry=retry,
            budget=budget,
            give_up_after=give_up_after,
            max_in_flight=models.max_in_flight,
            on_progress=lambda num_pairs, counts: bar.advance(
                num_pairs, **{name: counts[name] for name in ("made", "known", "malformed", "failed")}
            ),
        )


def num_rows(path: Path) -> int | None:
    """Count the rows of a JSON Lines file, for the progress bar; None for formats that would have to be parsed."""
    if path.suffix != ".jsonl" or not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(not line.isspace() for line in file)


def read_source(source: str, path: Path, out: Path, *, media_root: Path | None = None, task: str | None = None) -> Iterator[Outcome]:
    """Open a source. Images inside its rows are written to `media_root`, or else below `out`."""
    if source not in SOURCES:
        raise ConfigError(f"source {source!r}: choose from {', '.join(SOURCES)}")
    if not path.exists():
        raise ConfigError(f"{str(path)!r}: there is no such file or folder")
    if media_root is None and source in _WRITES_MEDIA:
        media_root = out / "media"
    return SOURCES[source](path, media_root, **({"task": task} if task else {}))


def filter_annotated(folder: Path, judge: Judges | str | None, *, reasoner: str | None = None, rl_share: float = 0.5) -> FilterReport:
    """Filter the annotated pairs of a folder, with a judge, its name, or without one; see `filter_pairs`.

    The report is written beside the pairs, as filter.json and filter.html.
    """
    judges = load_judge(judge) if isinstance(judge, str) else judge
    report = filter_pairs(folder, judges, reasoner=reasoner, rl_share=rl_share)
    write_report(report.model_dump(mode="json"), folder / "filter.json")
    write_html(filter_html(report, folder), folder / "filter.html")
    return report


def mine_annotated(folder: Path, embedder: str, judge: Judges | None, num_negatives: int) -> dict[str, Mined]:
    """Add hard negatives to the filtered pairs of a folder, with an Embedder by name; see `mine_negatives`.

    Counts are written to mined.json.
    """
    mined = mine_negatives(folder, load_embedder(embedder), judge, MineConfig(num_negatives=num_negatives))
    write_report({task: counts.model_dump() for task, counts in mined.items()}, folder / "mined.json")
    return mined


def filter_html(report: FilterReport, folder: Path) -> str:
    """Render the filter report: counts by dataset and reason, and examples."""
    columns, rows = report_rows(report)
    return render_page(
        "What was kept, what was not, and why",
        fragment("filter", "lead", line=filter_line(report, folder), reasoner=report.reasoner, judge=report.judge),
        fragment("filter", "counts", columns=columns, rows=rows),
        *(fragment("filter", "examples", dataset=dataset, reasons=reasons) for dataset, reasons in report.examples.items()),
    )


def load_judge(name: str) -> Judges:
    """Load a Reasoner by name that can judge. Raises ConfigError and ModelError as `load_reasoner` does."""
    if name == "fake":
        from embedrl.testing import FakeJudge

        return FakeJudge()
    judge = load_reasoner(name)
    if not isinstance(judge, Judges):
        raise ConfigError(f"judge={name!r}: this model does not judge; give a model folder or a server's URL")
    return judge


def annotate_line(report: AnnotateReport) -> str:
    """Return a one-line summary of a run of `annotate_source`."""
    stopped = f"; {report.stopped_by} is used up, {report.left} items are left" if report.stopped_by else ""
    left = f"; {report.left} items are not annotated yet" if report.left and not report.stopped_by else ""
    repeated = f" ({report.num_repeated} of them repeated)" if report.num_repeated else ""
    return (
        f"{report.num_pairs} pairs{repeated}: {report.made} T-CoTs made, {report.known} items known, {report.malformed} "
        f"malformed, {report.failed} failed, {report.num_problems} problems, {report.num_tokens:,} tokens written "
        f"in {report.seconds:.1f} s{stopped}{left}"
    )


def filter_line(report: FilterReport, folder: Path) -> str:
    """Return a one-line summary of a filter report."""
    num_rejected = sum(sum(counts.values()) for counts in report.rejected.values())
    waiting = f"; {report.waiting} are not annotated yet" if report.waiting else ""
    return (
        f"{folder}: {sum(report.kept.values())} pairs to learn from by contrast, {report.num_rl} for RL, "
        f"{num_rejected - report.num_rl} rejected{waiting}"
    )
