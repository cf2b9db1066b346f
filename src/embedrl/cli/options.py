"""Command-line options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embedrl.cli.help import FILTERS, LIMITS, MODELS, SCALE, SERVERS, Commands, Group

ReasonerName = Annotated[
    str,
    typer.Option(
        "--reasoner",
        help="Reasoner: nano, nano-sft (before RL), a model folder, a hub id (owner/name@revision), or a server's URL "
        "(http://host:8000/v1#model). With ?form=answer behind it: only answers, a quarter of the tokens.",
        rich_help_panel=MODELS,
    ),
]
EmbedderName = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="Embedder: nano, a model folder, a hub id (owner/name@revision), or a server's URL (http://host:8000/v1#model).",
        rich_help_panel=MODELS,
    ),
]
IndexReasoner = Annotated[
    str | None,
    typer.Option(
        "--reasoner",
        help="Reasoner, named as for `annotate`: nano, a model folder, a hub id, a server's URL, with ?form=answer behind it for only "
        "answers. By default the one of the index (nano for a new one).",
        rich_help_panel=MODELS,
    ),
]
IndexEmbedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="Embedder: nano, a model folder, a hub id, a server's URL. By default the one that built the index (nano for a new one).",
        rich_help_panel=MODELS,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--models",
        help="A pair of models by one name (qwen3-vl-2b; `embedrl models` lists them) instead of --reasoner and --embedder.",
        rich_help_panel=MODELS,
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        help="For an Embedder on a server: the model folder that it serves; their vectors of probe items are compared.",
        rich_help_panel=SERVERS,
    ),
]
ReadText = Annotated[
    str | None,
    typer.Option(
        "--read-text",
        metavar="NAME",
        help="OCR of images and scanned pages: tesseract (the program; tesseract:deu+eng with its languages), rapidocr (extra ocr), or "
        "none. By default, as the index was made.",
        rich_help_panel=MODELS,
    ),
]
Transcribe = Annotated[
    str | None,
    typer.Option(
        "--transcribe",
        metavar="NAME",
        help="Speech recognition of videos: the URL of a server with /v1/audio/transcriptions (http://host:8000/v1#model), a folder of a "
        "Whisper model (faster-whisper), or none. By default, as the index was made.",
        rich_help_panel=MODELS,
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Top = Annotated[int, typer.Option(min=1, help="Number of hits.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
IndexFolder = Annotated[Path, typer.Option("--index", help="The indexed folder.")]
IndexPlace = Annotated[str, typer.Option("--index", help="The indexed folder, or its table in object storage (s3://bucket/name).")]
MinScore = Annotated[float | None, typer.Option(min=-1, max=1, help="Minimum cosine of a hit.", rich_help_panel=FILTERS)]
ResultUnitName = Annotated[
    Literal["file", "unit"], typer.Option("--unit", help="One hit per file (its best page, scene or passage), or one per unit.")
]
Modalities = Annotated[
    list[str] | None,
    typer.Option("--modality", help="Only this modality: image, video, page or text; repeatable.", rich_help_panel=FILTERS),
]
Under = Annotated[
    Path | None, typer.Option(help="Only files under this folder of the index, or matching a pattern (*.pdf).", rich_help_panel=FILTERS)
]
Camera = Annotated[
    str | None, typer.Option(help="Only files taken with a camera whose name contains these words.", rich_help_panel=FILTERS)
]
Area = Annotated[
    str | None,
    typer.Option(metavar="AREA", help="Only files taken there: LATITUDE,LONGITUDE,KM or SOUTH,WEST,NORTH,EAST.", rich_help_panel=FILTERS),
]
Since = Annotated[
    str | None,
    typer.Option(help="Only files taken (else modified) at or after this ISO date or time (local time zone).", rich_help_panel=FILTERS),
]
Until = Annotated[
    str | None,
    typer.Option(help="Only files taken (else modified) up to this ISO date or time (local time zone).", rich_help_panel=FILTERS),
]
Words = Annotated[
    str | None, typer.Option(help="Only items that contain all of these words in answer, name or text.", rich_help_panel=FILTERS)
]
MatchWords = Annotated[
    Literal["filter", "fuse"],
    typer.Option(
        "--match",
        help="fuse: combine a ranking by words (--words, or the query's rare words) with the one by vectors, without filtering.",
        rich_help_panel=FILTERS,
    ),
]
Rerank = Annotated[int, typer.Option(min=0, max=100, help="Rerank this many top hits; 0: none.", rich_help_panel=MODELS)]
RerankerName = Annotated[
    str,
    typer.Option(
        "--reranker",
        help="For --rerank: reread (what the Reasoner answers when it reads again), judge (its verdicts), a Reasoner or cross-encoder "
        "folder, or the URL of a /v1/rerank server.",
        rich_help_panel=MODELS,
    ),
]
Skip = Annotated[int, typer.Option(min=0, help="Skip this many hits (paging).")]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Decoding limit per file, such as max_pixels=200_000_000; repeatable. An unknown name lists all.",
        rich_help_panel=LIMITS,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A TOML file with tables [limits] and [words] (for serve, [upload_limits] and [server] too).",
        rich_help_panel=LIMITS,
    ),
]
OpenFirst = Annotated[bool, typer.Option("--open", help="Also open the top hit's file in the desktop's default program.")]
Local = Annotated[
    bool,
    typer.Option("--local", help="Load the models in this process, even if `embedrl serve` runs for this index.", rich_help_panel=MODELS),
]
PathsOnly = Annotated[bool, typer.Option("--paths", help="Print only the files' paths, one a line, best first.")]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="Only this dataset of the benchmark, or task of the world; repeatable.")
]
EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="Where models run: in this process, or in Ray workers (extra scale).", rich_help_panel=SCALE),
]
Workers = Annotated[int | None, typer.Option(min=1, help="For --engine ray: workers per model; 2 by default.", rich_help_panel=SCALE)]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="For --engine ray: a cluster's address (host:6379, auto); by default a local Ray for the run.", rich_help_panel=SCALE
    ),
]
ServerOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--server-option",
        metavar="KEY=VALUE",
        help="For a server: a setting of each request (top_k=5; temperature=null leaves it out), num_retries, max_wait_s, or "
        "settings=DIR, the folder of a Reasoner of ours that it serves (settings=server: of embedrl serve); repeatable.",
        rich_help_panel=SERVERS,
    ),
]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="For a server: maximum tokens of an answer; 512 by default.", rich_help_panel=SERVERS)
]
ServerTimeout = Annotated[
    float | None, typer.Option(min=0.001, help="For a server: timeout of a request in seconds; 600 by default.", rich_help_panel=SERVERS)
]
NumQueries = Annotated[int, typer.Option(min=1, help="Queries per task.")]
PoolSize = Annotated[int, typer.Option(min=2, help="Minimum candidates per task.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Only this task; repeatable.")]
WorldName = Annotated[str, typer.Option("--world", help="roomy or crowded.")]
Recipe = Annotated[Path, typer.Argument(help="A recipe (TOML), or the name of a shipped one (nano/embedder.toml).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of recipe settings: trainer.learning_rate=1e-4")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "--plan", help="Train nothing: check all paths and names, and print tokens, memory, FLOPs and hours."),
]
Processes = Annotated[int, typer.Option(min=1, help="For --plan: number of processes, one device each.")]
Tflops = Annotated[float, typer.Option(min=0.001, help="For --plan: achieved TFLOP/s per device, not the data sheet's.")]


def commands(*, add_completion: bool = False, **settings: Any) -> Commands:
    """Create a Typer app in the house style; `settings` (help, …) are Typer's."""
    look: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
    return Commands(cls=Group, **look, add_completion=add_completion, **settings)
