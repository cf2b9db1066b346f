"""The names of the models that an index was made with, so that searches need not be told them."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError


class ModelNames(BaseModel):
    """Names by which models are loaded: shipped ones, absolute paths of folders, hub ids, URLs of servers."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    reasoner: str | None
    """None for an index whose items were never reasoned about."""
    embedder: str
    text_reader: str | None = None
    """What reads text in images; "none" for nothing, None if that was never said."""

    @classmethod
    def of(cls, reasoner: str | None, embedder: str, text_reader: str | None = None) -> "ModelNames":
        """Return names that mean the same from any folder: relative paths become absolute."""
        return cls(reasoner=None if reasoner is None else _lasting(reasoner), embedder=_lasting(embedder), text_reader=text_reader)

    @classmethod
    def read(cls, text: str | None) -> "ModelNames | None":
        """Read what an index has noted; None where it has nothing, or what this version cannot read."""
        try:
            return None if text is None else cls.model_validate_json(text)
        except ValidationError:
            return None

    def after(self, before: "ModelNames | None") -> "ModelNames":
        """Return these names over those that were noted before: a run without a Reasoner does not make its name forgotten.

        Nor is that of a text reader, until it is said that there is none.
        """
        if self.text_reader is None and before is not None:
            self = self.model_copy(update={"text_reader": before.text_reader})
        if self.reasoner is None and before is not None and before.embedder == self.embedder:
            return self.model_copy(update={"reasoner": before.reasoner})
        return self


def _lasting(name: str) -> str:
    from embedrl.models.names import shipped  # its library takes longer to import than reading a note should cost

    is_shipped = name == "fake" or any(name in shipped(kind) for kind in ("reasoner", "embedder"))
    return str(folder.resolve()) if not is_shipped and (folder := Path(name).expanduser()).is_dir() else name
