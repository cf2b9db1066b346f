"""Where models run for bulk work: in this process, or in Ray workers."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from embedrl.data.protocols import Embeds, Reasons
from embedrl.errors import ConfigError
from embedrl.models.names import is_server
from embedrl.runtime.names import load_both, load_embedder, load_reasoner

EngineKind = Literal["local", "ray"]
DEFAULT_WORKERS = 2


@dataclass(frozen=True)
class Engine:
    """Settings of where models run."""

    kind: EngineKind = "local"
    workers: int | None = None
    """Number of Ray workers per model."""
    address: str | None = None
    """Address of a Ray cluster; None: Ray is started on this machine and stopped after."""

    def __post_init__(self) -> None:
        if self.kind == "local" and (self.workers is not None or self.address is not None):
            raise ConfigError("--workers and --ray-address are for --engine ray: add it, or leave them out")


LOCAL = Engine()


@dataclass(frozen=True)
class LoadedModels:
    """Loaded models."""

    reasoners: Mapping[str, Reasons]
    """By name."""
    embedder: Embeds | None
    max_in_flight: int
    """Number of batches to process concurrently."""


@contextmanager
def start_models(
    engine: Engine, reasoners: Sequence[str], embedder: str | None, *, temperature: float = 0.0, concurrency: int | None = None
) -> Generator[LoadedModels]:
    """Start models by name, and end what was started for them. Raises ConfigError and ModelError.

    A server needs no workers: it is asked from here (a Reasoner up to `concurrency` things at once), and Ray runs the other model alone.
    """
    if engine.kind == "local":
        if len(reasoners) == 1 and embedder is not None and not temperature and concurrency is None:
            reasons, embeds = load_both(reasoners[0], embedder)
            assert reasons is not None
            yield LoadedModels({reasoners[0]: reasons}, embeds, 1)
            return
        loaded = {name: load_reasoner(name, temperature=temperature, concurrency=concurrency) for name in reasoners}
        yield LoadedModels(loaded, load_embedder(embedder) if embedder is not None else None, 1)
        return
    if temperature:
        raise ConfigError(f"--temperature {temperature:g}: what is sampled on Ray cannot be repeated; leave it out, or use --engine local")
    servers = [name for name in (*reasoners, embedder) if name is not None and is_server(name)]
    num_models = len(reasoners) + (embedder is not None) - len(servers)
    if not num_models:
        raise ConfigError(f"{', '.join(servers)}: a server needs no workers on Ray; use --engine local")
    if concurrency is not None and not any(map(is_server, reasoners)):
        raise ConfigError(f"concurrency={concurrency} is for a server; on Ray, set --workers")
    from embedrl.runtime.ray import Cluster

    num_workers = DEFAULT_WORKERS if engine.workers is None else engine.workers
    with Cluster(num_workers, num_models, engine.address) as cluster:
        started = {name: load_reasoner(name, concurrency=concurrency) if name in servers else cluster.reasoner(name) for name in reasoners}
        embeds = None if embedder is None else load_embedder(embedder) if embedder in servers else cluster.embedder(embedder)
        yield LoadedModels(started, embeds, 2 * num_workers)
