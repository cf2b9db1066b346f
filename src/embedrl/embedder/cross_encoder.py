"""Cross-encoder folders of sentence-transformers as rerankers of texts."""

from collections.abc import Sequence
from pathlib import Path

from sentence_transformers import CrossEncoder

from embedrl.data.protocols import Side
from embedrl.errors import ModelError
from embedrl.models.weights import read_model_json


class TextReranker:
    """A cross-encoder. Fulfils `Reranks`; it reads texts, and of media what their T-CoTs answer."""

    def __init__(self, folder: Path) -> None:
        """Load a local folder, safetensors only. Raises ModelError."""
        read_model_json(folder / "config.json")
        if not any(folder.glob("*.safetensors")):
            raise ModelError(f"{str(folder)!r} holds no *.safetensors: pickled weights are not read; save the model with safetensors")
        try:
            settings = {"use_safetensors": True, "local_files_only": True}
            self.model = CrossEncoder(str(folder), local_files_only=True, trust_remote_code=False, model_kwargs=settings)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"{str(folder)!r} is no cross-encoder: {' '.join(str(error).split())[:300]}") from error
        if self.model.num_labels != 1:
            raise ModelError(f"{str(folder)!r} gives {self.model.num_labels} scores for a pair; a reranker gives one")
        self.fingerprint = f"cross-encoder-{folder.name}"

    def rerank(self, query: Side, candidates: Sequence[Side]) -> list[float | None]:
        """Return the model's score of each candidate; None for a side without any words."""
        asked, texts = _text(query), [_text(candidate) for candidate in candidates]
        pairs = [(asked, text) for text in texts if asked and text]
        scores = iter(self.model.predict(pairs, show_progress_bar=False).tolist() if pairs else ())
        return [next(scores) if asked and text else None for text in texts]


def _text(side: Side) -> str:
    item, tcot = side
    return " ".join(filter(None, [item.text, tcot.answer if tcot else ""]))
