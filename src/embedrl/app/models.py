"""Models by name: "nano" and "nano-sft" (shipped), "fake" (for tests), a local folder, or the URL of a server (Reasoners)."""

from pathlib import Path

from embedrl.data.roles import Embeds, Reasons
from embedrl.errors import ConfigError

_SHIPPED = {"reasoner": {"nano-sft": "reasoner-sft"}, "embedder": {"nano": "embedder"}}


def load_reasoner(name: str, *, temperature: float = 0.0) -> Reasons:
    """Load a Reasoner. Raises ConfigError for an unknown name, ModelError for a folder that is not a model.

    A URL (`http://host:8000/v1#model`) stands for an OpenAI-compatible server; without `#model` it is asked which one it has.
    """
    if name == "fake":
        from embedrl.testing import FakeReasoner

        return FakeReasoner()
    if name.startswith(("http://", "https://")):
        from embedrl.reasoner.remote import RemoteReasoner

        return RemoteReasoner.from_url(name, temperature=temperature)
    folder = _folder(name, "reasoner")
    from embedrl.reasoner.local import LocalReasoner

    return LocalReasoner.load(folder, temperature=temperature)


def load_embedder(name: str) -> Embeds:
    """Load an Embedder. Raises ConfigError for an unknown name, ModelError for a folder that is not a model."""
    if name == "fake":
        from embedrl.testing import FakeEmbedder

        return FakeEmbedder()
    folder = _folder(name, "embedder")
    from embedrl.embedder.embedder import Embedder

    return Embedder.load(folder)


def shipped(kind: str) -> dict[str, Path]:
    """Return the models that come with the package: name -> folder. `kind` is "reasoner" or "embedder"."""
    weights = Path(__file__).parents[1] / "nano" / "weights"
    return {name: weights / folder for name, folder in _SHIPPED[kind].items()}


def _folder(name: str, kind: str) -> Path:
    if name in (known := shipped(kind)):
        return known[name]
    if (folder := Path(name)).is_dir():
        return folder
    raise ConfigError(f"{kind}={name!r}: not a folder, nor one of {', '.join([*known, 'fake'])}")
