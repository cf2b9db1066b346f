"""Command `mcp`: an index for clients of the Model Context Protocol."""

from embedrl.cli.arguments import need_index
from embedrl.cli.dial import DialCommand
from embedrl.cli.help import SEARCHING
from embedrl.cli.models import load_for_queries
from embedrl.cli.option_groups import QueryModels
from embedrl.cli.options import IndexPlace, commands
from embedrl.cli.placement import places_models
from embedrl.parameters import expand_groups

app = commands()


@app.command("mcp", cls=DialCommand, short_help="Serve an index to MCP clients, over stdio.", rich_help_panel=SEARCHING)
@places_models
@expand_groups
def serve_mcp(index: IndexPlace = ".", *, models: QueryModels) -> None:
    """Serve an index to Model Context Protocol clients over stdio, read-only: tools search, similar, get_evidence, ask.

    \b
    Example: embedrl mcp --index library
    """
    named, _ = models.by_name()
    need_index(index)
    from embedrl.integrations.mcp import serve_stdio

    reasoner, embedder, gate = load_for_queries(index, named)
    serve_stdio(index, embedder, reasoner, gate)
