"""The real application on a free port of this machine, over a folder of coloured media and the fakes, or over the nano models."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from embedrl.data.protocols import Embeds, Gates, ReadsText, Reasons, Reranks, Transcribes
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.server.run import listen, make_server, make_service
from embedrl.server.service import Service
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner


class Served:
    """A running server and a client of it."""

    def __init__(self, service: Service, url: str, folder: Path, reasoner: Reasons | None, embedder: Embeds) -> None:
        self.service, self.url, self.folder, self.reasoner, self.embedder = service, url, folder, reasoner, embedder
        headers = {"Authorization": f"Bearer {service.settings.token}"} if service.settings.token else {}
        self.client = httpx.Client(base_url=url, timeout=60, headers=headers, trust_env=False)

    def search(self, **fields: Any) -> dict[str, Any]:
        """Search, and return the answer."""
        files = {"file": fields.pop("file")} if "file" in fields else None
        answer = self.client.post("/api/search", data=fields, files=files)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def paths(self, **fields: Any) -> list[str]:
        """Return the paths of what is found."""
        return [hit["path"] for hit in self.search(**fields)["hits"]]

    def key(self, path: str) -> str:
        """Return the key of the item that lies at a path."""
        found = self.client.get("/api/items", params={"limit": 100}).json()["items"]
        return next(item["key"] for item in found if path in (item["path"], *item["other_paths"]))

    def settle(self) -> None:
        """Wait until nothing is left to be indexed."""
        self.wait(lambda: (state := self.service.librarian.state).state == "idle" and not state.waiting)

    def wait(self, happened: Any, timeout_s: float = 60.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)


def fill(folder: Path, reasoner: Reasons | None, embedder: Embeds) -> None:
    """Index a folder as `embedrl index` does."""
    ingest(folder, Index.open(folder, embedder=embedder), reasoner, embedder, think=reasoner is not None)


@contextmanager
def served(
    folder: Path,
    *,
    reasoner: Reasons | None = None,
    embedder: Embeds | None = None,
    think: bool = True,
    index: bool = True,
    roots: tuple[Path, ...] = (),
    reranker: tuple[str, Reranks] | None = None,
    gate: Gates | None = None,
    text_reader: ReadsText | None = None,
    transcriber: Transcribes | None = None,
    reasoner_label: str = "the-reasoner",
    embedder_label: str = "the-embedder",
    **settings: Any,
) -> Iterator[Served]:
    """Index a folder and serve it."""
    reasoner = (reasoner or FakeReasoner()) if think else None
    embedder = embedder or FakeEmbedder()
    if index:
        fill(folder, reasoner, embedder)
    chosen = Settings(port=0, **settings)
    service = make_service(
        chosen,
        {"main": (folder, reasoner_label, reasoner)},
        embedder,
        embedder_label,
        roots=roots,
        reranker=reranker,
        gate=gate,
        text_reader=text_reader,
        transcriber=transcriber,
    )
    with running(service) as url:
        found = Served(service, url, Path(os.path.realpath(folder)), reasoner, embedder)
        with found.client:
            yield found


@contextmanager
def running(service: Service) -> Iterator[str]:
    """Run a server in a thread, and yield its URL."""
    listener = listen(service.settings)
    server = make_server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()
