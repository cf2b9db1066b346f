"""Commands `search` and `similar`."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embedrl import log
from embedrl.cli.arguments import need_index, query_content, weights
from embedrl.cli.dial import DialCommand, reasons
from embedrl.cli.help import SEARCHING
from embedrl.cli.models import load_for_queries, warn_if_blind
from embedrl.cli.option_groups import Conditions, Decoding, QueryModels
from embedrl.cli.options import (
    AsJson,
    IndexPlace,
    Local,
    MatchWords,
    MinScore,
    OpenFirst,
    PathsOnly,
    Rerank,
    RerankerName,
    ResultUnitName,
    Skip,
    Top,
    commands,
)
from embedrl.cli.placement import places_models
from embedrl.errors import ConfigError, StoreError
from embedrl.parameters import expand_groups

if TYPE_CHECKING:
    from embedrl.index.hit import Hit
    from embedrl.index.query import Query
    from embedrl.index.search import SearchResult
    from embedrl.server.running import Announcement

app = commands()


@app.command("search", cls=DialCommand, short_help="Search an indexed folder by text, image or video.", rich_help_panel=SEARCHING)
@places_models
@expand_groups
def search_index(
    text: Annotated[str | None, typer.Argument(help="Text query, alone or about the image or video; - reads it from stdin.")] = None,
    *,
    image: Annotated[Path | None, typer.Option(help="Query image.")] = None,
    video: Annotated[Path | None, typer.Option(help="Query video.")] = None,
    index: IndexPlace = ".",
    models: QueryModels,
    local: Local = False,
    top: Top = 10,
    skip: Skip = 0,
    sort: Annotated[
        Literal["score", "newest", "oldest", "name"], typer.Option(help="Sort order; other than by score, of the top 1,000.")
    ] = "score",
    min_score: MinScore = None,
    unit: ResultUnitName = "file",
    conditions: Conditions,
    match: MatchWords = "filter",
    rerank: Rerank = 0,
    reranker: RerankerName = "judge",
    decoding: Decoding,
    paths: PathsOnly = False,
    open_first: OpenFirst = False,
    as_json: AsJson = False,
) -> None:
    """Search an indexed folder by text, image or video, with evidence for each hit.

    \b
    Example: embedrl search "a small red star" --index library --top 5 --modality image --since 2024-05-01
    Example: embedrl search "a red star" --index library --paths | head -1
    """
    content, filter = query_content(text, image, video), conditions.filter()
    named, _ = models.by_name()
    need_index(index)
    decoding.apply()
    from embedrl.cli.listing import show, show_paths, warn_of_plain
    from embedrl.index.query import Query

    _refuse_both(as_json, paths)
    query = Query(content, filter=filter, min_score=min_score, sort=sort, unit=unit, offset=skip, limit=top, match=match, rerank=rerank)
    is_plain = not any((local, rerank, models.gate, models.are_set, decoding.limit, decoding.config))
    server = running_server(index, named) if is_plain else None
    result = _ask_server(server, query, index, named) if server else None
    if result is None:
        result = _search_here(query, index, named, reranker)
    if paths:
        warn_of_plain(result)
        show_paths(index, result.hits)
    else:
        show(result, as_json=as_json)
    if open_first:
        open_best(index, result.hits)


def running_server(index: str, named: QueryModels) -> "Announcement | None":
    """Return the running server of this index if it has the requested models; else None."""
    from embedrl.index.location import find_home
    from embedrl.index.model_names import ModelNames
    from embedrl.server.running import find_server

    home = find_home(index)
    server = find_server(home.directory) if home.directory and not home.shelf else None
    if server is None:
        return None
    runs = server.models
    wanted = ModelNames.of(named.reasoner or runs.reasoner, named.embedder or runs.embedder)
    if (wanted.reasoner, wanted.embedder) != (runs.reasoner, runs.embedder) or (reasons(named.dial) and wanted.reasoner is None):
        log.info(f"the server at {server.url} runs other models ({runs.embedder}, {runs.reasoner}) and is not used")
        return None
    return server


def _refuse_both(as_json: bool, paths: bool) -> None:
    if as_json and paths:
        raise ConfigError("--json, --paths: give one of the two; JSON holds the paths, too")


def _ask_server(server: "Announcement", query: "Query", index: str, named: QueryModels) -> "SearchResult | None":
    """Search through the running server; None, with the reason logged, if it refuses."""
    from embedrl.server.client import search_running

    use_tcot = server.models.reasoner is not None and named.dial != "never"
    think, token = named.dial if use_tcot else None, os.environ.get("EMBEDRL_TOKEN")
    try:
        result = search_running(server, replace(query, use_tcot=use_tcot), token=token, think=think, think_budget=named.think_budget)
    except StoreError as error:
        log.info(f"{error}; searching here")
        return None
    warn_if_blind(server.models, index, again=True)
    log.info(f"asked {server.url}, which serves this index; --local searches here")
    return result


def _search_here(query: "Query", index: str, named: QueryModels, reranker: str) -> "SearchResult":
    from embedrl.index.index import Index
    from embedrl.index.search import search
    from embedrl.runtime.names import load_reranker

    reasoner, embedder, gate = load_for_queries(index, named, alone=not query.rerank)
    second_stage = load_reranker(reranker, reasoner, embedder) if query.rerank else None
    opened = Index.open(index, embedder=embedder)
    return search(opened, replace(query, use_tcot=reasoner is not None), embedder, reasoner, reranker=second_stage, gate=gate)


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
@expand_groups
def similar_items(
    liked: Annotated[
        list[str], typer.Argument(metavar="KEY[=WEIGHT]...", help="Items of the index, by 6 or more leading digits of their keys.")
    ],
    *,
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
    conditions: Conditions,
    paths: PathsOnly = False,
    open_first: OpenFirst = False,
    as_json: AsJson = False,
) -> None:
    """Recommend items similar to some of the index and dissimilar to others, saying why. Loads no model.

    \b
    Example: embedrl similar 3fa94c 77ab01=0.5 --unlike 90c1de --diversity 0.3 --index library
    """
    filter, likes, dislikes = conditions.filter(), weights(liked), weights(unlike or [])
    need_index(index)
    from embedrl.index.location import clean_key

    for key in (*likes, *dislikes):
        clean_key(key)  # before anything that takes long to import
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
    _refuse_both(as_json, paths)
    opened = Index.open(index)
    result = recommend(opened, examples)
    hits = [item.hit for item in result.items]
    if paths:
        show_paths(index, hits)
    else:
        show_recommended(result, asked_for_tcots=think, as_json=as_json)
    if open_first:
        open_best(index, hits)
