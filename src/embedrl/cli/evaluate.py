"""Commands `evaluate`, `doctor` and `report`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from embedrl import log
from embedrl.cli.dial import DialCommand, EvaluationDial, GateFile, ThinkBudget, find_gate, load_gate, read_dial
from embedrl.cli.help import MEASURING, SEARCHING
from embedrl.cli.option_groups import Decoding, EngineOptions, ModelServers, with_preset
from embedrl.cli.options import AsJson, Datasets, Preset, Seed, commands
from embedrl.cli.placement import places_models
from embedrl.cli.stopping import says_what_is_kept
from embedrl.errors import ConfigError
from embedrl.parameters import expand_groups

app = commands()


@app.command("evaluate", cls=DialCommand, short_help="Evaluate retrieval on the world, MMEB-V2 or UVRB.", rich_help_panel=MEASURING)
@says_what_is_kept("T-CoTs and vectors of a benchmark are kept; the same command goes on with the rest")
@places_models
@expand_groups
def evaluate_on_benchmark(
    benchmark: Annotated[str, typer.Argument(metavar="BENCH", help="world (generated on the fly), MMEB-V2 or UVRB.")],
    *,
    data: Annotated[Path | None, typer.Option(help="The folder of the benchmark's files; the world needs none.")] = None,
    reasoner: Annotated[
        list[str] | None, typer.Option(help="Reasoner: a name, a folder or a URL; repeatable on the world, to compare several.")
    ] = None,
    embedder: Annotated[str | None, typer.Option("--embedder", help="Embedder, named as for `index`; nano by default.")] = None,
    models: Preset = None,
    servers: ModelServers,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/evaluate-BENCH by default.")] = None,
    dataset: Datasets = None,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames per video, for a benchmark's files.")] = 8,
    mmeb_compat: Annotated[bool, typer.Option(help="Grade pages as MMEB-V2's evaluator does, including its bugs.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Cache folder of T-CoTs and vectors; the run folder by default.")] = None,
    tcots: Annotated[Path | None, typer.Option(help="A folder of published T-CoT files instead of a Reasoner (MMEB-V2).")] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="TOML file of custom instructions: one table per dataset or modality, with `query` and `candidate`.")
    ] = None,
    num_queries: Annotated[int, typer.Option(min=1, help="Queries per task of the world.")] = 32,
    pool_size: Annotated[int, typer.Option(min=2, help="Minimum candidates per task of the world.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature of the Reasoner on the world; 0 is greedy.")] = 0.0,
    seed: Seed = 0,
    num_seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of the world, starting at --seed; each has its own queries.")] = 1,
    world: Annotated[str, typer.Option(help="Which world: roomy, or crowded (partial descriptions, selection).")] = "roomy",
    think: EvaluationDial = None,
    gate: GateFile = None,
    think_budget: ThinkBudget = None,
    teacher: Annotated[
        str | None, typer.Option(help="On the world: the Embedder that this one was distilled from, to stand beside its plain vectors.")
    ] = None,
    engine: EngineOptions,
    decoding: Decoding,
) -> None:
    """Evaluate retrieval on the generated world, or on the official files of a benchmark, where a killed run resumes.

    \b
    Example: embedrl evaluate world --num-queries 32 --out runs/world
    Example: embedrl evaluate world --think auto --gate gate.json --think-budget 0.5
    Example: embedrl evaluate world --embedder runs/nano/distilled-embedder/model --teacher nano
    Example: embedrl evaluate MMEB-V2 --data mmeb --reasoner qwen3-vl-8b --embedder embed-rl-2b --out runs/mmeb
    Example: embedrl evaluate MMEB-V2 --data mmeb --tcots tcots --embedder embed-rl-2b --out runs/mmeb
    """
    dial = read_dial(think, gate, think_budget)
    is_world = benchmark.lower() == "world"
    if not is_world:
        from embedrl.evaluation.benchmarks.register import find_benchmark

        find_benchmark(benchmark, "world")
    if tcots is not None and (reasoner or dial not in (None, "always") or is_world):
        raise ConfigError("--tcots replaces the Reasoner: leave out --reasoner and --no-think, --think auto and --gate")
    if teacher is not None and not is_world:
        raise ConfigError(f"--teacher: only on the world; evaluate {benchmark} with each of the two as --embedder, and compare the runs")
    preset_reasoner, embedder = with_preset(models, reasoner[0] if reasoner else None, embedder)
    reasoner, embedder = reasoner or ([preset_reasoner] if preset_reasoner else None), embedder or "nano"
    shipped = ["nano-sft", "nano"] if is_world else ["nano"]
    out, reasoners = out or Path(f"runs/evaluate-{benchmark.lower()}"), (reasoner or shipped) if dial != "never" and tcots is None else []
    gate = find_gate(gate, embedder) if dial == "auto" else None  # said before models are loaded
    reasoners, embedder = servers.added_to_both(reasoners, embedder)
    from embedrl.runtime.names import check_names

    decoding.apply()
    for name in reasoners or [None]:
        check_names(name, embedder)
    check_names(None, teacher)
    chosen = engine.read()
    gates = {"load_gate": None if gate is None else lambda embeds: load_gate(gate, think_budget, embeds.fingerprint)}
    if is_world:
        if instructions is not None:
            raise ConfigError("--instructions: only for a benchmark's files; the world has its own")
        from embedrl.pipelines.evaluate_world import measure_world

        settings = {"num_queries": num_queries, "pool_size": pool_size, "seed": seed, "num_seeds": num_seeds}
        of = {"world": world, "tasks": tuple(dataset or ()), "teacher": teacher, **gates}
        _report_missing(measure_world(reasoners, embedder, out, engine=chosen, temperature=temperature, **of, **settings))
        return
    if len(reasoners) > 1 or temperature:
        raise ConfigError(f"{benchmark}: give one --reasoner and no --temperature; several Reasoners and sampling are for the world")
    from embedrl.pipelines.benchmark import BenchmarkRun, measure

    run = BenchmarkRun(benchmark=benchmark, datasets=dataset or (), num_frames=num_frames, seed=seed, mmeb_compat=mmeb_compat)
    reasons = reasoners[0] if reasoners else None
    _report_missing(measure(run, data, reasons, embedder, out, cache, tcots, chosen, instructions, **gates))


def _report_missing(report: dict[str, Any]) -> None:
    """Report items that were embedded without a T-CoT; exit with 1 if the Reasoner failed on some."""
    from embedrl.cli.listing import warn_of_failures
    from embedrl.evaluation.report import tcot_counts

    systems = tcot_counts(report)
    for system, counts in systems.items():
        warn_of_failures(counts, system=system)
    if any(counts.is_failure for counts in systems.values()):
        raise typer.Exit(1)


@app.command("doctor", short_help="Check the installation, an index, or a benchmark.", rich_help_panel=SEARCHING)
@places_models
@expand_groups
def doctor(
    benchmark: Annotated[
        str | None,
        typer.Argument(metavar="BENCH", help="What to check: MMEB-V2 or UVRB (files), index, or parity (other engines)."),
    ] = None,
    data: Annotated[Path | None, typer.Argument(metavar="DIR", help="The folder of the benchmark's files, or the indexed folder.")] = None,
    *,
    dataset: Datasets = None,
    embedder: Annotated[str | None, typer.Option(help="For parity: nano, or the folder of a saved model.")] = None,
    server: Annotated[
        str | None,
        typer.Option(help="For parity: URL (…/v1) of an engine that serves that folder, such as vLLM or embedrl serve."),
    ] = None,
    extract_frames: Annotated[
        bool, typer.Option("--extract-frames", help="For a benchmark: first extract missing frames from raw videos.")
    ] = False,
    videos: Annotated[Path | None, typer.Option(help="Folder of the raw videos; the benchmark's folder by default.")] = None,
    decoding: Decoding,
) -> None:
    """Check the installation, or a benchmark's files: missing files, wrong counts, unreadable media. Exits with 1 if a check fails.

    `doctor parity` sends the same items through embedrl, plain transformers, sentence-transformers and a server, and names the first
    stage that differs: text, token ids, pixel grid, pixels, pooled position, vector.

    \b
    Example: embedrl doctor
    Example: embedrl doctor MMEB-V2 mmeb --dataset MSVD
    Example: embedrl doctor MMEB-V2 mmeb --dataset MSVD --extract-frames --videos downloads/msvd
    Example: embedrl doctor index library
    Example: embedrl doctor parity --embedder runs/embedder/model
    """
    decoding.apply()
    if benchmark not in (None, "index", "parity"):
        from embedrl.evaluation.benchmarks.register import find_benchmark

        find_benchmark(benchmark, "index", "parity")
    from embedrl.cli.doctor import run_checks

    if not run_checks(benchmark, data, dataset or (), embedder=embedder, server=server, extract_frames=extract_frames, videos=videos):
        raise typer.Exit(1)


@app.command("report", short_help="Compare scores with the published ones.", rich_help_panel=MEASURING)
def report_scores(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_DIR...", help="Leaderboard files or folders of score files, one per system.")
    ],
    benchmark: Annotated[str | None, typer.Option(help="MMEB-V2 or UVRB; inferred from the datasets by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write tables.json and tables.html here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare benchmark scores with the published ones; a mean over incomplete datasets is not shown.

    Several run folders are also compared with each other, paired by query.

    \b
    Example: embedrl report runs/mmeb --out runs/mmeb/report
    Example: embedrl report runs/plain runs/tcot --out runs/both
    """
    from embedrl.reports.score_tables import console_rows, difference_tables, pair_notes, report_tables, tables_json, write_tables

    tables = report_tables(paths, benchmark)
    if out is not None:
        write_tables(tables, out)
    if as_json:
        log.print_json(tables_json(tables))
        return
    for table in tables:
        columns, rows, footnotes = console_rows(table)
        log.table(table.title, columns, rows)
        for title, heads, lines in difference_tables(table):
            log.table(title, heads, lines)
        for note in (*footnotes, *pair_notes(table)):
            log.info(note)
