"""Command `mcp`: an index for clients of the Model Context Protocol."""

from embedrl.cli.arguments import need_index, with_server_options
from embedrl.cli.models import load_for
from embedrl.cli.options import (
    IndexEmbedder,
    IndexPlace,
    IndexReasoner,
    IndexThink,
    MaxNewTokens,
    ServerOptions,
    ServerTimeout,
    commands,
)
from embedrl.cli.placement import places_models

app = commands()


@app.command("mcp", short_help="Serve an index to MCP clients, over stdio.")
@places_models
def serve_mcp(
    index: IndexPlace = ".",
    reasoner: IndexReasoner = None,
    embedder: IndexEmbedder = None,
    think: IndexThink = None,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
) -> None:
    """Serve an index to Model Context Protocol clients over stdio, read-only: tools search, similar, get_evidence, ask.

    \b
    Example: embedrl mcp --index library
    """
    [reasoner] = with_server_options([reasoner], server_option, max_new_tokens, server_timeout)
    need_index(index)
    from embedrl.runtime.names import check_names

    check_names(reasoner if think is not False else None, embedder)  # before anything that takes long to import
    from embedrl.integrations.mcp import serve_stdio

    loaded_reasoner, loaded_embedder = load_for(index, reasoner, embedder, think)
    serve_stdio(index, loaded_embedder, loaded_reasoner)
