"""Commands `index`, `search` and `similar`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from embedrl import log
from embedrl.cli.arguments import need_folder, need_index, query_content, search_filter, weights, with_server_options
from embedrl.cli.options import (
    AsJson,
    ConfigFile,
    EmbedderName,
    EngineName,
    IndexPlace,
    Limit,
    MaxNewTokens,
    MinScore,
    Modalities,
    PathsOnly,
    RayAddress,
    ReasonerName,
    ServerOptions,
    ServerTimeout,
    Since,
    Skip,
    Think,
    Top,
    Under,
    Until,
    Words,
    Workers,
    commands,
)
from embedrl.cli.placement import places_models
from embedrl.errors import ConfigError

app = commands()
_moving = commands()


class _IndexOrMove(TyperCommand):
    """`embedrl index DIR`, and `embedrl index move SRC DST`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the arguments; after the word `move` they are those of the move (a folder of that name is `./move`)."""
        if args[:1] != ["move"]:
            return super().make_context(info_name, args, parent, **extra)
        return typer.main.get_command(_moving).make_context(f"{info_name} move", args[1:], parent, **extra)


@_moving.command()
def move_index(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The folder that was indexed, or a place in object storage.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A place in object storage (s3://bucket/name), or the folder again.")],
    as_json: AsJson = False,
) -> None:
    """Move the table of an index to object storage, or back; the folder knows where it lies. Counts and checksums are compared.

    \b
    Example: embedrl index move library s3://bucket/library
    """
    from embedrl.index.move import move

    with log.progress(None, "move") as bar:
        moved = move(source, target, on_progress=bar.reach)
    if as_json:
        log.print_json(moved.model_dump(mode="json"))
    else:
        log.result(f"{moved.source} -> {moved.target}: {moved.num_rows} files and pages, checksum {moved.checksum[:16]} at both ends")


@app.command("index", cls=_IndexOrMove)
@places_models
def index_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images, videos, PDFs and text files.")],
    reasoner: ReasonerName = "nano",
    embedder: EmbedderName = "nano",
    think: Think = True,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Items that are reasoned about and embedded at once.")] = 32,
    engine: EngineName = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    table: Annotated[
        str | None, typer.Option(help="Where a new index's table lies: object storage (s3://bucket/name); the folder remembers it.")
    ] = None,
    shelf: Annotated[str | None, typer.Option(help="For --table: what this folder is called in there; its own name unless given.")] = None,
    exact_below: Annotated[
        int | None, typer.Option(min=0, help="With fewer files and pages, compare with every vector; 50,000 at first.")
    ] = None,
    vector_index: Annotated[
        Literal["ivf-flat", "ivf-sq"] | None, typer.Option(help="Above: partitions of whole vectors (at first), or of shortened ones.")
    ] = None,
    recall: Annotated[float | None, typer.Option(min=0.01, max=1, help="Recall@10 to probe for, else stay exact; 0.99 at first.")] = None,
    rebuild_growth: Annotated[
        float | None, typer.Option(min=1.01, help="Build anew when the index has grown by this factor; 2 at first.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try files again that could not be used, and ask again where the answer was no T-CoT.")
    ] = False,
    limit: Limit = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a folder searchable, or take in what changed since. Files that cannot be read are listed; the exit code is then 1.

    So it is if the Reasoner had no answer for some items, or a T-CoT for none; they are found by their plain vectors until then.
    `embedrl index move SRC DST` moves an index to object storage, or back.

    \b
    Example: embedrl index library --no-think
    Example: embedrl index library --table s3://bucket/all --shelf camera-1
    """
    [reasoner] = with_server_options([reasoner], server_option, max_new_tokens, server_timeout)
    given = {"exact_below": exact_below, "kind": vector_index, "recall": recall, "growth": rebuild_growth}
    need_folder(folder)
    if shelf is not None and table is None:
        raise ConfigError(f"--shelf {shelf}: belongs to --table")
    from embedrl.cli.limits import limit_hint, set_limits
    from embedrl.runtime.names import check_names

    limits = set_limits(config, limit).limits
    check_names(reasoner if think else None, embedder)
    from embedrl.cli.listing import failure_line, warn_of_failures
    from embedrl.pipelines.index import index_by_name
    from embedrl.runtime.engine import Engine

    found = index_by_name(
        folder,
        reasoner if think else None,
        embedder,
        batch_size=batch_size,
        engine=Engine(engine, workers, ray_address),
        table=table,
        shelf=shelf,
        policy={name: value for name, value in given.items() if value is not None},
        retry_failed=retry,
        limits=limits,
    )
    if as_json:
        log.print_json(found.model_dump(mode="json"))
    else:
        log.result(
            f"{folder}: {found.added} new, {found.reused} known from elsewhere, {found.unchanged} unchanged, {found.removed} removed, "
            f"{len(found.failures)} failed; {found.without_tcot} of the new have no T-CoT; {found.seconds['total']:.1f} s"
        )
        for what, counts in (("of kinds that are not read", found.unread_kinds), ("left out by name", found.skipped)):
            if counts:
                log.info(f"{what}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}")
    for failure in found.failures:
        log.warn(failure_line(failure))
    if hint := limit_hint([failure.reason for failure in found.failures]):
        log.info(hint)
    if not found.num_files:
        log.warn(f"{folder}: there are no files in it; put images, videos, PDFs or texts there, and run this again")
    warn_of_failures(found.tcots, "--retry asks again")
    if found.failures or found.tcots.is_failure:
        raise typer.Exit(1)


@app.command("search")
@places_models
def search_index(
    text: Annotated[str | None, typer.Argument(help="What to look for; alone, or about the picture or video.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to look for.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video to look for.")] = None,
    index: IndexPlace = ".",
    reasoner: ReasonerName = "nano",
    embedder: EmbedderName = "nano",
    think: Think = True,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
    top: Top = 10,
    skip: Skip = 0,
    sort: Annotated[
        Literal["score", "newest", "oldest", "name"], typer.Option(help="In which order; other than score, the best 1,000.")
    ] = "score",
    min_score: MinScore = None,
    modality: Modalities = None,
    under: Under = None,
    since: Since = None,
    until: Until = None,
    words: Words = None,
    limit: Limit = None,
    config: ConfigFile = None,
    paths: PathsOnly = False,
    as_json: AsJson = False,
) -> None:
    """Search an indexed folder with words, a picture or a video, and show why something was found.

    \b
    Example: embedrl search "a small red star" --index library --top 5 --modality image --since 2024-05-01
    Example: embedrl search "a red star" --index library --paths | head -1
    """
    [reasoner] = with_server_options([reasoner], server_option, max_new_tokens, server_timeout)
    content, filter = query_content(text, image, video), search_filter(modality, under, since, until, words)
    need_index(index)
    from embedrl.cli.limits import set_limits
    from embedrl.runtime.names import check_names, load_both

    set_limits(config, limit)
    check_names(reasoner if think else None, embedder)
    from embedrl.cli.listing import show, show_paths, warn_of_plain
    from embedrl.index.index import Index
    from embedrl.index.query import Query
    from embedrl.index.search import search

    query = Query(content, filter=filter, min_score=min_score, sort=sort, use_tcot=think, offset=skip, limit=top)
    Index.open(index)  # a missing index is said before a model is loaded
    reasons, embeds = load_both(reasoner if think else None, embedder)
    opened = Index.open(index, embedder=embeds)
    result = search(opened, query, embeds, reasons)
    if paths:
        warn_of_plain(result)
        show_paths(opened, result.hits)
    else:
        show(result, as_json=as_json)


@app.command("similar")
@places_models
def similar_items(
    liked: Annotated[list[str], typer.Argument(metavar="KEY[=WEIGHT]...", help="Items of the index, by 6 or more digits of their keys.")],
    unlike: Annotated[list[str] | None, typer.Option(metavar="KEY[=WEIGHT]", help="An item to keep away from; may be repeated.")] = None,
    diversity: Annotated[float, typer.Option(min=0, max=1, help="0: the nearest; towards 1: ever more different ones.")] = 0.0,
    index: IndexPlace = ".",
    think: Annotated[bool, typer.Option("--think/--no-think", help="Compare items with their T-CoTs, or as they are.")] = True,
    top: Top = 10,
    skip: Skip = 0,
    min_score: MinScore = None,
    modality: Modalities = None,
    under: Under = None,
    since: Since = None,
    until: Until = None,
    words: Words = None,
    paths: PathsOnly = False,
    as_json: AsJson = False,
) -> None:
    """Recommend what is like some items of the index and unlike others, and say why. Needs no model.

    \b
    Example: embedrl similar 3fa94c 77ab01=0.5 --unlike 90c1de --diversity 0.3 --index library
    """
    filter, likes, dislikes = search_filter(modality, under, since, until, words), weights(liked), weights(unlike or [])
    need_index(index)
    from embedrl.cli.listing import show_paths, show_recommended
    from embedrl.index.index import Index
    from embedrl.index.recommend import Examples, recommend

    examples = Examples(
        liked=likes,
        disliked=dislikes,
        diversity=diversity,
        filter=filter,
        min_score=min_score,
        use_tcot=think,
        offset=skip,
        limit=top,
    )
    opened = Index.open(index)
    result = recommend(opened, examples)
    if paths:
        show_paths(opened, [item.hit for item in result.items])
    else:
        show_recommended(result, asked_for_tcots=think, as_json=as_json)
