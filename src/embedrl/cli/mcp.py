"""Command `mcp`: an index for clients of the Model Context Protocol."""

from embedrl.cli.arguments import need_index, with_server_options
from embedrl.cli.dial import DialCommand, GateFile, ThinkBudget, ThinkDial, read_dial
from embedrl.cli.help import SEARCHING
from embedrl.cli.models import load_with_gate
from embedrl.cli.options import (
    IndexEmbedder,
    IndexPlace,
    IndexReasoner,
    MaxNewTokens,
    ServerOptions,
    ServerTimeout,
    commands,
)
from embedrl.cli.placement import places_models

app = commands()


@app.command("mcp", cls=DialCommand, short_help="Serve an index to MCP clients, over stdio.", rich_help_panel=SEARCHING)
@places_models
def serve_mcp(
    index: IndexPlace = ".",
    reasoner: IndexReasoner = None,
    embedder: IndexEmbedder = None,
    think: ThinkDial = None,
    gate: GateFile = None,
    think_budget: ThinkBudget = None,
    server_option: ServerOptions = None,
    max_new_tokens: MaxNewTokens = None,
    server_timeout: ServerTimeout = None,
) -> None:
    """Serve an index to Model Context Protocol clients over stdio, read-only: tools search, similar, get_evidence, ask.

    \b
    Example: embedrl mcp --index library
    """
    [reasoner] = with_server_options([reasoner], server_option, max_new_tokens, server_timeout)
    dial = read_dial(think, gate, think_budget)
    need_index(index)
    from embedrl.runtime.names import check_names

    check_names(reasoner if dial != "never" else None, embedder)  # before anything that takes long to import
    from embedrl.integrations.mcp import serve_stdio

    loaded_reasoner, loaded_embedder, loaded_gate = load_with_gate(index, reasoner, embedder, dial, gate, think_budget)
    serve_stdio(index, loaded_embedder, loaded_reasoner, loaded_gate)
