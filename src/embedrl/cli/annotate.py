"""Commands that make and prepare data: the generated world, annotating and filtering pairs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedrl import log
from embedrl.cli.arguments import need_folder, with_server_options
from embedrl.cli.options import (
    ConfigFile,
    EngineName,
    Limit,
    MaxNewTokens,
    RayAddress,
    ReasonerName,
    Seed,
    ServerOptions,
    ServerTimeout,
    Workers,
    commands,
)
from embedrl.cli.placement import places_models
from embedrl.cli.stopping import says_what_is_kept

app = commands()
world_app = commands(help="The generated world, a small problem with known answers.\n\n\b\nExample: embedrl world make library --pairs 120")
app.add_typer(world_app, name="world")


@world_app.command("make", short_help="Write the generated world: media files and pairs.")
def world_make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many (query, target) pairs, spread over all tasks.")] = 120,
    seed: Seed = 0,
    split: Annotated[Literal["train", "rl", "test"], typer.Option(help="Splits share no combination of attributes.")] = "test",
) -> None:
    """Write pictures, clips and pages with their pairs and their true T-CoTs.

    \b
    Example: embedrl world make library --pairs 120 --seed 7
    """
    from embedrl.world.write import make_world

    num_files = make_world(folder, pairs, seed, split)
    log.result(f"{folder}: {pairs} pairs in {num_files} media files")


@app.command("annotate", short_help="Write T-CoTs for the pairs of a data set.")
@says_what_is_kept("T-CoTs that are written are kept; the same command goes on with the rest")
@places_models
def annotate_pairs(
    source: Annotated[str, typer.Argument(help="The format: lines, folder, mmeb, llava-hound-caption, vidore, visrag, embed-rl, ...")],
    path: Annotated[Path, typer.Argument(help="The data file or folder.")],
    out: Annotated[Path, typer.Option(help="Where T-CoTs are kept; a second run does what is missing.")],
    reasoner: ReasonerName = "nano",
    media_root: Annotated[Path | None, typer.Option(help="The folder that names of media are relative to.")] = None,
    task: Annotated[str | None, typer.Option(help="What the pairs are called, if not as the data says.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Items that are reasoned about at once, and then kept.", show_default="16")
    ] = None,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests to a server at once.", show_default="16")] = None,
    answer_share: Annotated[
        float, typer.Option(min=0, max=1, help="This share of the queries is shown its target's text; their records say so.")
    ] = 0.0,
    retry: Annotated[Literal["malformed", "failed"] | None, typer.Option(help="Do these alone again.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Stop when so many tokens are written.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    give_up_after: Annotated[int, typer.Option(min=1, help="End with an error if the model fails for so many items in a row.")] = 16,
    engine: EngineName = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    limit: Limit = None,
    config: ConfigFile = None,
) -> None:
    """Write a T-CoT for both sides of each pair of a data set; a killed run goes on where it stopped.

    \b
    Example: embedrl annotate lines library/pairs.jsonl --out runs/annotated
    """
    [reasoner] = with_server_options([reasoner], server_option, max_new_tokens, server_timeout)
    from embedrl.cli.limits import limit_hint, set_limits
    from embedrl.runtime.names import check_names

    set_limits(config, limit)
    check_names(reasoner, None)
    from embedrl.cli.listing import warn_of_failures
    from embedrl.pipelines import annotate as annotating
    from embedrl.runtime.engine import Engine

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
        engine=Engine(engine, workers, ray_address),
    )
    log.result(f"{out}: {annotating.annotate_line(report)}")
    for example in report.examples:
        log.warn(example)
    if hint := limit_hint(report.examples):
        log.info(hint)
    warn_of_failures(report.tcots, "--retry malformed asks again", "--retry failed asks again")
    if report.malformed or report.failed or report.num_problems:
        raise typer.Exit(1)


@app.command("filter", short_help="Sort annotated pairs by whether their T-CoTs match.")
@places_models
def filter_pairs_of(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that was annotated into.")],
    judge: Annotated[str | None, typer.Option(help="Who says whether T-CoTs match: a Reasoner's name; without, nobody.")] = None,
    reasoner: Annotated[str | None, typer.Option(help="Whose T-CoTs, if several annotated there.")] = None,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
    rl_share: Annotated[float, typer.Option(min=0, max=1, help="This share of the rejected goes to rl.jsonl.")] = 0.5,
) -> None:
    """Sort annotated pairs into contrastive.jsonl, rl.jsonl and rejected.jsonl, with the reasons.

    \b
    Example: embedrl filter runs/annotated --judge nano-judge
    """
    from embedrl.annotate.filter import report_rows
    from embedrl.pipelines import annotate as annotating

    need_folder(folder)
    [judge] = with_server_options([judge] if judge else [], server_option, max_new_tokens, server_timeout) or [None]
    report = annotating.filter_annotated(folder, judge, reasoner=reasoner, rl_share=rl_share)
    log.table("Pairs kept, and rejected by reason", *report_rows(report))
    log.result(annotating.filter_line(report, folder))
