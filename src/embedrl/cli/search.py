"""Commands `search` and `similar`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embedrl import log
from embedrl.cli.arguments import need_index, query_content, search_filter, weights, with_options_of_both, with_preset
from embedrl.cli.dial import Dial, DialCommand, GateFile, ThinkBudget, ThinkDial, read_dial, reasons
from embedrl.cli.help import SEARCHING
from embedrl.cli.models import load_with_gate, warn_if_blind
from embedrl.cli.options import (
    Area,
    AsJson,
    Camera,
    ConfigFile,
    IndexEmbedder,
    IndexPlace,
    IndexReasoner,
    Like,
    Limit,
    Local,
    MatchWords,
    MaxNewTokens,
    MinScore,
    Modalities,
    OpenFirst,
    PathsOnly,
    Preset,
    Rerank,
    RerankerName,
    ResultUnitName,
    ServerOptions,
    ServerTimeout,
    Since,
    Skip,
    Top,
    Under,
    Until,
    Words,
    commands,
)
from embedrl.cli.placement import places_models
from embedrl.errors import StoreError

if TYPE_CHECKING:
    from embedrl.index.hit import Hit
    from embedrl.index.query import Query
    from embedrl.index.search import SearchResult
    from embedrl.server.running import Announcement

app = commands()


@app.command("search", cls=DialCommand, short_help="Search an indexed folder by text, image or video.", rich_help_panel=SEARCHING)
@places_models
def search_index(
    text: Annotated[str | None, typer.Argument(help="Text query; alone, or about the image or video.")] = None,
    image: Annotated[Path | None, typer.Option(help="Query image.")] = None,
    video: Annotated[Path | None, typer.Option(help="Query video.")] = None,
    index: IndexPlace = ".",
    reasoner: IndexReasoner = None,
    embedder: IndexEmbedder = None,
    models: Preset = None,
    think: ThinkDial = None,
    local: Local = False,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
    like: Like = None,
    top: Top = 10,
    skip: Skip = 0,
    sort: Annotated[
        Literal["score", "newest", "oldest", "name"], typer.Option(help="Sort order; other than by score, of the top 1,000.")
    ] = "score",
    min_score: MinScore = None,
    unit: ResultUnitName = "file",
    modality: Modalities = None,
    under: Under = None,
    since: Since = None,
    until: Until = None,
    words: Words = None,
    match: MatchWords = "filter",
    rerank: Rerank = 0,
    reranker: RerankerName = "judge",
    gate: GateFile = None,
    think_budget: ThinkBudget = None,
    camera: Camera = None,
    area: Area = None,
    limit: Limit = None,
    config: ConfigFile = None,
    paths: PathsOnly = False,
    open_first: OpenFirst = False,
    as_json: AsJson = False,
) -> None:
    """Search an indexed folder by text, image or video, with evidence for each hit.

    \b
    Example: embedrl search "a small red star" --index library --top 5 --modality image --since 2024-05-01
    Example: embedrl search "a red star" --index library --paths | head -1
    """
    reasoner, embedder = with_preset(models, reasoner, embedder)
    [reasoner], embedder = with_options_of_both([reasoner], embedder, server_option, max_new_tokens, server_timeout, like)
    content, filter = query_content(text, image, video), search_filter(modality, under, since, until, words, camera, area)
    dial = read_dial(think, gate, think_budget)
    need_index(index)
    from embedrl.cli.limits import set_limits
    from embedrl.runtime.names import check_names

    set_limits(config, limit)
    check_names(reasoner if dial != "never" else None, embedder)  # before anything that takes long to import
    from embedrl.cli.listing import show, show_paths, warn_of_plain
    from embedrl.index.query import Query

    query = Query(content, filter=filter, min_score=min_score, sort=sort, unit=unit, offset=skip, limit=top, match=match, rerank=rerank)
    is_plain = not any((local, rerank, gate, limit, config, server_option, max_new_tokens, server_timeout, like))
    server = running_server(index, reasoner, embedder, reasons(dial)) if is_plain else None
    result = _ask_server(server, query, index, dial, think_budget) if server else None
    if result is None:
        result = _search_here(query, index, reasoner, embedder, dial, reranker, gate, think_budget)
    if paths:
        warn_of_plain(result)
        show_paths(index, result.hits)
    else:
        show(result, as_json=as_json)
    if open_first:
        open_best(index, result.hits)


def running_server(index: str, reasoner: str | None, embedder: str | None, think: bool | None) -> "Announcement | None":
    """Return the running server of this index if it has the requested models; else None."""
    from embedrl.index.location import find_home
    from embedrl.index.model_names import ModelNames
    from embedrl.server.running import find_server

    home = find_home(index)
    server = find_server(home.directory) if home.directory and not home.shelf else None
    if server is None:
        return None
    runs = server.models
    wanted = ModelNames.of(reasoner or runs.reasoner, embedder or runs.embedder)
    if (wanted.reasoner, wanted.embedder) != (runs.reasoner, runs.embedder) or (think and wanted.reasoner is None):
        log.info(f"the server at {server.url} runs other models ({runs.embedder}, {runs.reasoner}) and is not used")
        return None
    return server


def _ask_server(server: "Announcement", query: "Query", index: str, dial: Dial | None, budget: float | None) -> "SearchResult | None":
    """Search through the running server; None, with the reason logged, if it refuses."""
    from embedrl.server.client import search_running

    use_tcot = server.models.reasoner is not None and dial != "never"
    how = {"think": dial if use_tcot else None, "think_budget": budget}
    try:
        result = search_running(server, replace(query, use_tcot=use_tcot), token=os.environ.get("EMBEDRL_TOKEN"), **how)
    except StoreError as error:
        log.info(f"{error}; searching here")
        return None
    warn_if_blind(server.models, index, again=True)
    log.info(f"asked {server.url}, which serves this index; --local searches here")
    return result


def _search_here(
    query: "Query",
    index: str,
    reasoner: str | None,
    embedder: str | None,
    dial: Dial | None,
    reranker: str,
    gate: Path | None,
    budget: float | None,
) -> "SearchResult":
    from embedrl.index.index import Index
    from embedrl.index.search import search
    from embedrl.runtime.names import load_reranker

    loaded_reasoner, loaded_embedder, loaded_gate = load_with_gate(index, reasoner, embedder, dial, gate, budget, alone=not query.rerank)
    loaded_reranker = load_reranker(reranker, loaded_reasoner, loaded_embedder) if query.rerank else None
    opened = Index.open(index, embedder=loaded_embedder)
    return search(
        opened,
        replace(query, use_tcot=loaded_reasoner is not None),
        loaded_embedder,
        loaded_reasoner,
        reranker=loaded_reranker,
        gate=loaded_gate,
    )


def open_best(index: str, hits: "Sequence[Hit]") -> None:
    """Open the top hit's file in the desktop's default program."""
    from embedrl.index.location import find_home

    if not hits:
        return
    path = find_home(index).locate(hits[0].path)
    if not path.is_file():
        raise StoreError(f"--open: {str(path)!r} is no file of this machine")
    log.info(f"opening {path}")
    if typer.launch(str(path), wait=True):
        raise StoreError(f"--open: this desktop has no program that opens {str(path)!r}")


@app.command("similar", short_help="Recommend items similar to some of an index.", rich_help_panel=SEARCHING)
@places_models
def similar_items(
    liked: Annotated[
        list[str], typer.Argument(metavar="KEY[=WEIGHT]...", help="Items of the index, by 6 or more leading digits of their keys.")
    ],
    unlike: Annotated[list[str] | None, typer.Option(metavar="KEY[=WEIGHT]", help="Negative example; repeatable.")] = None,
    diversity: Annotated[
        float,
        typer.Option(min=0, max=1, help="Diversity (maximal marginal relevance): 0 for the nearest items, towards 1 for more varied ones."),
    ] = 0.0,
    index: IndexPlace = ".",
    think: Annotated[bool, typer.Option("--think/--no-think", help="Compare vectors with T-CoTs, or plain ones.")] = True,
    top: Top = 10,
    skip: Skip = 0,
    min_score: MinScore = None,
    unit: ResultUnitName = "file",
    modality: Modalities = None,
    under: Under = None,
    since: Since = None,
    until: Until = None,
    words: Words = None,
    camera: Camera = None,
    area: Area = None,
    paths: PathsOnly = False,
    open_first: OpenFirst = False,
    as_json: AsJson = False,
) -> None:
    """Recommend items similar to some of the index and dissimilar to others, saying why. Loads no model.

    \b
    Example: embedrl similar 3fa94c 77ab01=0.5 --unlike 90c1de --diversity 0.3 --index library
    """
    filter, likes, dislikes = search_filter(modality, under, since, until, words, camera, area), weights(liked), weights(unlike or [])
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
        unit=unit,
        offset=skip,
        limit=top,
    )
    opened = Index.open(index)
    result = recommend(opened, examples)
    hits = [item.hit for item in result.items]
    if paths:
        show_paths(index, hits)
    else:
        show_recommended(result, asked_for_tcots=think, as_json=as_json)
    if open_first:
        open_best(index, hits)
