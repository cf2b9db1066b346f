"""Command-line options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

ReasonerName = Annotated[
    str,
    typer.Option(
        "--reasoner",
        help="Who writes T-CoTs: nano, nano-sft (before RL), a model folder, a hub id (owner/name@revision), or a server's URL "
        "(http://host:8000/v1#model).",
    ),
]
EmbedderName = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="Who embeds: nano, a model folder, a hub id (owner/name@revision), or a server's URL (http://host:8000/v1#model).",
    ),
]
IndexReasoner = Annotated[
    str | None,
    typer.Option(
        "--reasoner",
        help="Who writes T-CoTs, named as for `annotate`: nano, a model folder, a hub id, a server's URL. Without it, who wrote those of "
        "the index (nano for a new one).",
    ),
]
IndexEmbedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="Who embeds: nano, a model folder, a hub id, a server's URL. Without it, who embedded the index (nano for a new one).",
    ),
]
IndexThink = Annotated[
    bool | None,
    typer.Option("--think/--no-think", help="Write T-CoTs before embedding, or embed as it is. Without it, as the index was made."),
]
Preset = Annotated[
    str | None,
    typer.Option("--models", help="A pair of models by one name (qwen3-vl-2b; `embedrl models` lists them) in place of both options."),
]
Like = Annotated[
    Path | None,
    typer.Option(help="For an Embedder on a server: the model folder that it serves; its probes' vectors must be those of the folder."),
]
Think = Annotated[bool, typer.Option("--think/--no-think", help="Write T-CoTs before embedding, or embed items as they are.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Top = Annotated[int, typer.Option(min=1, help="How many hits to show.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
IndexFolder = Annotated[Path, typer.Option("--index", help="The folder that was indexed.")]
IndexPlace = Annotated[str, typer.Option("--index", help="The folder that was indexed, or its table in object storage (s3://bucket/name).")]
MinScore = Annotated[float | None, typer.Option(min=-1, max=1, help="Leave out hits below this cosine.")]
ResultUnitName = Annotated[
    Literal["file", "unit"], typer.Option("--unit", help="A result is a file with its best page, scene or passage; or each of these.")
]
Modalities = Annotated[list[str] | None, typer.Option("--modality", help="Find only image, video, page or text; may be repeated.")]
Under = Annotated[Path | None, typer.Option(help="Find only what lies in this folder of the index, or fits a pattern (*.pdf).")]
Camera = Annotated[str | None, typer.Option(help="Find only what a camera took whose name holds these words.")]
Area = Annotated[
    str | None, typer.Option(metavar="AREA", help="Find only what was taken there: LATITUDE,LONGITUDE,KM or SOUTH,WEST,NORTH,EAST.")
]
Since = Annotated[
    str | None, typer.Option(help="Find only files taken (or else changed) at this date or time (ISO, of this time zone) or later.")
]
Until = Annotated[str | None, typer.Option(help="Find only files changed up to this date or time (ISO, of this time zone).")]
Words = Annotated[str | None, typer.Option(help="Find only what holds each of these words in answer, name or text.")]
MatchWords = Annotated[
    Literal["filter", "fuse"],
    typer.Option("--match", help="fuse: --words, or the rare words of the text, rank items beside the vectors, and filter nothing."),
]
Rerank = Annotated[int, typer.Option(min=0, max=100, help="Let a reranker put so many of the first hits in order; 0: none.")]
GateFile = Annotated[
    Path | None, typer.Option("--gate", help="Reason about a query only where this gate expects it to pay (bench/gate.py fits one).")
]
ThinkBudget = Annotated[
    float | None,
    typer.Option("--think-budget", min=0, max=1, help="For --gate: the share of queries to reason about; 0.5 unless given."),
]
RerankerName = Annotated[
    str,
    typer.Option(
        "--reranker",
        help="For --rerank: judge (the Reasoner's own), a Reasoner or cross-encoder folder, or the URL of a /v1/rerank server.",
    ),
]
Skip = Annotated[int, typer.Option(min=0, help="Leave out so many of the first hits: the next page.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="What one file may cost, such as max_pixels=200_000_000; may be repeated. An unknown name lists all.",
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file with a table [limits] (for serve, [upload_limits] and [server] too).")
]
OpenFirst = Annotated[bool, typer.Option("--open", help="Also open the best hit's file, with the desktop's program for it.")]
Local = Annotated[bool, typer.Option("--local", help="Load the models here, and ask no running `embedrl serve` of this index.")]
PathsOnly = Annotated[bool, typer.Option("--paths", help="Print only the files' paths, one a line, best first.")]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="Only this dataset of the benchmark, or task of the world; may be repeated.")
]
EngineName = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="What runs the models: this process, or workers on Ray (extra scale).")
]
Workers = Annotated[int | None, typer.Option(min=1, help="For --engine ray: workers of each model; 2 unless given.")]
RayAddress = Annotated[
    str | None, typer.Option(help="For --engine ray: a cluster's address (host:6379, auto); else Ray is started here, and ended after.")
]
ServerOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--server-option",
        metavar="KEY=VALUE",
        help="For a server: a setting of each request (top_k=5; temperature=null leaves it out), num_retries, max_wait_s, or "
        "settings=DIR, the folder of a Reasoner of ours that it serves (settings=server: of embedrl serve); repeatable.",
    ),
]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="For a server: tokens of an answer, at most; 512 unless given.")]
ServerTimeout = Annotated[float | None, typer.Option(min=0.001, help="For a server: seconds that a request may take; 600 unless given.")]
Recipe = Annotated[Path, typer.Argument(help="A recipe (TOML).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace the recipe's: trainer.learning_rate=1e-4")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "--plan", help="Train nothing: check every path and name, and print tokens, memory, arithmetic and hours."),
]
Processes = Annotated[int, typer.Option(min=1, help="For --plan: how many processes, of one device each.")]
Tflops = Annotated[float, typer.Option(min=0.001, help="For --plan: TFLOP/s that a device achieves, not what its data sheet says.")]


def commands(*, add_completion: bool = False, **settings: Any) -> typer.Typer:
    """Start a list of commands, in the look of this command line; `settings` (help, …) are typer's."""
    look: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
    return typer.Typer(**look, add_completion=add_completion, **settings)
