"""Loading models by name: "nano" (shipped), "nano-sft" (the Reasoner before RL), "nano-judge", "fake" (for tests), a folder, a hub id
(`owner/name@revision`), or a server's URL."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from embedrl import log
from embedrl.data.protocols import Embeds, ReadsText, Reasons, Reranks, Transcribes
from embedrl.errors import ConfigError
from embedrl.files import expanded
from embedrl.media.store import Limits
from embedrl.models.names import is_hub_id, is_server, resolve, shipped, split_form

if TYPE_CHECKING:
    from embedrl.embedder.embedder import Embedder
    from embedrl.reasoner.reranker import JudgeReranker

__all__ = [
    "check_names",
    "is_server",
    "load_both",
    "load_embedder",
    "load_local_embedder",
    "load_reasoner",
    "load_reranker",
    "load_text_reader",
    "load_transcriber",
    "resolve",
    "shipped",
]


def _spelled(name: str | Path) -> str:
    if not isinstance(name, str | Path):
        raise ConfigError(f"a model's name of type {type(name).__name__}: give a str, or the Path of its folder")
    return str(name)


def load_reasoner(
    name: str | Path,
    *,
    temperature: float = 0.0,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    quantize: str | None = None,
    fast: bool = True,
    concurrency: int | None = None,
) -> Reasons:
    """Load a Reasoner by name: "nano" or another shipped one, a folder, a hub id (`owner/name@revision`), or a server's URL.

    `device` defaults to the best accelerator; `dtype` to that of the files, on a CPU to float32. `attention` is transformers'
    implementation ("sdpa", "eager", ...). `fast=False` runs transformers' own forward passes. `temperature` 0 decodes greedily.
    A URL (`http://host:8000/v1#model`) is an OpenAI-compatible server, which is sent up to `concurrency` requests at once; without
    `#model` its only model is used. A name that ends in `?form=answer` (a server's: `#model?form=answer`) is the same Reasoner, asked for
    the answers of T-CoTs alone: a quarter of the tokens, and no evidence. Raises ConfigError for an unknown name, ModelError for a folder
    that is not a model.
    """
    name = _spelled(name)
    if is_server(name):
        from embedrl.reasoner.remote import RemoteReasoner

        return RemoteReasoner.from_url(name, temperature=temperature, **({"max_in_flight": concurrency} if concurrency else {}))
    if concurrency is not None:
        raise ConfigError(f"concurrency={concurrency} is for a server, and {name!r} is none; for a model here, set batch_size")
    if name == "fake":
        from embedrl.testing import FakeReasoner

        return FakeReasoner()
    name, form = split_form(name)
    folder = resolve(name, "reasoner")
    from embedrl.reasoner.local import LocalReasoner

    return LocalReasoner.load(
        folder, device=device, dtype=dtype, attention=attention, quantize=quantize, fast=fast, temperature=temperature, form=form
    )


def load_embedder(
    name: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    quantize: str | None = None,
    fast: bool = True,
) -> Embeds:
    """Load an Embedder by name: "nano", a folder, a hub id (`owner/name@revision`) or a server's URL. Options are those of `load_reasoner`.

    A URL (`http://host:8000/v1#model`) stands for a server that gives vectors; see `RemoteEmbedder.from_url`.
    Raises ConfigError for an unknown name, ModelError for a folder that is not a model.
    """
    name = _spelled(name)
    if is_server(name):
        from embedrl.embedder.remote import RemoteEmbedder

        return RemoteEmbedder.from_url(name)
    if name == "fake":
        from embedrl.testing import FakeEmbedder

        return FakeEmbedder()
    folder = resolve(name, "embedder")
    from embedrl.embedder.embedder import Embedder

    return Embedder.load(folder, device=device, dtype=dtype, attention=attention, quantize=quantize, fast=fast)


def load_local_embedder(name: str, *, quantize: str | None = None) -> "Embedder":
    """Load an Embedder whose weights are in this process. Raises ConfigError for another one."""
    embedder = load_embedder(name, quantize=quantize)
    from embedrl.embedder.embedder import Embedder

    if not isinstance(embedder, Embedder):
        raise ConfigError(f"embedder={name!r}: a model with loaded weights is needed")
    return embedder


def load_both(reasoner: str | None, embedder: str) -> tuple[Reasons | None, Embeds]:
    """Load a Reasoner (or None) and an Embedder, sharing the weights of a common base if they are LoRA adapters of it, or it itself.

    Raises what `load_reasoner` and `load_embedder` raise.
    """
    if reasoner is None:
        return None, load_embedder(embedder)
    if is_server(reasoner) or is_server(embedder) or "fake" in (reasoner, embedder):
        return load_reasoner(reasoner), load_embedder(embedder)
    place, form = split_form(reasoner)
    folders = [resolve(place, "reasoner"), resolve(embedder, "embedder")]
    if not any((folder / "adapter_config.json").is_file() for folder in folders):
        return load_reasoner(reasoner), load_embedder(embedder)
    from embedrl.embedder.embedder import Embedder
    from embedrl.models.load import base_folder, load_shared
    from embedrl.reasoner.local import LocalReasoner

    if len({base_folder(folder).resolve() for folder in folders}) > 1:
        return load_reasoner(reasoner), load_embedder(embedder)
    first, second = load_shared(folders)
    return LocalReasoner.on(*first, folders[0], form=form), Embedder.on(second[0].headless(), *second[1:], folders[1])


def load_reranker(name: str, reasoner: Reasons | None, embedder: Embeds | None = None) -> Reranks:
    """Load a reranker: "reread" (the loaded models', by a second reading), "judge" (the loaded Reasoner's), a Reasoner's or a
    cross-encoder's folder, or a server's URL.

    Raises ConfigError for a name that is none of these, or a Reasoner that cannot judge; ModelError for a folder that is not a model.
    """
    if is_server(name):
        from embedrl.reasoner.rerank_client import RemoteReranker

        return RemoteReranker(name)
    if name == "fake":
        from embedrl.testing import FakeReranker

        return FakeReranker()
    from embedrl.reasoner.local import LocalReasoner
    from embedrl.reasoner.remote import RemoteReasoner
    from embedrl.reasoner.reranker import JudgeReranker

    if name == "reread":
        from embedrl.index.second_reading import SecondReading

        if not isinstance(reasoner, LocalReasoner | RemoteReasoner) or embedder is None:
            raise ConfigError("--reranker reread: needs the Reasoner and the Embedder of the index, with T-CoTs on; name another reranker")
        answers = reasoner.answering()
        if answers.fingerprint == reasoner.fingerprint:
            raise ConfigError("--reranker reread: this Reasoner writes answers alone (form=answer), and would read the same a second time")
        return SecondReading(answers, embedder)
    if name == "judge":
        if not isinstance(reasoner, LocalReasoner):
            raise ConfigError("--reranker judge: needs a Reasoner with loaded weights, and with T-CoTs on; name another reranker")
        return _said(JudgeReranker(reasoner))
    folder = resolve(name, "reasoner")
    if not (folder / "preprocessor_config.json").is_file() and not (folder / "processor_config.json").is_file():
        from embedrl.embedder.cross_encoder import TextReranker

        return TextReranker(folder)
    return _said(JudgeReranker(LocalReasoner.load(folder)))


def _said(judge: "JudgeReranker") -> "JudgeReranker":
    """Warn of a judge that only reads: as second stage, those of the nano models choose hardly better than by chance."""
    if not judge.sees:
        log.warn("this judge only reads T-CoTs; on the world it chose among ten hits hardly above chance (docs/when-reasoning-pays.md)")
    return judge


def load_text_reader(name: str | None, limits: Limits | None = None) -> ReadsText | None:
    """Load what reads text in images: "tesseract", or "tesseract:deu+eng" with its languages; "rapidocr"; None and "none" for nothing.

    Raises ConfigError for another name, and where the program, a language or the package is not installed.
    """
    if name in (None, "none"):
        return None
    program, _, languages = name.partition(":")
    if name == "fake":
        from embedrl.testing import FakeTextReader

        return FakeTextReader()
    if name == "rapidocr":
        from embedrl.models.rapid_ocr import RapidOcr

        return RapidOcr(limits=limits)
    if program != "tesseract":
        raise ConfigError(f"--read-text {name}: give tesseract, with languages as in tesseract:deu+eng, rapidocr, or none")
    from embedrl.models.tesseract import Tesseract

    return Tesseract(*filter(None, [languages]), limits=limits)


def load_transcriber(name: str | None) -> Transcribes | None:
    """Load what transcribes speech: the URL of a server with `/v1/audio/transcriptions` (`http://host:8000/v1#model?language=de`), or the
    folder of a Whisper model of faster-whisper (`FOLDER?language=de`); None and "none" for nothing.

    Raises ConfigError for another name, and where faster-whisper is not installed; ModelError for what cannot be loaded or asked.
    """
    if name in (None, "none"):
        return None
    if name == "fake":
        from embedrl.testing import FakeTranscriber

        return FakeTranscriber()
    if is_server(name):
        from embedrl.models.remote_transcriber import RemoteTranscriber

        return RemoteTranscriber.from_url(name)
    place, _, options = name.partition("?")
    folder, settings = expanded(place), dict(parse_qsl(options))
    if not folder.is_dir():
        raise ConfigError(f"--transcribe {name}: give a server's URL (http://host:8000/v1#model), a folder of a Whisper model, or none")
    if unknown := sorted(settings.keys() - {"language"}):
        raise ConfigError(f"--transcribe {name}: {unknown[0]!r} is no setting of a folder; it has language, as in {place}?language=de")
    from embedrl.models.whisper import FasterWhisper

    return FasterWhisper(folder, **settings)


def check_names(reasoner: str | None, embedder: str | None) -> None:
    """Raise ConfigError for unknown model names, without loading anything or asking the hub."""
    for kind, name in (("reasoner", reasoner), ("embedder", embedder)):
        if name is None or name == "fake" or is_server(name):
            continue
        place = split_form(name)[0] if kind == "reasoner" else name
        if not is_hub_id(place):
            resolve(place, kind)
