"""The names of the models that an index was made with, so that searches need not be told them."""

from pydantic import BaseModel, ConfigDict, ValidationError

from embedrl.files import expanded


class ItemGate(BaseModel):
    """The gate of candidates that an index was made with (--think auto)."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    path: str | None = None
    """Its file, absolute; None for the one in the Embedder's folder."""
    share: float | None = None
    """Fraction of items to reason about; None for the default."""


class ModelNames(BaseModel):
    """Names by which models are loaded: shipped ones, absolute paths of folders, hub ids, URLs of servers."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    reasoner: str | None
    """None for an index whose items were never reasoned about."""
    embedder: str
    text_reader: str | None = None
    """What reads text in images; "none" for nothing, None if that was never said."""
    transcriber: str | None = None
    """What transcribes speech, likewise."""
    gate: ItemGate | None = None
    """What decides which items are reasoned about; None for all of them."""

    @classmethod
    def of(
        cls,
        reasoner: str | None,
        embedder: str,
        text_reader: str | None = None,
        transcriber: str | None = None,
        gate: ItemGate | None = None,
    ) -> "ModelNames":
        """Return names that mean the same from any folder: relative paths become absolute."""
        return cls(
            reasoner=None if reasoner is None else _lasting(reasoner),
            embedder=_lasting(embedder),
            text_reader=text_reader,
            transcriber=None if transcriber is None else _lasting(transcriber),
            gate=gate,
        )

    def gate_for(self, embedder: str | None) -> ItemGate | None:
        """Return the gate that goes with an Embedder by this name; None stands for the noted one."""
        return self.gate if embedder is None or _lasting(embedder) == self.embedder else None

    @classmethod
    def read(cls, text: str | None) -> "ModelNames | None":
        """Read what an index has noted; None where it has nothing, or what this version cannot read."""
        try:
            return None if text is None else cls.model_validate_json(text)
        except ValidationError:
            return None

    def after(self, before: "ModelNames | None") -> "ModelNames":
        """Return these names over those that were noted before: a run without a Reasoner does not make its name forgotten,
        nor its gate.

        Nor is that of a text reader or of a transcriber, until it is said that there is none.
        """
        if before is not None:
            readers = {name: getattr(self, name) or getattr(before, name) for name in ("text_reader", "transcriber")}
            self = self.model_copy(update=readers)
        if self.reasoner is None and before is not None and before.embedder == self.embedder:
            return self.model_copy(update={"reasoner": before.reasoner, "gate": before.gate})
        return self


def _lasting(name: str) -> str:
    from embedrl.models.names import shipped  # its library takes longer to import than reading a note should cost

    is_shipped = name in ("fake", "none") or any(name in shipped(kind) for kind in ("reasoner", "embedder"))
    place, mark, options = name.partition("?")
    return f"{folder.resolve()}{mark}{options}" if not is_shipped and (folder := expanded(place)).is_dir() else name
