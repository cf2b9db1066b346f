"""Command `serve`: an indexed folder over HTTP."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedrl import log
from embedrl.cli.arguments import need_folder, need_index
from embedrl.cli.dial import DialCommand, choose_item_gate, find_gate, gate_beside, load_gate, reasons
from embedrl.cli.help import LIMITS, MODELS, SEARCHING
from embedrl.cli.models import choose, load, noted_models, warn_if_blind
from embedrl.cli.option_groups import Decoding, QueryModels
from embedrl.cli.options import IndexFolder, ReadText, Transcribe, commands
from embedrl.cli.placement import places_models
from embedrl.errors import ConfigError
from embedrl.parameters import expand_groups

if TYPE_CHECKING:
    from embedrl.cli.limits import ConfigTables
    from embedrl.server.settings import Settings

app = commands()


@dataclass(frozen=True, kw_only=True)
class Listening(Decoding):
    """Where the server listens, to whom, and its limits."""

    host: Annotated[str, typer.Option(help="Address to listen on; other than loopback needs --token.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 picks a free one.")] = 8000
    token: Annotated[str | None, typer.Option(envvar="EMBEDRL_TOKEN", help="Access token that clients must send.")] = None
    watch: Annotated[bool, typer.Option("--watch", help="Watch the folder and index changes.")] = False
    allow_host: Annotated[list[str] | None, typer.Option(help="Further Host name of this server; repeatable.")] = None
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Maximum request size in MiB.", rich_help_panel=LIMITS)] = 64
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests waiting for the models.", rich_help_panel=LIMITS)
    ] = 64
    upload_limit: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Decoding limit per uploaded file; repeatable.", rich_help_panel=LIMITS)
    ] = None

    def apply(self) -> "ConfigTables":
        """Put the limits of local files in force, and return all tables. Raises ConfigError."""
        from embedrl.cli.limits import set_limits

        return set_limits(self.config, self.limit, self.upload_limit)

    def settings(self, tables: "ConfigTables") -> "Settings":
        """Return the server's settings. Raises ConfigError."""
        from pydantic import ValidationError

        from embedrl.server.settings import MIB, UPLOAD_LIMITS, Settings

        uploads = tables.upload_limits
        try:
            return Settings(
                **tables.server.model_dump(),
                host=self.host,
                port=self.port,
                token=self.token,
                allow_hosts=tuple(self.allow_host or ()),
                watch=self.watch,
                max_upload_bytes=self.max_upload_mb * MIB,
                max_in_flight=self.max_in_flight,
                limits=UPLOAD_LIMITS.model_copy(update={name: getattr(uploads, name) for name in uploads.model_fields_set}),
                library_limits=tables.limits,
            )
        except ValidationError as error:
            raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error


@app.command("serve", cls=DialCommand, short_help="Serve an index: web page, API, OpenAI endpoints.", rich_help_panel=SEARCHING)
@places_models
@expand_groups
def serve_index(
    *,
    index: IndexFolder = Path(),
    models: QueryModels,
    read_text: ReadText = None,
    transcribe: Transcribe = None,
    listening: Listening,
    root: Annotated[list[Path] | None, typer.Option(help="Another folder with files of the index; repeatable.")] = None,
    before: Annotated[
        str | None, typer.Option(help="A second Reasoner to compare with (such as nano-sft); the files are indexed with it too.")
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option(
            help="Reranker of searches and /v1/rerank: reread, judge, a Reasoner or cross-encoder folder, or a URL.", rich_help_panel=MODELS
        ),
    ] = None,
) -> None:
    """Serve an indexed folder: web page, HTTP API and OpenAI-compatible endpoints.

    \b
    Example: embedrl serve --index library --watch
    Example: embedrl serve --index library --before nano-sft
    """
    roots = tuple(root or ())
    for folder in (index, *roots):
        need_folder(folder)
    if before is not None and models.dial == "never":
        raise ConfigError(f"--before {before}: there is nothing to compare with --no-think; leave out one of the two")
    named, before = models.by_name(before)
    from embedrl.runtime.names import load_reasoner, load_reranker, load_text_reader, load_transcriber
    from embedrl.server.listener import bind

    tables = listening.apply()
    settings, words = listening.settings(tables), tables.words.over(read_text, transcribe)
    if not settings.watch:
        need_index(str(index), "or give --watch")
    with bind(settings) as listener:  # a port in use fails before models are loaded
        noted = noted_models(index)
        thinks = True if before is not None else reasons(named.dial)
        names = choose(named.reasoner, named.embedder, thinks, noted, is_new=settings.watch, **words)
        gate_file = named.gate
        if named.dial == "auto":
            gate_file = find_gate(named.gate, names.embedder)  # said before models are loaded
        elif names.reasoner is not None:
            gate_file = gate_beside(names.embedder)
        item_gate = None if names.reasoner is None else choose_item_gate(noted, names.embedder)
        if item_gate is not None:
            log.info(
                "new files are reasoned about with --think auto, as this index was made (`embedrl index DIR --think always` forgets that)"
            )
        text_reader, transcriber = load_text_reader(names.text_reader, tables.limits), load_transcriber(names.transcriber)
        warn_if_blind(names, index)
        reasoner, loaded = load(names)  # two adapters share their base
        from embedrl.index.index import embedder_of
        from embedrl.index.model_names import ModelNames
        from embedrl.server.run import index_beside, make_service, serve

        embedder = embedder_of(index, loaded)
        gate = None if gate_file is None else load_gate(gate_file, named.think_budget, embedder.fingerprint)
        gate_of_items = None if item_gate is None else load_gate(item_gate[1], item_gate[0].share, embedder.fingerprint, "candidate")
        first = (index, _label(names.reasoner or "none"), reasoner)
        indexes = {"main": first}
        if before is not None:
            second = load_reasoner(before)
            beside = index_beside(index, roots, second, embedder, text_reader, transcriber, gate_of_items)
            indexes = {"after": first, "before": (beside, _label(before), second)}
        served_models = ModelNames.of(
            names.reasoner, names.embedder, names.text_reader, names.transcriber, item_gate[0] if item_gate else None
        )
        service = make_service(
            settings,
            indexes,
            embedder,
            _label(names.embedder),
            roots=roots,
            models=served_models,
            reranker=None if reranker is None else (_label(reranker), load_reranker(reranker, reasoner, loaded)),
            gate=gate,
            is_gated=named.dial == "auto",
            item_gate=gate_of_items,
            text_reader=text_reader,
            transcriber=transcriber,
        )
        serve(service, listener, served_models)


def _label(name: str) -> str:
    """Return a model's label for clients: never a path or an address."""
    from embedrl.models.names import is_server
    from embedrl.models.server_name import read_server_name

    if is_server(name):
        return read_server_name(name).model or "remote"
    return Path(name).name or name
