"""State shared by all routes: indexes, models, decoders, writer thread, concurrency limit."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

from embedrl.data.protocols import Gates, ReadsText, Transcribes
from embedrl.errors import MediaError
from embedrl.media.store import HEAD_BYTES, container_format
from embedrl.models.names import shipped
from embedrl.server.allowed_folders import AllowedFolders
from embedrl.server.budget import REQUEST_PIXELS, PixelBudget, decoding
from embedrl.server.indexer import IndexWriter
from embedrl.server.metrics import Metrics
from embedrl.server.problem import Problem
from embedrl.server.sandbox import MAX_QUERY_PIXELS, Decoded, decode
from embedrl.server.scratch import sweep
from embedrl.server.security import WrongTokens
from embedrl.server.served_index import ServedIndex
from embedrl.server.settings import Settings
from embedrl.server.shared_models import EmbedderWorker, QueryTCoTs, ReasonerWorker, SharedReranker

T = TypeVar("T")


class Service:
    """A running server without its routes."""

    def __init__(
        self,
        settings: Settings,
        libraries: list[ServedIndex],
        embedder_label: str,
        workers: list[ReasonerWorker | EmbedderWorker],
        tcots: QueryTCoTs | None,
        reranker: SharedReranker | None = None,
        gate: Gates | None = None,
        text_reader: ReadsText | None = None,
        transcriber: Transcribes | None = None,
        is_gated: bool = True,
        item_gate: Gates | None = None,
    ) -> None:
        self.settings, self.libraries, self.embedder_label = settings, libraries, embedder_label
        self.gate = gate
        """Decides which searches are reasoned about; None: there is none."""
        self.is_gated = gate is not None and is_gated
        """Whether it decides about searches that do not say how to think."""
        self.reranker = reranker
        """The second stage; None: there is none."""
        self.metrics = Metrics()
        self.wrong_tokens = WrongTokens()
        self.pixels = PixelBudget(settings.max_decoded_pixels)
        self.librarian = IndexWriter(
            libraries,
            limits=settings.library_limits,
            upload_limits=settings.limits,
            watch=settings.watch,
            interval_s=settings.watch_interval_s,
            text_reader=text_reader,
            transcriber=transcriber,
            item_gate=item_gate,
        )
        self.is_ready = False
        self._workers, self._tcots = workers, tcots
        self._threads = ThreadPoolExecutor(settings.max_in_flight, thread_name_prefix="request")
        self._num_working = 0
        self._lock = threading.Lock()
        self._add_gauges()

    @property
    def is_blind(self) -> bool:
        """Whether a model is a shipped nano model, which knows only the generated world."""
        return self.embedder_label in shipped("embedder") or any(library.label in shipped("reasoner") for library in self.libraries)

    @property
    def roots(self) -> AllowedFolders:
        """The folders that are served."""
        return self.libraries[0].roots

    def start(self) -> None:
        """Start indexing and accept requests."""
        sweep()
        self.librarian.start()
        self.is_ready = True

    def close(self) -> None:
        """Stop threads and child processes."""
        self.is_ready = False
        self.librarian.close()
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._tcots:
            self._tcots.close()

    def library(self, reasoner: str | None = None) -> ServedIndex:
        """Return the library with a Reasoner's id; the first by default. Raises Problem."""
        if reasoner is None:
            return self.libraries[0]
        for library in self.libraries:
            if library.id == reasoner:
                return library
        raise Problem(400, f"reasoner: choose one of {', '.join(library.id for library in self.libraries)}", "no_such_reasoner")

    async def work(self, call: Callable[[], T]) -> T:
        """Run blocking work in a thread. Raises Problem 429 if too much is in flight."""
        with self._lock:
            if self._num_working >= self.settings.max_in_flight:
                raise Problem(429, "too many requests wait for the models: try again", "busy", retry_after_s=1)
            self._num_working += 1
        context = copy_context()
        future = self._threads.submit(lambda: context.run(call))
        future.add_done_callback(lambda _: self._done())
        return await asyncio.wrap_future(future)

    def decode_file(
        self,
        path: Path,
        *,
        number: int | None = None,
        span_s: tuple[float, float | None] = (0.0, None),
        num_frames: int,
        keep: bool = True,
        share: int = REQUEST_PIXELS,
        is_indexed: bool = False,
    ) -> Decoded:
        """Decode a file in a child process, within the pixel budget. `share`: maximum pixels of all its images together.

        Indexed files keep the limits they were indexed with, others have those of uploads. Raises Problem 415, 429.
        """
        with path.open("rb") as file:
            num_pictures = num_frames if container_format(file.read(HEAD_BYTES)) else 1
        max_pixels = min(MAX_QUERY_PIXELS, share // num_pictures)
        limits = self.settings.library_limits if is_indexed else self.settings.limits
        try:
            with decoding(self.pixels, max_pixels * num_pictures if keep else 0) as held:
                decoded = decode(path, limits, number=number, span_s=span_s, num_frames=num_frames, keep=keep, max_pixels=max_pixels)
                held.num_pixels = sum(image.width * image.height for image in decoded.images)
                return decoded
        except MediaError as error:
            raise Problem(415, f"the file cannot be used: {error}", "bad_file") from error

    def _done(self) -> None:
        with self._lock:
            self._num_working -= 1

    def _add_gauges(self) -> None:
        gauges = self.metrics.gauges
        gauges["embedrl_working"] = ("Requests that wait for models, decoders or the index.", lambda: self._num_working)
        gauges["embedrl_indexing_waiting"] = ("Uploads and deletions that wait.", lambda: self.librarian.state.waiting)
        gauges["embedrl_model_batches_total"] = (
            "Batches that models were asked.",
            lambda: sum(worker.num_batches for worker in self._workers),
        )
        gauges["embedrl_model_items_total"] = ("Items in these batches.", lambda: sum(worker.num_values for worker in self._workers))
        gauges["embedrl_items"] = ("Items that can be found.", lambda: len(self.libraries[0].catalogue.places))
        if tcots := self._tcots:
            gauges["embedrl_tcot_cache_hits_total"] = ("T-CoTs of queries that were known.", lambda: tcots.num_hits)
            gauges["embedrl_tcot_cache_misses_total"] = ("T-CoTs of queries that were written.", lambda: tcots.num_misses)
