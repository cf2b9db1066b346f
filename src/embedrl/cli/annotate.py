"""Commands that make and prepare data: the generated world, annotating and filtering pairs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedrl import log
from embedrl.cli.arguments import need_folder
from embedrl.cli.help import SHOWING, TRAINING
from embedrl.cli.option_groups import Decoding, EngineOptions, ServerSettings
from embedrl.cli.options import ReasonerName, Seed, commands
from embedrl.cli.placement import places_models
from embedrl.cli.stopping import says_what_is_kept
from embedrl.errors import ConfigError
from embedrl.parameters import expand_groups

app = commands()
world_app = commands(
    help="The generated world, a synthetic dataset with ground truth.\n\n\b\nExample: embedrl world make library --pairs 120"
)
app.add_typer(world_app, name="world", rich_help_panel=SHOWING)


@world_app.command("make", short_help="Write the generated world: media files and pairs.")
def world_make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    pairs: Annotated[int, typer.Option(min=1, help="Number of (query, target) pairs, spread evenly over the tasks.")] = 120,
    seed: Seed = 0,
    split: Annotated[Literal["train", "rl", "test"], typer.Option(help="Splits share no combination of attributes.")] = "test",
) -> None:
    """Write images, clips and pages with their pairs and ground-truth T-CoTs.

    \b
    Example: embedrl world make library --pairs 120 --seed 7
    """
    from embedrl.world.write import make_world

    num_files = make_world(folder, pairs, seed, split)
    log.result(f"{folder}: {pairs} pairs in {num_files} media files")


@app.command("annotate", short_help="Write T-CoTs for the pairs of a dataset.", rich_help_panel=TRAINING)
@says_what_is_kept("T-CoTs that are written are kept; the same command goes on with the rest")
@places_models
@expand_groups
def annotate_pairs(
    source: Annotated[str, typer.Argument(help="Dataset format: lines, folder, mmeb, llava-hound-caption, vidore, visrag, embed-rl, ...")],
    path: Annotated[Path, typer.Argument(help="The data file or folder.")],
    *,
    out: Annotated[Path, typer.Option(help="Output folder of the T-CoTs; a second run resumes.")],
    reasoner: ReasonerName = "nano",
    media_root: Annotated[Path | None, typer.Option(help="Folder that media paths are relative to.")] = None,
    task: Annotated[str | None, typer.Option(help="Task name of the pairs, in place of the data's own.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Items per batch; each batch is saved when it is done.", show_default="16")
    ] = None,
    servers: ServerSettings,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Concurrent requests to a server.", show_default="16")] = None,
    answer_share: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of queries whose prompt shows the target's text; marked in their records.")
    ] = 0.0,
    retry: Annotated[
        Literal["malformed", "failed"] | None, typer.Option(help="Retry only the T-CoTs that were malformed, or that failed.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Stop after generating this many tokens.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    give_up_after: Annotated[int, typer.Option(min=1, help="Abort after this many consecutive failures of the model.")] = 16,
    engine: EngineOptions,
    decoding: Decoding,
) -> None:
    """Write a T-CoT for both sides of each pair of a dataset; a killed run resumes.

    \b
    Example: embedrl annotate lines library/pairs.jsonl --out runs/annotated
    """
    [reasoner] = servers.added_to([reasoner])
    decoding.apply()
    from embedrl.cli.limits import limit_hint
    from embedrl.runtime.names import check_names

    check_names(reasoner, None)
    from embedrl.cli.listing import warn_of_failures
    from embedrl.pipelines import annotate as annotating

    report = annotating.annotate_source(
        source,
        path,
        out,
        reasoner,
        media_root=media_root,
        task=task,
        batch_size=batch_size,
        concurrency=concurrency,
        answer_share=answer_share,
        retry=retry,
        max_tokens=max_tokens,
        max_seconds=max_seconds,
        give_up_after=give_up_after,
        engine=engine.read(),
    )
    log.result(f"{out}: {annotating.annotate_line(report)}")
    for example in report.examples:
        log.warn(example)
    if hint := limit_hint(report.examples):
        log.info(hint)
    warn_of_failures(report.tcots, "--retry malformed asks again", "--retry failed asks again")
    if report.malformed or report.failed or report.num_problems:
        raise typer.Exit(1)


@app.command("filter", short_help="Filter annotated pairs by whether their T-CoTs match.", rich_help_panel=TRAINING)
@places_models
@expand_groups
def filter_pairs_of(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of `embedrl annotate`.")],
    *,
    judge: Annotated[str | None, typer.Option(help="Reasoner that judges whether the T-CoTs of a pair match; none by default.")] = None,
    reasoner: Annotated[str | None, typer.Option(help="Use the T-CoTs of this Reasoner, if the folder holds several.")] = None,
    servers: ServerSettings,
    rl_share: Annotated[float, typer.Option(min=0, max=1, help="Fraction of the rejected pairs written to rl.jsonl.")] = 0.5,
    mine: Annotated[int, typer.Option(min=0, help="Hard negatives added to each kept pair; the judge filters false negatives.")] = 0,
    embedder: Annotated[str | None, typer.Option(help="Embedder of --mine: its cosines rank the candidates.")] = None,
) -> None:
    """Filter annotated pairs into contrastive.jsonl, rl.jsonl and rejected.jsonl, with the reasons.

    \b
    Example: embedrl filter runs/annotated --judge nano-judge
    Example: embedrl filter runs/annotated --judge nano-judge --mine 2 --embedder nano
    """
    from embedrl.annotate.filter import report_rows
    from embedrl.annotate.mining import Mined, mined_line
    from embedrl.pipelines import annotate as annotating
    from embedrl.runtime.names import check_names

    need_folder(folder)
    if (mine > 0) != (embedder is not None):
        raise ConfigError("--mine and --embedder go together: hard negatives are the nearest targets by an Embedder's vectors")
    [judge] = servers.added_to([judge] if judge else []) or [None]
    check_names(None, embedder)  # before anything is filtered
    judges = annotating.load_judge(judge) if judge else None
    report = annotating.filter_annotated(folder, judges, reasoner=reasoner, rl_share=rl_share)
    log.table("Pairs kept, and rejected by reason", *report_rows(report))
    log.result(annotating.filter_line(report, folder))
    if embedder:
        mined = annotating.mine_annotated(folder, embedder, judges, mine)
        log.table(
            "Hard negatives",
            ["dataset", *Mined.model_fields],
            [[task, *map(str, counts.model_dump().values())] for task, counts in mined.items()],
        )
        log.result(mined_line(mined))
