"""Evaluate a system on a benchmark: score files, predictions and report, in a resumable run."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embedrl import log
from embedrl.config import write_run_config
from embedrl.data.protocols import Embeds, Gates, Reasons
from embedrl.data.sources.media_folder import NUM_FRAMES
from embedrl.data.tcot import count_words
from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.published_tcots import ImportedTCoTs, import_tcots
from embedrl.evaluation.benchmarks.reading import read_tasks, with_instructions
from embedrl.evaluation.benchmarks.register import find_benchmark
from embedrl.evaluation.benchmarks.source import Official
from embedrl.evaluation.cache import Cache, CachedEmbedder, CachedReasoner
from embedrl.evaluation.evaluate import evaluate, join
from embedrl.evaluation.predictions import score, write_predictions
from embedrl.evaluation.report import Report, make_report, write_report
from embedrl.evaluation.tables import Result, write_leaderboard
from embedrl.evaluation.task import RetrievalTask
from embedrl.pipelines.evaluate_world import figure_text, gate_rows
from embedrl.reports.coverage import coverage_json, tell_coverage
from embedrl.reports.html import render_html, write_html
from embedrl.runtime.engine import LOCAL, Engine, start_models


class BenchmarkRun(BaseModel):
    """Settings that determine the scores of a run; a run folder is resumed only with equal ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    benchmark: str
    datasets: tuple[str, ...] = ()
    """Names of datasets; empty: all that a column counts."""
    num_frames: int = NUM_FRAMES
    """Frames of a video."""
    mmeb_compat: bool = False
    """Assign grades to candidates as MMEB-V2's evaluator does."""
    seed: int = 0
    instructions: dict[str, tuple[str | None, str | None]] = Field(default_factory=dict)
    """By dataset, of queries and candidates, where a file gives other ones than ours."""
    reasoner: str | None = None
    """Name of the loaded Reasoner, or of the imported T-CoTs; None: no T-CoTs."""
    embedder: str = ""
    gate: str | None = None
    """Fingerprint of the gate of queries, its share included; None: all are reasoned about, or none."""


def measure(
    run: BenchmarkRun,
    data: Path | None,
    reasoner: str | None,
    embedder: str,
    out: Path,
    cache: Path | None = None,
    tcots: Path | None = None,
    engine: Engine = LOCAL,
    instructions: Path | None = None,
    load_gate: Callable[[Embeds], Gates] | None = None,
) -> Report:
    """Evaluate models by name, print the scores and return the report. Problems of the files are raised before a model is loaded.

    A folder of T-CoTs takes the Reasoner's place, and what it covers is said first. `instructions` is a file for `with_instructions`.
    `load_gate` returns the gate of queries for the Embedder.
    """
    official = find_benchmark(run.benchmark)
    if data is None:
        raise ConfigError(f"--data: give the folder of {run.benchmark}'s files ({official.download})")
    if instructions is not None:
        official = with_instructions(official, instructions)
        replaced = {source.name: source.replaced for source in official.sources if source.replaced != (None, None)}
        run = run.model_copy(update={"instructions": replaced})
    tasks = list(read_tasks(official, data, run.datasets, num_frames=run.num_frames))
    imported = None
    if tcots is not None:
        imported = import_tcots(official, tasks, data, tcots, num_frames=run.num_frames)
        tell_coverage(imported)
    with start_models(engine, [reasoner] if reasoner else [], embedder) as models:
        assert models.embedder is not None
        reasons = models.reasoners[reasoner] if reasoner else None
        gate = None if load_gate is None else load_gate(models.embedder)
        settings = {"cache": cache, "max_in_flight": models.max_in_flight, "gate": gate}
        report = evaluate_files(run, official, tasks, imported or reasons, models.embedder, out, **settings)
    if gated := report.get("think"):
        log.table("queries that the gate wanted", *gate_rows(gated))
    log.table("The metric that counts and its 95 % interval, in %", *score_rows(report, official))
    log.info(f"{out / 'report.html'} shows more, and `embedrl report {out}` the benchmark's table")
    return report


def evaluate_files(
    run: BenchmarkRun,
    official: Official,
    tasks: Sequence[RetrievalTask],
    reasoner: Reasons | ImportedTCoTs | None,
    embedder: Embeds,
    out: Path,
    cache: Path | None = None,
    max_in_flight: int = 1,
    gate: Gates | None = None,
) -> Report:
    """Evaluate one system, with T-CoTs if there is a Reasoner or if some were imported, and write what `embedrl report` reads into `out`.

    Whatever was reasoned and embedded is kept in `cache` (by default inside `out`), so that a second start goes on. Raises
    ConfigError if `out` holds a run with other settings.
    """
    started = time.perf_counter()
    models = {"reasoner": reasoner.fingerprint if reasoner else None, "embedder": embedder.fingerprint}
    run = run.model_copy(update={**models, "gate": gate.fingerprint if gate else None})
    write_run_config(out, run)
    if isinstance(reasoner, ImportedTCoTs):
        parts = [([task], reasoner.datasets[task.name]) for task in tasks]
        write_report(coverage_json(reasoner), out / "tcots.json")
    else:
        parts = [(tasks, reasoner)]
    with Cache(cache or out / "cache") as kept:
        results = [
            evaluate(
                part,
                CachedEmbedder(embedder, kept.vectors),
                name="tcot" if reasons else "plain",
                reasoner=CachedReasoner(reasons, kept) if reasons else None,
                gate=gate,
                count_tokens=getattr(reasons, "num_tokens", count_words),
                max_in_flight=max_in_flight,
                mode="mmeb-compat" if run.mmeb_compat else "correct",
            )
            for part, reasons in parts
        ]
    result = join(results)
    for task, task_result in zip(tasks, result.tasks, strict=True):
        write_predictions(task, task_result, out)
    scores = {task.name: score(task) for task in result.tasks}
    write_leaderboard(Result(out.resolve().name, official.benchmark, scores), out / "leaderboard.json")
    report = make_report([result], seed=run.seed, seconds=time.perf_counter() - started) | {"settings": run.model_dump(mode="json")}
    write_report(report, out / "report.json")
    graded = ", with grades as MMEB-V2's evaluator hands them out" if run.mmeb_compat else ""
    about = f"The official files of {official.benchmark.name}, embedded by {embedder.fingerprint}{graded}."
    write_html(render_html(report, about=about), out / "report.html")
    return report


def score_rows(report: Report, official: Official) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows of a console table: of each dataset its metric, in %, with its 95 % interval."""
    [system] = report["systems"].values()
    rows: list[list[object]] = []
    for name, pool in report["pools"].items():
        dataset = official.benchmark.find(name)
        metric = dataset.metric if dataset else "hit@1"
        rows.append([name, metric, figure_text(system["tasks"][name][metric]), pool["num_queries"], pool["num_candidates"]])
    return ["dataset", "metric", "%", "queries", "candidates"], rows
