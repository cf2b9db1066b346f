"""Start the server: load models, open indexes, listen."""

import asyncio
import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from embedrl import log
from embedrl.data.protocols import Embeds, Gates, ReadsText, Reasons, Reranks, Transcribes
from embedrl.errors import ConfigError, StoreError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.model_names import ModelNames
from embedrl.server.allowed_folders import AllowedFolders
from embedrl.server.app import make_app
from embedrl.server.listener import listen
from embedrl.server.problem import Problem
from embedrl.server.running import Announced
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service
from embedrl.server.settings import Settings
from embedrl.server.shared_models import (
    QueryTCoTs,
    SharedEmbedder,
    SharedReasoner,
    SharedReranker,
    embedding_worker,
    reasoning_worker,
    reranking_worker,
)

QUERY_TCOTS = "query-tcots.jsonl"


class PatientProtocol(H11Protocol):
    """HTTP/1.1 protocol that closes connections whose request head does not arrive in time."""

    head_timeout_s: float
    max_connections: int
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the request head; answer 503 if all connections are in use."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = _full
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Feed bytes to the parser; restart the timer at the first byte of a request."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.head_timeout_s, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self) -> None:
        self._timer = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(503, "too many connections are open: try again", "busy", retry_after_s=1)
    await JSONResponse(problem.body(scope.get("path", "")), problem.status, headers={**problem.headers, "Connection": "close"})(
        scope, receive, send
    )


def make_service(
    settings: Settings,
    indexes: Mapping[str, tuple[Path, str, Reasons | None]],
    embedder: Embeds,
    embedder_label: str,
    *,
    roots: tuple[Path, ...] = (),
    models: ModelNames | None = None,
    reranker: tuple[str, Reranks] | None = None,
    gate: Gates | None = None,
    is_gated: bool = True,
    item_gate: Gates | None = None,
    text_reader: ReadsText | None = None,
    transcriber: Transcribes | None = None,
) -> Service:
    """Open indexes and start model workers. `indexes`: id -> (folder, Reasoner's label, Reasoner); the first holds the uploads,
    and answers who names none. An index that is new notes the names of its `models`.

    `reranker`: its label and itself; it takes turns with the first Reasoner, or stands alone. `gate`: decides which searches are
    reasoned about: those that say think=auto, and with `is_gated` all that do not say. `item_gate`: decides which new items are.
    `text_reader`: what reads text in new images. `transcriber`: what transcribes speech in new videos.
    Raises StoreError for an index that is not there, or that another Embedder made.
    """
    embedding = embedding_worker(embedder, settings.max_batch)
    shared = SharedEmbedder(embedder, embedding)
    opened = {id: Index.open(folder, embedder=embedder) for id, (folder, _, _) in indexes.items()}
    first = next(iter(opened.values()))
    first.names_to_note = models
    if not first.base.is_dir():
        raise ConfigError(f"index {str(first.base)!r}: there is no such folder")
    if not len(first) and not settings.watch:
        raise StoreError(f"{first.home.missing()}, or give --watch")
    served = AllowedFolders((first.base, *roots))
    tcots = QueryTCoTs(first.directory / QUERY_TCOTS) if any(reasoner for _, _, reasoner in indexes.values()) else None
    libraries, workers = [], []
    for id, (_, label, reasoner) in indexes.items():
        asked = None
        if reasoner is not None:
            workers.append(reasoning_worker(reasoner, settings.max_batch))
            asked = SharedReasoner(reasoner, tcots, workers[-1])
        libraries.append(ServedIndex(id, label, opened[id], asked, shared, served))
    shared_reranker = None
    if reranker is not None:
        if not workers:
            workers.append(reranking_worker(settings.max_batch))
        shared_reranker = SharedReranker(reranker[1], reranker[0], workers[0])
    return Service(
        settings,
        libraries,
        embedder_label,
        [*workers, embedding],
        tcots,
        shared_reranker,
        gate,
        text_reader,
        transcriber,
        is_gated,
        item_gate,
    )


def index_beside(
    folder: Path,
    roots: tuple[Path, ...],
    reasoner: Reasons,
    embedder: Embeds,
    text_reader: ReadsText | None = None,
    transcriber: Transcribes | None = None,
    item_gate: Gates | None = None,
) -> Path:
    """Index the files of a library with a second Reasoner, inside the first index, and return the path. Incremental."""
    main = Index.open(folder, embedder=embedder)
    place = main.directory / f"also-{hashlib.sha256(reasoner.fingerprint.encode()).hexdigest()[:12]}"
    if not len(main):
        return place  # there is nothing to compare with yet
    for root in (main.base, *roots):
        with log.progress(None, f"index with {reasoner.fingerprint}") as bar:
            beside = Index.open(place, embedder=embedder)
            ingest(
                root,
                beside,
                reasoner,
                embedder,
                on_progress=bar.reach,
                text_reader=text_reader,
                transcriber=transcriber,
                gate=item_gate,
            )
    return place


def make_server(service: Service) -> uvicorn.Server:
    """Create the server, not yet listening."""
    settings = service.settings
    config = uvicorn.Config(
        make_app(service),
        host=settings.host,
        port=settings.port,
        http=type("Protocol", (PatientProtocol,), {"head_timeout_s": settings.head_timeout_s, "max_connections": settings.max_connections}),
        loop="asyncio",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        backlog=512,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=32 * 1024,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


def serve(service: Service, bound: socket.socket | None = None, models: ModelNames | None = None) -> None:
    """Serve on a bound socket until the process is stopped. Raises ConfigError if the port is taken.

    With the names of its `models`, the server is announced in the index, so that `embedrl search` of the folder uses it.
    """
    listener = listen(service.settings, bound)
    host, port = listener.getsockname()[:2]
    index = service.libraries[0].index
    announced = _announce(service, host, port, models) if models else None
    shown = f"[{host}]" if ":" in host else host
    log.info(f"http://{shown}:{port}/ serves {index.base.name}; stop with Ctrl+C")
    try:
        make_server(service).run(sockets=[listener])
    finally:
        if announced:
            announced.close()


def _announce(service: Service, host: str, port: int, models: ModelNames) -> Announced | None:
    """Announce the server in its index, unless it serves further folders, whose paths a local search could not resolve."""
    if len(service.roots.folders) > 1:
        return None
    try:
        return Announced(service.libraries[0].index.directory, host, port, models)
    except StoreError as error:
        log.info(f"{error}; `embedrl search` will not use this server")
        return None
