"""Commands that measure retrieval."""

from pathlib import Path
from typing import Annotated

import typer

from embedrl import log
from embedrl.app.commands.options import AsJson, EmbedderName, Seed, Think, commands

app = commands()
evaluate_app = commands(help="Measure retrieval.\n\n\b\nExample: embedrl evaluate world --out runs/world")
app.add_typer(evaluate_app, name="evaluate")


@evaluate_app.command("world")
def evaluate_on_world(
    reasoner: Annotated[list[str] | None, typer.Option(help="Who writes T-CoTs, as elsewhere; give several to compare them.")] = None,
    embedder: EmbedderName = "nano",
    out: Annotated[Path, typer.Option(help="Run folder for report.json and report.html.")] = Path("runs/evaluate-world"),
    num_queries: Annotated[int, typer.Option(min=1, help="Queries per task.")] = 32,
    pool_size: Annotated[int, typer.Option(min=2, help="Candidates per task, at least.")] = 256,
    seed: Seed = 0,
    think: Think = True,
    temperature: Annotated[float, typer.Option(min=0, help="Of the Reasoner; 0 is greedy.")] = 0.0,
) -> None:
    """Measure retrieval without T-CoTs, with the Reasoner's and with the true ones, on the world's held-out split.

    \b
    Example: embedrl evaluate world --num-queries 32 --out runs/world
    """
    from embedrl.app.evaluating import evaluate_world, hit_rows

    report = evaluate_world(
        (reasoner or ["nano-sft"]) if think else [],
        embedder,
        out,
        num_queries=num_queries,
        pool_size=pool_size,
        seed=seed,
        temperature=temperature,
    )
    log.table("hit@1 and its 95 % interval, in %", *hit_rows(report))
    log.info(f"{out / 'report.html'} shows more")


@app.command("report")
def report_scores(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_DIR...", help="Leaderboard files, or folders of score files; one for each system.")
    ],
    benchmark: Annotated[str | None, typer.Option(help="MMEB-V2 or UVRB, if the datasets do not say.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write tables.json and tables.html here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put scores on the field's benchmarks beside the published ones; a mean that lacks a dataset is not shown.

    \b
    Example: embedrl report runs/mmeb --out runs/mmeb/report
    """
    from embedrl.app.tables import console_rows, report_tables, tables_json, write_tables

    tables = report_tables(paths, benchmark)
    if out is not None:
        write_tables(tables, out)
    if as_json:
        log.print_json(tables_json(tables))
        return
    for table in tables:
        columns, rows, footnotes = console_rows(table)
        log.table(table.title, columns, rows)
        for note in footnotes:
            log.info(note)
