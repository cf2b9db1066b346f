"""Commands `index`, `index move`, `index reduce` and `index stats`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embedrl import log
from embedrl.cli.arguments import need_folder
from embedrl.cli.dial import DialCommand, choose_item_gate, load_gate, reasons
from embedrl.cli.help import SCALE, SEARCHING
from embedrl.cli.models import choose, noted_models, say_loading, warn_if_blind
from embedrl.cli.option_groups import Decoding, EngineOptions, ItemModels
from embedrl.cli.options import AsJson, ReadText, Transcribe, commands
from embedrl.cli.placement import places_models
from embedrl.cli.stopping import says_what_is_kept
from embedrl.errors import ConfigError
from embedrl.parameters import expand_groups

if TYPE_CHECKING:
    from embedrl.index.ingest_report import IngestReport

app = commands()
_moving, _counting, _reducing = commands(), commands(), commands()
_OTHERS = {"move": _moving, "reduce": _reducing, "stats": _counting}


class _IndexOrOther(DialCommand):
    """`embedrl index DIR`, `embedrl index move SRC DST`, `embedrl index reduce DIR OUT` and `embedrl index stats DIR`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments as those of `move`, `reduce` or `stats` after that word (a folder of that name is `./move`)."""
        if not args or args[0] not in _OTHERS:
            return super().make_context(info_name, args, parent, **extra)
        return typer.main.get_command(_OTHERS[args[0]]).make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


@_counting.command()
def count_contents(
    index: Annotated[str, typer.Argument(metavar="DIR", help="The folder that was indexed, or a place in object storage.")],
    as_json: AsJson = False,
) -> None:
    """Count what is in an index, by kind, with sizes. Nothing is written, and no model is loaded.

    \b
    Example: embedrl index stats library --json
    """
    from embedrl.data.segments import MARKS
    from embedrl.index.contents import contents
    from embedrl.index.index import Index

    opened = Index.open(index)
    counted = contents(opened)
    if as_json:
        log.print_json(counted.model_dump(mode="json"))
        return
    rows = [
        (kind, f"{of.num_files:,}", f"{of.num_units:,}", log.size_text(of.num_bytes), f"{of.num_without_tcot:,}")
        for kind, of in counted.kinds.items()
    ]
    log.table(f"{index}: {counted.stats.num_items:,} different items", ["kind", "files", "units", "size", "without T-CoT"], rows)
    if counted.words:
        log.info("words were read in " + ", ".join(f"{count:,} units ({MARKS[source].lower()})" for source, count in counted.words.items()))
    if counted.num_words_missing:
        log.info(f"in {counted.num_words_missing:,} units words are missing: the next run looks for them, or one with --retry")
    records = sum(counted.records_bytes.values())
    table = counted.stats.size_bytes - (0 if opened.home.is_remote else records)
    failed = "" if counted.num_failures is None else f"; {counted.num_failures:,} files and units could not be indexed"
    log.result(
        f"vectors of {counted.stats.embedder}, {counted.stats.dim} numbers, {counted.stats.search} search; "
        f"the table takes {log.size_text(table)}, the records beside it {log.size_text(records)}{failed}"
    )


@_moving.command()
def move_index(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The indexed folder, or a location in object storage.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A location in object storage (s3://bucket/name), or the folder again.")],
    as_json: AsJson = False,
) -> None:
    """Move the table of an index to object storage, or back; counts and checksums are verified.

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


@_reducing.command()
def reduce_vectors(
    index: Annotated[str, typer.Argument(metavar="DIR", help="The folder that was indexed, or a place in object storage.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the Embedder.")],
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Keep this many principal components; all by default, so that any first numbers can be kept.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit principal components to an index's vectors, and write its Embedder with them behind the pooling (PCA).

    Vectors of a model that was not trained for fewer numbers (Matryoshka) can then be shortened; other engines read the matrix as
    sentence-transformers' Dense module. Index with the new Embedder afterwards: T-CoTs are kept, vectors are made anew.

    \b
    Example: embedrl index reduce library runs/short --dimensions 256
    """
    from embedrl.pipelines.reduce import reduce_embedder

    reduced = reduce_embedder(index, out, dim=dimensions)
    if as_json:
        log.print_json(reduced.model_dump(mode="json"))
        return
    rows = [[f"{prefix.dim:,}", f"{prefix.length:.1%}", f"{prefix.recall:.1%}"] for prefix in reduced.prefixes]
    log.table(f"fitted to {reduced.num_vectors:,} vectors", ["first numbers", "of the squared length", "of the ten nearest rows"], rows)
    log.result(f"{reduced.folder}: `embedrl index DIR --embedder {reduced.folder}` uses it, with --dimensions fewer of its numbers")


@app.command("index", cls=_IndexOrOther, short_help="Index a folder, or update its index.", rich_help_panel=SEARCHING)
@says_what_is_kept("what is indexed is kept and can be searched; the same command goes on with the rest")
@places_models
@expand_groups
def index_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images, videos, PDFs and text files.")],
    *,
    models: ItemModels,
    batch_size: Annotated[int, typer.Option(min=1, help="Items per batch.")] = 32,
    engine: EngineOptions,
    table: Annotated[
        str | None,
        typer.Option(
            help="Location of a new index's table in object storage (s3://bucket/name); remembered by the folder.", rich_help_panel=SCALE
        ),
    ] = None,
    shelf: Annotated[
        str | None, typer.Option(help="For --table: path prefix of this folder; its own name by default.", rich_help_panel=SCALE)
    ] = None,
    exact_below: Annotated[
        int | None, typer.Option(min=0, help="Exact search below this many rows; 50,000 for a new index.", rich_help_panel=SCALE)
    ] = None,
    vector_index: Annotated[
        Literal["ivf-flat", "ivf-sq"] | None,
        typer.Option(help="Approximate index above that: IVF over full (default) or scalar-quantised vectors.", rich_help_panel=SCALE),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="Minimum recall@10 of the approximate index, else search stays exact; 0.99 for a new index.",
            rich_help_panel=SCALE,
        ),
    ] = None,
    rebuild_growth: Annotated[
        float | None,
        typer.Option(min=1.01, help="Rebuild the approximate index after growth by this factor; 2 for a new index.", rich_help_panel=SCALE),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="For a new index: truncate vectors to this many dimensions (Matryoshka); all by default.")
    ] = None,
    read_text: ReadText = None,
    transcribe: Transcribe = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry files that failed, and items whose answer was malformed.")] = False,
    decoding: Decoding,
    as_json: AsJson = False,
) -> None:
    """Index a folder, or update its index. Files that cannot be read are listed, and the exit code is then 1.

    It is also 1 if the Reasoner failed on some items or wrote no T-CoT at all; those items are indexed by their plain vectors.
    `embedrl index move SRC DST` moves an index to object storage, or back; `embedrl index reduce DIR OUT` fits shorter vectors to one;
    `embedrl index stats DIR` counts what is in one.

    \b
    Example: embedrl index library --no-think
    Example: embedrl index library --table s3://bucket/all --shelf camera-1
    """
    named, _ = models.by_name()
    policy = {"exact_below": exact_below, "kind": vector_index, "recall": recall, "growth": rebuild_growth}
    need_folder(folder)
    if shelf is not None and table is None:
        raise ConfigError(f"--shelf {shelf}: only together with --table")
    from embedrl.index.location import is_remote
    from embedrl.runtime.names import load_text_reader, load_transcriber

    if table is not None and not is_remote(table):
        raise ConfigError(f"--table {table}: give a place in object storage, such as s3://bucket/name")
    tables, noted = decoding.apply(), noted_models(folder)
    words = tables.words.over(read_text, transcribe)
    names = choose(named.reasoner, named.embedder, reasons(named.dial), noted, is_new=True, **words)
    item_gate = choose_item_gate(noted, names.embedder, named)  # said before models are loaded
    if item_gate is not None and named.dial is None:
        log.info("--think auto, as this index was made; --think always reasons about every item, and forgets that")
    text_reader, transcriber = load_text_reader(names.text_reader, tables.limits), load_transcriber(names.transcriber)
    warn_if_blind(names, folder)
    say_loading(names)
    from embedrl.pipelines.index import index_by_name

    report = index_by_name(
        folder,
        names.reasoner,
        names.embedder,
        text_reader=text_reader,
        text_reader_name=names.text_reader,
        transcriber=transcriber,
        transcriber_name=names.transcriber,
        batch_size=batch_size,
        engine=engine.read(),
        table=table,
        shelf=shelf,
        policy={name: value for name, value in policy.items() if value is not None},
        retry_failed=retry,
        dimensions=dimensions,
        limits=tables.limits,
        load_gate=None
        if item_gate is None
        else lambda embeds: load_gate(item_gate[1], item_gate[0].share, embeds.fingerprint, "candidate"),
        gate_to_note=item_gate[0] if item_gate else None,
        redo_declined=named.dial == "always",
    )
    if as_json:
        log.print_json(report.model_dump(mode="json"))
    else:
        _show(report, folder)
    _warn(report, folder)
    if report.failures or report.tcots.is_failure or report.readings.failed or report.speech.failures:
        raise typer.Exit(1)


def _show(report: "IngestReport", folder: Path) -> None:
    from embedrl.cli.listing import AUDIO_LEFT_OUT

    log.result(
        f"{folder}: {report.added} new, {report.reused} known from elsewhere, {report.unchanged} unchanged, {report.removed} removed, "
        f"{len(report.failures)} failed; {report.without_tcot} of the new have no T-CoT; {report.seconds['total']:.1f} s"
        + (f", models busy {report.model_share:.0%} of it" if report.added else "")
    )
    if report.declined:
        log.info(f"{report.declined:,} of these were left as they are by the gate, which expects no gain (--think always leaves it out)")
    for what, counts in (
        ("of kinds that are not read", report.unread_kinds),
        ("left out by name", report.skipped),
        ("of which metadata could not be read", report.damaged_metadata),
        ("images and pages", report.readings.in_words),
        ("videos and audio files", report.speech.in_words),
    ):
        if counts:
            log.info(f"{what}: {', '.join(f'{count:,} {name}' for name, count in counts.items())}")
    for reason, count in report.audio_left_out.items():
        log.info(f"{count:,} audio {'file' if count == 1 else 'files'} left out: {AUDIO_LEFT_OUT[reason]}")


def _warn(report: "IngestReport", folder: Path) -> None:
    """Say what failed, and how to try again."""
    from embedrl.cli.limits import limit_hint
    from embedrl.cli.listing import failure_line, warn_of_failures

    for failure in report.failures:
        log.warn(failure_line(failure))
    if hint := limit_hint([failure.reason for failure in report.failures]):
        log.info(hint)
    if not report.num_files:
        log.warn(f"{folder}: the folder is empty; add images, videos, PDFs or texts, and run this again")
    warn_of_failures(report.tcots, "--retry asks again")
    for reason, example in report.readings.examples.items():
        log.warn(f"text could not be read in {report.readings.failed[reason]:,} images or pages ({example}); --retry tries again")
