"""Which models go with an index: those that are named, else those that it was made with."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedrl import log
from embedrl.errors import ConfigError

if TYPE_CHECKING:
    from embedrl.data.protocols import Embeds, Reasons
    from embedrl.index.index import Index
    from embedrl.index.model_names import ModelNames

DEFAULT = "nano"


def choose(
    reasoner: str | None,
    embedder: str | None,
    think: bool | None,
    noted: "ModelNames | None",
    *,
    is_new: bool = False,
    text_reader: str | None = None,
    transcriber: str | None = None,
) -> "ModelNames":
    """Return the names of the models to load; no Reasoner means plain vectors.

    Defaults are the models recorded in the index (`noted`), else nano: silently for a new index, with a notice for
    an existing one. Raises ConfigError for unknown names, and for thinking without a Reasoner.
    """
    from embedrl.index.model_names import ModelNames
    from embedrl.runtime.names import check_names

    embedder_name = embedder or (noted.embedder if noted else DEFAULT)
    if think is False:
        reasoner_name = None
    else:
        reasoner_name = reasoner or (noted.reasoner if noted else DEFAULT)
        if reasoner_name is None and think:
            if embedder_name != DEFAULT:
                raise ConfigError("--think: this index was made without a Reasoner; name one with --reasoner")
            reasoner_name = DEFAULT
    is_guess = noted is None and (embedder is None or (reasoner is None and reasoner_name is not None))
    if is_guess and not is_new:
        log.info(f"the index does not record its models; those not named are {DEFAULT}")
    check_names(reasoner_name, embedder_name)
    return ModelNames(
        reasoner=reasoner_name,
        embedder=embedder_name,
        text_reader=text_reader or (noted.text_reader if noted else None),
        transcriber=transcriber or (noted.transcriber if noted else None),
    )


def noted_models(place: str | Path) -> "ModelNames | None":
    """Return the names of the models that an index was built with; None if not recorded or no index."""
    from embedrl.index.index import Index
    from embedrl.index.location import find_home

    if not find_home(place).is_begun:
        return None
    index = Index(find_home(place), None)
    return index.model_names if index.table.is_there() else None


def open_with_models(
    place: str | Path, embedder: str | None = None, reasoner: str | None = None, think: bool | None = None
) -> "tuple[Index, Embeds, Reasons | None]":
    """Open an index with its models: those that are named, else those that it was made with; `think=False` leaves the Reasoner out.

    The Embedder gives vectors of the index's length. Raises ConfigError, ModelError and StoreError.
    """
    from embedrl.index.index import Index, embedder_of
    from embedrl.runtime.names import load_both

    Index.open(place)  # a missing index is said before a model is loaded
    names = choose(reasoner, embedder, think, noted_models(place))
    reasons, loaded = load_both(names.reasoner, names.embedder)
    embeds = embedder_of(place, loaded)
    return Index.open(place, embedder=embeds), embeds, reasons
