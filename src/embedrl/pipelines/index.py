"""Index a folder with models by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from embedrl import log
from embedrl.data.protocols import Embeds, Gates, ReadsText, Transcribes
from embedrl.data.vectors import ShortenedEmbedder
from embedrl.index.index import Index, embedder_of
from embedrl.index.ingest import IngestReport, ingest
from embedrl.index.model_names import ItemGate, ModelNames
from embedrl.media.store import Limits
from embedrl.runtime.engine import LOCAL, Engine, start_models


def index_by_name(
    folder: Path,
    reasoner: str | None,
    embedder: str,
    *,
    batch_size: int = 32,
    engine: Engine = LOCAL,
    table: str | None = None,
    shelf: str | None = None,
    policy: Mapping[str, object] | None = None,
    retry_failed: bool = False,
    limits: Limits | None = None,
    dimensions: int | None = None,
    text_reader: ReadsText | None = None,
    text_reader_name: str | None = None,
    transcriber: Transcribes | None = None,
    transcriber_name: str | None = None,
    load_gate: Callable[[Embeds], Gates] | None = None,
    gate_to_note: ItemGate | None = None,
    redo_declined: bool = False,
) -> IngestReport:
    """Bring a folder's index up to date; without a Reasoner, with plain vectors only.

    With `dimensions`, a new index holds vectors truncated to that dimension (Matryoshka), which later runs and searches keep to.
    `text_reader_name` and `transcriber_name` are what the index notes of these two, for later runs.
    `load_gate` returns the gate of items for the Embedder, `gate_to_note` is how the index notes it; `redo_declined` is that of `ingest`.
    `table` and `shelf` are those of `Index.create_at`, `policy` the changes of `Index.change_policy`.
    Raises what `ingest`, `create_at` and `start_models` raise.
    """
    with start_models(engine, [reasoner] if reasoner else [], embedder) as models, log.progress(None, "index, items") as bar:
        assert models.embedder is not None
        embeds = embedder_of(folder, models.embedder) if dimensions is None else ShortenedEmbedder(models.embedder, dimensions)
        opened = Index.open(folder, embedder=embeds)
        if table is not None:
            opened.create_at(table, shelf)
        opened.note_models(ModelNames.of(reasoner, embedder, text_reader_name, transcriber_name, gate_to_note))
        if policy:
            opened.change_policy(**policy)
        return ingest(
            folder,
            opened,
            models.reasoners[reasoner] if reasoner else None,
            embeds,
            think=reasoner is not None,
            batch_size=batch_size,
            max_in_flight=models.max_in_flight,
            retry_failed=retry_failed,
            limits=limits,
            on_progress=bar.reach,
            text_reader=text_reader,
            transcriber=transcriber,
            gate=None if load_gate is None else load_gate(embeds),
            redo_declined=redo_declined,
        )
