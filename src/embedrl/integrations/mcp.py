"""Model Context Protocol server: search, similar items, evidence and cited answers of one index, read-only, for any MCP client.

`embedrl mcp --index DIR` speaks it over stdin and stdout. Only files under the indexed folder are named. mcp is the extra "mcp".
"""

import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedrl.data import items
from embedrl.data.protocols import Embeds, Gates, Reasons
from embedrl.errors import ConfigError
from embedrl.index.answer import ask as ask_index
from embedrl.index.exact import Neighbour
from embedrl.index.filter import Filter, read_filter
from embedrl.index.hit import Catalogue, Hit, View, look_up, places_by_key
from embedrl.index.index import Index
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, recommend
from embedrl.index.row import Modality
from embedrl.index.search import search as search_index
from embedrl.parameters import expand_groups
from embedrl.server.allowed_folders import AllowedFolders

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise ConfigError("an MCP server needs the package mcp (2 or newer): pip install 'embedrl[mcp]'") from error

MAX_HITS = 50
READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_ABOUT = (
    "Images, videos, document pages and texts of one folder, searched by meaning. `search` and `similar` return items with their keys, "
    "`get_evidence` what a reasoning model saw in one (boxes are 0..1000 of width and height), `ask` an answer with citations."
)


@dataclass(frozen=True, kw_only=True)
class _Conditions:
    """Conditions that items have to meet."""

    modality: Modality | None = None
    under: str = ""
    words: str = ""
    since: str = ""
    until: str = ""
    camera: str = ""
    area: str = ""

    def filter(self) -> Filter:
        """Read the filter; times are local. Raises ConfigError."""
        texts: dict[str, str] = {name: value for name, value in asdict(self).items() if name != "modality"}
        return read_filter([self.modality] if self.modality else None, **texts, zone=None)


class _Collection:
    """One index with its models, for one caller at a time."""

    def __init__(self, index: Index, embedder: Embeds, reasoner: Reasons | None) -> None:
        self.index, self.embedder, self.reasoner = index, embedder, reasoner
        self.roots = AllowedFolders((index.base,))
        self.lock = threading.Lock()
        self._catalogue = Catalogue(-1, {}, frozenset())

    @property
    def view(self) -> View:
        """What lies under the indexed folder, links resolved."""
        return View(catalogue=self._current)

    def _current(self) -> Catalogue:
        if (version := self.index.version) != self._catalogue.version:
            known = list(self.index.places())
            inside = self.roots.inside({self.index.locate(place.path) for place in known})
            places = places_by_key([place for place in known if self.index.locate(place.path) in inside])
            self._catalogue = Catalogue(version, places, frozenset({place.key for place in known} - places.keys()))
        return self._catalogue

    def hit(self, key: str) -> Hit:
        """Return an item by its key, or the first digits of it. Raises ConfigError for one that is not there."""
        hits = look_up(self.index, [Neighbour(self.index.find(key), 0.0)], self._current())
        if not hits:
            raise ConfigError(f"key {key!r}: this item lies outside of the indexed folder")
        return hits[0]


def make_mcp_server(index: Index, embedder: Embeds, reasoner: Reasons | None = None, gate: Gates | None = None) -> "MCPServer":
    """Make the server over an open index; `.run()` serves it over stdio. Without a Reasoner, items are compared as they are.

    A `gate` decides which queries and questions are reasoned about.
    """
    held = _Collection(index, embedder, reasoner)
    server = MCPServer("embedrl", instructions=_ABOUT)

    @server.tool(annotations=READ_ONLY)
    @expand_groups
    def search(
        query: str,
        limit: int = 10,
        *,
        conditions: _Conditions,
    ) -> list[dict[str, Any]]:
        """Find items by meaning. `modality`: image, video, page or text; `under`: a folder or a pattern; `words`: words that must occur.

        `since`, `until`: ISO dates or times at which the file was taken, else modified; `camera`: words of its name; `area`: where it was
        taken, LATITUDE,LONGITUDE,KM or SOUTH,WEST,NORTH,EAST.
        """
        asked = Query(items.as_content(query), filter=conditions.filter(), limit=_bounded(limit), use_tcot=reasoner is not None)
        with held.lock:
            return [_shown(hit) for hit in search_index(index, asked, embedder, reasoner, gate=gate, view=held.view).hits]

    @server.tool(annotations=READ_ONLY)
    def similar(keys: list[str], unlike: list[str] | None = None, limit: int = 10) -> list[dict[str, Any]]:
        """Find items that are like some, and unlike others, by their keys."""
        examples = Examples(
            liked=dict.fromkeys(keys, 1.0), disliked=dict.fromkeys(unlike or (), 1.0), use_tcot=reasoner is not None, limit=_bounded(limit)
        )
        with held.lock:
            recommended = recommend(index, examples, view=held.view).items
        return [{**_shown(item.hit), "reason": item.reason.say(item.reason.key[:12])} for item in recommended]

    @server.tool(annotations=READ_ONLY)
    def get_evidence(key: str) -> dict[str, Any]:
        """Return what the reasoning model wrote about an item, with boxes, moments and keywords, and whether each holds."""
        with held.lock:
            hit = held.hit(key)
        thoughts = {"thinking": hit.tcot.thinking, "rethink": hit.tcot.rethink} if hit.tcot else {}
        checks = hit.verification.model_dump(mode="json") if hit.verification else None
        evidence = hit.tcot.evidence.model_dump(mode="json") if hit.tcot else None
        return {**_shown(hit), **thoughts, "evidence": evidence, "holds": checks, "key_frame_times_s": hit.key_frame_times_s}

    @server.tool(annotations=READ_ONLY)
    @expand_groups
    def ask(
        question: str,
        *,
        conditions: _Conditions,
    ) -> dict[str, Any]:
        """Answer a question from the collection, with citations; without any, nothing in it answers the question.

        Only from items that meet the conditions, which are those of `search`.
        """
        narrowed = Query(filter=conditions.filter())
        with held.lock:
            answer = ask_index(index, question, embedder, reasoner, query=narrowed, gate=gate, view=held.view)
        return answer.model_dump(mode="json")

    return server


def _bounded(limit: int) -> int:
    if not 1 <= limit <= MAX_HITS:
        raise ConfigError(f"limit={limit}: give 1 to {MAX_HITS}")
    return limit


def _shown(hit: Hit) -> dict[str, Any]:
    """Return the facts of a Hit that a client needs, as JSON types."""
    fields = {"key", "score", "path", "modality", "page", "start_s", "end_s", "answer", "excerpt", "read"}
    facts = hit.model_dump(mode="json", include=fields)
    gated = {"without_reasoning": True} if hit.without_reasoning else {}
    return {name: value for name, value in facts.items() if value not in (None, "", [])} | gated


def serve_stdio(index: str | Path, embedder: Embeds, reasoner: Reasons | None, gate: Gates | None = None) -> None:
    """Serve an index over stdin and stdout until the client closes them."""
    make_mcp_server(Index.open(index, embedder=embedder), embedder, reasoner, gate).run("stdio")
