"""Evaluate Reasoners by name on the generated world: plain, each Reasoner's T-CoTs, and the true ones."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from embedrl import log
from embedrl.data.protocols import Embeds, Gates, Reasons
from embedrl.data.tcot import count_words
from embedrl.evaluation.cache import CachedEmbedder, InMemory
from embedrl.evaluation.evaluate import SystemResult, evaluate, join_seeds
from embedrl.evaluation.report import Report, figure_row, gain_kept, make_report, read_figure, write_report
from embedrl.evaluation.task import MODALITIES, RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.pipelines.world_controls import control_systems, partial_rows
from embedrl.reports.html import render_html, write_html
from embedrl.runtime.engine import LOCAL, Engine, start_models
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.world.claims import claims_of, selected
from embedrl.world.crowded.tasks import PARTIAL

SAMPLED = "temperature 1"
"""Beside greedy decoding in the crowded world: one sample of each T-CoT at the temperature of the rollouts' own distribution."""
TEACHER = "teacher"
SHIPPED = {"before_rl": "nano-sft", "after_rl": "nano"}
"""The shipped Reasoners, by what a report calls them; another one keeps its name."""


def evaluate_world(
    reasoners: Sequence[str],
    embedder: str,
    out: Path,
    *,
    num_queries: int = 32,
    pool_size: int = 256,
    seed: int = 0,
    num_seeds: int = 1,
    temperature: float = 0.0,
    world: str = "roomy",
    tasks: Sequence[str] = (),
    load_gate: Callable[[Embeds], Gates] | None = None,
    teacher: str | None = None,
    engine: Engine = LOCAL,
) -> Report:
    """Evaluate Reasoners by name (none: no T-CoTs but the true ones) on the held-out split; write report.json and report.html.

    With several seeds, from `seed` on, each draws queries and pools of its own, and the figures are of all queries. Above a temperature
    of 0 T-CoTs are sampled, from the seed. With a gate each Reasoner also stands there with only those queries reasoned about that the
    gate wants. A `teacher` is an Embedder that the evaluated one was distilled from: its vectors, plain and with the same T-CoTs, stand
    beside the plain ones of its student. In the crowded world each Reasoner stands beside its controls (`world_controls`), and
    beside itself at temperature 1, if it decodes greedily and runs here.
    """
    started = time.perf_counter()
    seeds = range(seed, seed + num_seeds)
    systems = {name: system for system, name in SHIPPED.items()}
    with start_models(engine, reasoners, embedder, temperature=temperature) as models:
        assert models.embedder is not None
        loaded = {systems.get(name, name): reasons for name, reasons in models.reasoners.items()}
        sampled = _sampled(reasoners, systems, temperature, engine) if world == "crowded" else {}
        gate = None if load_gate is None else load_gate(models.embedder)
        teaches = None if teacher is None else load_embedder(teacher)
        drawn, controls, taught = [], [], []
        for number in seeds:
            torch.manual_seed(number)
            drawn_tasks = world_tasks(seed=number, tasks=tasks, num_queries=num_queries, pool_size=pool_size, world=world)
            settings = {"max_in_flight": models.max_in_flight, "world": world}
            drawn.append(evaluate_systems(drawn_tasks, models.embedder, loaded, gate=gate, **settings))
            if teaches is not None:
                taught.append(teacher_systems(drawn_tasks, teaches, drawn[-1]))
            if world == "crowded":
                controls.append(
                    [
                        *(
                            evaluate(drawn_tasks, models.embedder, name=name, reasoner=sampler, claims=selected)
                            for name, sampler in sampled.items()
                        ),
                        *control_systems(drawn_tasks, models.embedder, [result for result in drawn[-1] if result.name in loaded]),
                    ]
                )
    results, control_results, teacher_results = (_join(parts) for parts in (drawn, controls, taught))
    report = make_report(results, seed=seed, seconds=time.perf_counter() - started, seeds=seeds)
    if control_results:
        report["controls"] = make_report(control_results, seed=seed, seconds=0.0)["systems"]
    if teacher_results:
        report["teacher"] = teacher_report(results[0], teacher_results, seed)
    write_report(report, out / "report.json")
    write_html(render_html(report, about=f"Held-out pairs of the generated world, embedded by {embedder}."), out / "report.html")
    return report


def measure_world(reasoners: Sequence[str], embedder: str, out: Path, **settings: Any) -> Report:
    """Evaluate on the world and print hit@1; `settings` are those of `evaluate_world`. Returns the report."""
    report = evaluate_world(reasoners, embedder, out, **settings)
    log.table("hit@1 and its 95 % interval, in %", *hit_rows(report))
    log.table("by task, hit@1 / mAP@10, in %", *task_rows(report))
    if gated := report.get("think"):
        log.table("queries that the gate wanted", *gate_rows(gated))
    if taught := report.get("teacher"):
        log.table("plain vectors beside their teacher: hit@1 and its 95 % interval, in %", *hit_rows({**report, **taught}))
        log.table("of the teacher's gain by T-CoTs, kept in plain vectors", *kept_rows(taught))
    if partial := [task for task in report["pools"] if task in PARTIAL]:
        log.table("partial descriptions", *partial_rows(report, partial))
    if controls := report.get("controls"):
        log.table("controls: hit@1 and its 95 % interval, in %", *hit_rows({**report, "systems": controls}))
    log.info(f"{out / 'report.html'} shows more")
    return report


def teacher_systems(tasks: Sequence[RetrievalTask], teacher: Embeds, systems: Sequence[SystemResult]) -> list[SystemResult]:
    """Evaluate a teacher plain, and with the T-CoTs that each system has for all queries, named "teacher, SYSTEM"."""
    always = [system for system in systems[1:] if system.gate is None]
    return [
        evaluate(tasks, teacher, name=f"{TEACHER}, {systems[0].name}"),
        *(evaluate(tasks, teacher, name=f"{TEACHER}, {system.name}", tcots=system.answers) for system in always),
    ]


def teacher_report(student: SystemResult, teacher: Sequence[SystemResult], seed: int) -> Report:
    """Return systems and differences of a student's plain vectors and its teacher's, and the share of the teacher's gain that is kept."""
    report = make_report([student, *teacher], seed=seed, seconds=0.0)
    kept = {system.name.removeprefix(f"{TEACHER}, "): gain_kept(student, teacher[0], system, seed=seed) for system in teacher[1:]}
    return {
        "systems": report["systems"],
        "differences": report["differences"],
        "gain_kept": {name: figure_row(share) for name, share in kept.items() if share is not None},
    }


def gate_rows(gated: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: what a gate decided."""
    rows = [
        [
            system,
            f"{row['num_reasoned']} of {row['num_queries']}",
            "not known" if row["share_of_tokens"] is None else f"{row['share_of_tokens']:.2f}",
            row["gate"],
        ]
        for system, row in gated.items()
    ]
    return ["system", "queries reasoned about", "share of tokens", "gate"], rows


def kept_rows(taught: Report) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: share of the gain in hit@1 that plain vectors keep."""
    return ["T-CoTs", "share, %"], [[name, figure_text(row)] for name, row in taught["gain_kept"].items()]


def _join(parts: Sequence[Sequence[SystemResult]]) -> list[SystemResult]:
    """Put the results of all seeds together, system by system."""
    return list(parts[0]) if len(parts) == 1 else [join_seeds(of_system) for of_system in zip(*parts, strict=True)]


def _sampled(reasoners: Sequence[str], systems: Mapping[str, str], temperature: float, engine: Engine) -> dict[str, Reasons]:
    """Load the Reasoners again, to sample at temperature 1; none if they sample already, or run elsewhere."""
    if temperature:
        return {}
    if engine.kind != "local":
        log.warn("T-CoTs at temperature 1: left out, since what is sampled on Ray cannot be repeated")
        return {}
    return {f"{systems.get(name, name)}, {SAMPLED}": load_reasoner(name, temperature=1.0) for name in reasoners}


def hit_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: hit@1 of each system, over all and by modality."""
    groups = ["overall", *(group for group in MODALITIES if group in report["groups"])]
    rows = [[system, *(figure_text(figures[group]["hit@1"]) for group in groups)] for system, figures in report["systems"].items()]
    sizes = [
        f"{group} ({report['groups'][group]['num_queries']} queries, {report['groups'][group]['num_families']} families)"
        for group in groups
    ]
    return ["system", *sizes], rows


def task_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: figures of each task."""
    rows = []
    for task, size in report["pools"].items():
        figures = [groups["tasks"][task] for groups in report["systems"].values()]
        rows.append(
            [
                task,
                str(size["num_queries"]),
                *(f"{figure_text(metrics['hit@1'])} / {100 * metrics['map@10']['value']:.1f}" for metrics in figures),
            ]
        )
    return ["task", "queries", *report["systems"]], rows


def figure_text(row: Mapping[str, Any]) -> str:
    """Show a report's figure and its interval, in %."""
    return read_figure(row).text(".1f", scale=100)


def evaluate_systems(
    tasks: Sequence[RetrievalTask],
    embedder: Embeds,
    reasoners: Mapping[str, Reasons],
    *,
    gate: Gates | None = None,
    max_in_flight: int = 1,
    world: str = "roomy",
) -> list[SystemResult]:
    """Evaluate without T-CoTs, with those of each Reasoner, and with the true ones. Lengths are in the last Reasoner's tokens.

    With a gate, "REASONER, auto" stands before each Reasoner: its T-CoTs for the queries that the gate wants. Each item is embedded once
    plain and once with each T-CoT, however many systems share them.
    """
    embedder = CachedEmbedder(embedder, InMemory())
    count_tokens: Callable[[str], int] = count_words
    for reasoner in reasoners.values():
        count_tokens = getattr(reasoner, "num_tokens", count_words)
    settings: dict[str, Any] = {"claims": claims_of(world), "count_tokens": count_tokens, "max_in_flight": max_in_flight}
    truths = {key: tcot for task in tasks for key, tcot in task.truths.items()}
    results = [evaluate(tasks, embedder, name="plain", max_in_flight=max_in_flight)]
    for name, reasoner in reasoners.items():
        always = evaluate(tasks, embedder, name=name, reasoner=reasoner, **settings)
        if gate is not None:
            results.append(evaluate(tasks, embedder, name=f"{name}, auto", tcots=always.answers, gate=gate, **settings))
        results.append(always)
    return [*results, evaluate(tasks, embedder, name="ceiling", tcots=truths, **settings)]
