"""Command `serve`: an indexed folder over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from embedrl import log
from embedrl.cli.arguments import need_folder, need_index, with_options_of_both, with_preset
from embedrl.cli.dial import (
    DialCommand,
    GateFile,
    ThinkBudget,
    ThinkDial,
    find_gate,
    find_noted_gate,
    gate_beside,
    load_gate,
    read_dial,
    reasons,
)
from embedrl.cli.help import LIMITS, MODELS, SEARCHING
from embedrl.cli.models import choose, load, noted_models, warn_if_blind
from embedrl.cli.options import (
    ConfigFile,
    IndexEmbedder,
    IndexFolder,
    IndexReasoner,
    Like,
    Limit,
    MaxNewTokens,
    Preset,
    ReadText,
    ServerOptions,
    ServerTimeout,
    Transcribe,
    commands,
)
from embedrl.cli.placement import places_models

app = commands()


@app.command("serve", cls=DialCommand, short_help="Serve an index: web page, API, OpenAI endpoints.", rich_help_panel=SEARCHING)
@places_models
def serve_index(
    index: IndexFolder = Path(),
    reasoner: IndexReasoner = None,
    embedder: IndexEmbedder = None,
    models: Preset = None,
    think: ThinkDial = None,
    read_text: ReadText = None,
    transcribe: Transcribe = None,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
    like: Like = None,
    host: Annotated[str, typer.Option(help="Address to listen on; other than loopback needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 picks a free one.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="EMBEDRL_TOKEN", help="Access token that clients must send.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the folder and index changes.")] = False,
    allow_host: Annotated[list[str] | None, typer.Option(help="Further Host name of this server; repeatable.")] = None,
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
    gate: GateFile = None,
    think_budget: ThinkBudget = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Maximum request size in MiB.", rich_help_panel=LIMITS)] = 64,
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests waiting for the models.", rich_help_panel=LIMITS)
    ] = 64,
    limit: Limit = None,
    upload_limit: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Decoding limit per uploaded file; repeatable.", rich_help_panel=LIMITS)
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Serve an indexed folder: web page, HTTP API and OpenAI-compatible endpoints.

    \b
    Example: embedrl serve --index library --watch
    Example: embedrl serve --index library --before nano-sft
    """
    need_folder(index)
    for folder in root or ():
        need_folder(folder)
    reasoner, embedder = with_preset(models, reasoner, embedder)
    (reasoner, before), embedder = with_options_of_both([reasoner, before], embedder, server_option, max_new_tokens, server_timeout, like)
    from pydantic import ValidationError

    from embedrl.cli.limits import set_limits
    from embedrl.errors import ConfigError
    from embedrl.index.index import embedder_of
    from embedrl.runtime.names import check_names, load_reasoner, load_reranker, load_text_reader, load_transcriber
    from embedrl.server.listener import bind
    from embedrl.server.settings import MIB, UPLOAD_LIMITS, Settings

    dial = read_dial(think, gate, think_budget)
    if before is not None and dial == "never":
        raise ConfigError(f"--before {before}: there is nothing to compare with --no-think; leave out one of the two")
    for name in (reasoner if dial != "never" else None, before):
        check_names(name, embedder)
    chosen = set_limits(config, limit, upload_limit)
    uploads = chosen.upload_limits
    try:
        settings = Settings(
            **chosen.server.model_dump(),
            host=host,
            port=port,
            token=token,
            allow_hosts=tuple(allow_host or ()),
            watch=watch,
            max_upload_bytes=max_upload_mb * MIB,
            max_in_flight=max_in_flight,
            limits=UPLOAD_LIMITS.model_copy(update={name: getattr(uploads, name) for name in uploads.model_fields_set}),
            library_limits=chosen.limits,
        )
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error
    if not watch:
        need_index(str(index), "or give --watch")
    with bind(settings) as listener:  # a port in use fails before models are loaded
        words = chosen.words.over(read_text, transcribe)
        noted = noted_models(index)
        names = choose(reasoner, embedder, True if before is not None else reasons(dial), noted, is_new=watch, **words)
        if dial == "auto":
            gate = find_gate(gate, names.embedder)  # said before models are loaded
        elif names.reasoner is not None:
            gate = gate_beside(names.embedder)
        item_gate = noted.gate_for(names.embedder) if noted is not None and names.reasoner is not None else None
        if item_gate is not None:
            item_gate_file = find_noted_gate(item_gate, names.embedder)
            log.info(
                "new files are reasoned about with --think auto, as this index was made (`embedrl index DIR --think always` forgets that)"
            )
        text_reader, transcriber = load_text_reader(names.text_reader, chosen.limits), load_transcriber(names.transcriber)
        warn_if_blind(names, index)
        loaded_reasoner, loaded_embedder = load(names)  # two adapters share their base
        from embedrl.index.model_names import ModelNames
        from embedrl.server.run import index_beside, make_service, serve

        first = (index, _label(names.reasoner or "none"), loaded_reasoner)
        loaded_reranker = None if reranker is None else (_label(reranker), load_reranker(reranker, loaded_reasoner, loaded_embedder))
        loaded_embedder = embedder_of(index, loaded_embedder)
        loaded_gate = None if gate is None else load_gate(gate, think_budget, loaded_embedder.fingerprint)
        loaded_item_gate = None
        if item_gate is not None:
            loaded_item_gate = load_gate(item_gate_file, item_gate.share, loaded_embedder.fingerprint, "candidate")
        indexes = {"main": first}
        roots = tuple(root or ())
        if before is not None:
            before_reasoner = load_reasoner(before)
            indexes = {
                "after": first,
                "before": (
                    index_beside(index, roots, before_reasoner, loaded_embedder, text_reader, transcriber, loaded_item_gate),
                    _label(before),
                    before_reasoner,
                ),
            }
        model_names = ModelNames.of(names.reasoner, names.embedder, names.text_reader, names.transcriber, item_gate)
        serve(
            make_service(
                settings,
                indexes,
                loaded_embedder,
                _label(names.embedder),
                roots=roots,
                models=model_names,
                reranker=loaded_reranker,
                gate=loaded_gate,
                is_gated=dial == "auto",
                item_gate=loaded_item_gate,
                text_reader=text_reader,
                transcriber=transcriber,
            ),
            listener,
            model_names,
        )


def _label(name: str) -> str:
    """Return a model's label for clients: never a path or an address."""
    from embedrl.models.names import is_server
    from embedrl.models.server_name import read_server_name

    if is_server(name):
        return read_server_name(name).model or "remote"
    return Path(name).name or name
