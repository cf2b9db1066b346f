"""Resolve the models of a command: named ones, else those that the index was built with."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedrl import log
from embedrl.cli.cold_start import UNUSED_BY_NANO, import_index_libraries, leave_out, leave_out_of_torch, use_one_thread
from embedrl.cli.dial import find_gate, load_gate, reasons
from embedrl.runtime.index_models import choose, noted_models

if TYPE_CHECKING:
    from embedrl.cli.option_groups import QueryModels
    from embedrl.data.protocols import Embeds, Reasons
    from embedrl.index.gate import LinearGate
    from embedrl.index.model_names import ModelNames

__all__ = ["choose", "load", "load_for_queries", "noted_models", "say_loading", "warn_if_blind"]
_BLIND_AGAIN = "nano models: on files from outside their generated world, ranks and scores mean nothing (`embedrl models` lists others)"
_BLIND = (
    "the nano models know only the generated world of `embedrl world make`: their T-CoTs and rankings of your own photos and documents "
    "mean nothing. For those, name other models with --reasoner and --embedder (sizes: `embedrl models`)"
)


def load(names: "ModelNames") -> "tuple[Reasons | None, Embeds]":
    """Load models by name. Raises ConfigError and ModelError."""
    from embedrl.runtime.names import load_both

    say_loading(names)
    return load_both(names.reasoner, names.embedder)


def load_for_queries(index: str, named: "QueryModels", *, alone: bool = True) -> "tuple[Reasons | None, Embeds, LinearGate | None]":
    """Load the named models, or those that an index was built with, and the gate of queries with --think auto.

    The Embedder truncates to the index's dimensions. If they are `alone` (no third model follows), nano models go without the libraries
    that they do not need. A missing index, then a missing gate, are said before any model is loaded. Raises ConfigError, ModelError and
    StoreError.
    """
    if alone:
        import_index_libraries()
    from embedrl.index.index import Index, embedder_of

    Index.open(index)
    names = choose(named.reasoner, named.embedder, reasons(named.dial), noted_models(index))
    gate = find_gate(named.gate, names.embedder) if named.dial == "auto" else None
    warn_if_blind(names, index, again=True)
    if alone and _is_nano(names.embedder) and (names.reasoner is None or _is_nano(names.reasoner)):
        leave_out(UNUSED_BY_NANO)
        use_one_thread()
        leave_out_of_torch()
    loaded_reasoner, loaded_embedder = load(names)
    embedder = embedder_of(index, loaded_embedder)
    return loaded_reasoner, embedder, None if gate is None else load_gate(gate, named.think_budget, embedder.fingerprint)


def say_loading(names: "ModelNames") -> None:
    """Log which models are being loaded."""
    log.info(f"loading {f'the Reasoner {names.reasoner} and ' if names.reasoner else ''}the Embedder {names.embedder} …")


def warn_if_blind(names: "ModelNames", place: str | Path, *, again: bool = False) -> None:
    """Warn that the nano models only know the generated world, unless the folder holds one; `again` is a note of one line.

    Whoever indexes or serves is warned; what asks an index that is there is noted.
    """
    if (_is_nano(names.embedder) or _is_nano(names.reasoner)) and not Path(place, "pairs.jsonl").is_file():
        log.info(_BLIND_AGAIN) if again else log.warn(_BLIND)


def _is_nano(name: str | None) -> bool:
    from embedrl.models.names import shipped

    return name in shipped("embedder") or (name or "").partition("?")[0] in shipped("reasoner")
