"""Which models a command uses: those that are named, else those that the index was made with."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedrl import log
from embedrl.errors import ConfigError

if TYPE_CHECKING:
    from embedrl.data.protocols import Embeds, Reasons
    from embedrl.index.model_names import ModelNames

DEFAULT = "nano"
_BLIND = (
    "the nano models know nothing but the generated world of `embedrl world make`: of photos and documents of your own, what they say is "
    "invented and what they find means nothing. For these name models that see with --reasoner and --embedder (docs/models.md has sizes)"
)


def choose(
    reasoner: str | None, embedder: str | None, think: bool | None, noted: "ModelNames | None", *, is_new: bool = False
) -> "ModelNames":
    """Return the names of the models to load; without a Reasoner, items are compared as they are.

    What is not named is as the index has it noted (`noted`), and nano where nothing is: in an index that is new, and with a word of it in
    one that is not. Raises ConfigError for names that are no model's, and for thinking without a Reasoner.
    """
    from embedrl.index.model_names import ModelNames
    from embedrl.runtime.names import check_names

    embeds = embedder or (noted.embedder if noted else DEFAULT)
    if think is False:
        reasons = None
    else:
        reasons = reasoner or (noted.reasoner if noted else DEFAULT)
        if reasons is None and think:
            if embeds != DEFAULT:
                raise ConfigError("--think: this index was made without a Reasoner; name one with --reasoner")
            reasons = DEFAULT
    guessed = [name for named, name in ((embedder, embeds), (reasoner, reasons)) if noted is None and named is None and name is not None]
    if guessed and not is_new:
        log.info(f"the index does not say with which models it was made; what is not named is {DEFAULT}")
    check_names(reasons, embeds)
    return ModelNames(reasoner=reasons, embedder=embeds)


def load(names: "ModelNames") -> "tuple[Reasons | None, Embeds]":
    """Load models by name. Raises ConfigError and ModelError."""
    from embedrl.runtime.names import load_both

    say_loading(names)
    return load_both(names.reasoner, names.embedder)


def load_for(index: str, reasoner: str | None, embedder: str | None, think: bool | None) -> "tuple[Reasons | None, Embeds]":
    """Load the models that are named, or that an index was made with; the Embedder gives vectors of the index's length.

    A missing index is said before a model is loaded. Raises ConfigError, ModelError and StoreError.
    """
    from embedrl.index.index import Index, embedder_of

    Index.open(index)
    names = choose(reasoner, embedder, think, noted_models(index))
    warn_if_blind(names, index)
    reasons, embeds = load(names)
    return reasons, embedder_of(index, embeds)


def say_loading(names: "ModelNames") -> None:
    """Say that models are being loaded: the next seconds are silent."""
    log.info(f"loading {f'the Reasoner {names.reasoner} and ' if names.reasoner else ''}the Embedder {names.embedder} …")


def warn_if_blind(names: "ModelNames", place: str | Path) -> None:
    """Say what the shipped models are good for, unless a folder is a world that was made for them."""
    from embedrl.models.names import shipped

    is_nano = names.embedder in shipped("embedder") or names.reasoner in shipped("reasoner")
    if is_nano and not Path(place, "pairs.jsonl").is_file():
        log.warn(_BLIND)


def noted_models(place: str | Path) -> "ModelNames | None":
    """Return the names of the models that an index was made with; None where it has not noted them, or is not there yet."""
    from embedrl.index.index import Index
    from embedrl.index.location import find_home

    if not find_home(place).is_begun:
        return None
    index = Index(find_home(place), None)
    return index.model_names if index.table.is_there() else None
