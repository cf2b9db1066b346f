"""Commands that make a folder searchable, and search it."""

from pathlib import Path
from typing import Annotated

import typer

from embedrl import log
from embedrl.app.arguments import modalities, need_folder, query_content
from embedrl.app.commands.options import AsJson, EmbedderName, IndexFolder, MinScore, Modalities, ReasonerName, Think, Top, commands

app = commands()


@app.command("index")
def index_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images, videos, PDFs and text files.")],
    reasoner: ReasonerName = "nano",
    embedder: EmbedderName = "nano",
    think: Think = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Items that are reasoned about and embedded at once.")] = 32,
    as_json: AsJson = False,
) -> None:
    """Make a folder searchable, or take in what changed since. Files that cannot be read are listed; the exit code is then 1.

    \b
    Example: embedrl index library --no-think
    """
    need_folder(folder)
    from embedrl.app.listing import failure_line
    from embedrl.app.models import load_both
    from embedrl.index.index import Index
    from embedrl.index.ingest import ingest

    reasons, embeds = load_both(reasoner if think else None, embedder)
    opened = Index.open(folder, embedder=embeds)
    with log.progress(None, "index") as bar:
        found = ingest(folder, opened, reasons, embeds, think=think, batch_size=batch_size, on_progress=bar.reach)
    if as_json:
        log.print_json(found.model_dump(mode="json"))
    else:
        log.result(
            f"{folder}: {found.added} new, {found.reused} known from elsewhere, {found.unchanged} unchanged, {found.removed} removed, "
            f"{len(found.failures)} failed; {found.without_tcot} of the new have no T-CoT; {found.seconds['total']:.1f} s"
        )
    for failure in found.failures:
        log.warn(failure_line(failure))
    if found.failures:
        raise typer.Exit(1)


@app.command("search")
def search_index(
    text: Annotated[str | None, typer.Argument(help="What to look for; alone, or about the picture or video.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to look for.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video to look for.")] = None,
    index: IndexFolder = Path(),
    reasoner: ReasonerName = "nano",
    embedder: EmbedderName = "nano",
    think: Think = True,
    top: Top = 10,
    min_score: MinScore = None,
    modality: Modalities = None,
    as_json: AsJson = False,
) -> None:
    """Search an indexed folder with words, a picture or a video, and show why something was found.

    \b
    Example: embedrl search "a small red star" --index library --top 5 --modality image
    """
    content = query_content(text, image, video)
    from embedrl.app.listing import show
    from embedrl.app.models import load_both
    from embedrl.index.index import Index
    from embedrl.index.search import search

    Index.open(index)  # a missing index is said before a model is loaded
    reasons, embeds = load_both(reasoner if think else None, embedder)
    opened = Index.open(index, embedder=embeds)
    found = search(opened, embeds, reasons, content=content, think=think, top=top, min_score=min_score, modality=modalities(modality))
    show(found, as_json=as_json)


@app.command("similar")
def similar_items(
    key: Annotated[str, typer.Argument(help="The key of an indexed item, or its first 6 or more digits; search shows keys.")],
    index: IndexFolder = Path(),
    think: Annotated[bool, typer.Option("--think/--no-think", help="Compare items with their T-CoTs, or as they are.")] = True,
    top: Top = 10,
    min_score: MinScore = None,
    modality: Modalities = None,
    as_json: AsJson = False,
) -> None:
    """Recommend what is most like an item of the index. Needs no model.

    \b
    Example: embedrl similar 3fa94c --index library
    """
    from embedrl.app.listing import show
    from embedrl.index.index import Index
    from embedrl.index.search import similar

    found = similar(Index.open(index), key, think=think, top=top, min_score=min_score, modality=modalities(modality))
    show(found, as_json=as_json)
