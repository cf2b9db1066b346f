"""Reasoner and Embedder as pools of Ray workers (extra "scale").

A call of `reason` or `embed` is one task on one worker; callers keep all of them busy by calling from many threads (`data.lanes`),
and it is the callers who write, in this process. A worker that dies is started again, and its batch is done again, by it or another.

Files travel as their absolute paths, so that every machine must see them at the same place (a shared file system); pixels and frames
that are in memory travel as they are. So do the names of models: a folder has to be there on every machine.
"""

import importlib.util
import math
import os
import queue
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

import embedrl
from embedrl.data.protocols import Reasons, text_measure_of
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT, count_words
from embedrl.data.vectors import same_embedder
from embedrl.errors import ConfigError, EmbedRLError, MediaError, ModelError
from embedrl.media.content import Image, Page, Part, Video, part_files
from embedrl.media.passages import TextMeasure
from embedrl.media.store import Limits, limits_in_force, put_in_force
from embedrl.runtime.names import load_embedder, load_reasoner

INSTALL = "pip install 'embedrl[scale]'"

MAX_TRIES = 2
"""Number of worker deaths after which a batch is not retried."""
MAX_DEATHS_IN_A_ROW = 12
"""The run ends when workers died so often and no batch was done in between: then it is not the batches."""
MAX_RESTARTS = 100
"""Of one worker."""
START_TIMEOUT_S = 900.0
"""In which a worker must have its model loaded, the first time and each time it is started again."""
_POLL_S = 0.5
_OBJECT_STORE_BYTES = 512 * 2**20  # batches in transit; beyond, Ray uses the disk


class Worker:
    """Ray actor with one lazily loaded model. Errors of items are returned, not raised."""

    def __init__(self, kind: str, name: str, limits: Limits) -> None:
        self.kind, self.name = kind, name
        put_in_force(limits)
        self.model: Any = None

    def about(self) -> dict[str, Any] | EmbedRLError:
        """Load the model and describe it."""
        try:
            if self.model is None:
                self.model = load_reasoner(self.name) if self.kind == "reasoner" else load_embedder(self.name)
        except EmbedRLError as error:
            return error
        about = {"name": self.model.fingerprint, "version": embedrl.__version__}
        if isinstance(self.model, Reasons):
            return about | {"num_frames": self.model.num_frames}
        measure = text_measure_of(self.model)
        limits = {"has_tokenizer": measure.token_ends is not None, "max_tokens": measure.max_tokens, "max_chars": measure.max_chars}
        return about | {"dim": self.model.dim, "text": limits}

    def pid(self) -> int:
        """Return the process id."""
        return os.getpid()

    def num_tokens(self, text: str) -> int:
        """Count as the model does, or else words."""
        return getattr(self.model, "num_tokens", count_words)(text)

    def token_ends(self, text: str) -> Sequence[int]:
        """Return where the tokens of a text end for the Embedder, which has a tokenizer."""
        ends = text_measure_of(self.model).token_ends
        assert ends is not None, "asked only if it says so"
        return ends(text)

    def run(self, method: str, *batch: Sequence[Any]) -> tuple[Any, list[Path]]:
        """Call the model; return (result or error, missing files of the batch)."""
        try:
            return getattr(self.model, method)(*batch), []
        except EmbedRLError as error:
            return error, [path for item in batch[0] for path in _files(item) if not path.exists()]


class Cluster(AbstractContextManager["Cluster"]):
    """Connection to Ray that stops what it started: workers, and perhaps the cluster."""

    def __init__(self, num_workers: int, num_models: int, address: str | None = None) -> None:
        """Connect to the cluster at an address, or start one on this machine that only this machine can reach.

        Each of `num_models` models gets `num_workers` workers, and they share all CPUs and GPUs. A connection that this process has
        already is used, and stays. Raises ConfigError, or ModelError if Ray does not start.
        """
        if num_workers < 1:
            raise ConfigError(f"workers={num_workers}: give at least 1")
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(f"ray is not installed, and the engine 'ray' needs it: {INSTALL}")
        self.num_workers, self.num_models = num_workers, num_models
        self.pools: list[_Pool] = []
        self.is_ours = _connect(address, num_workers * num_models)
        try:
            self.resources = self._share()
        except ConfigError:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def reasoner(self, name: str) -> "RayReasoner":
        """Start the workers of a Reasoner by name. Raises what loading it raises, and ModelError."""
        return RayReasoner(self._pool("reasoner", name))

    def embedder(self, name: str) -> "RayEmbedder":
        """Start the workers of an Embedder by name. Raises what loading it raises, and ModelError."""
        return RayEmbedder(self._pool("embedder", name))

    def close(self) -> None:
        """Stop the workers, and the connection if it is ours."""
        import ray

        for pool in self.pools:
            for worker in pool.workers:
                ray.kill(worker)
        self.pools = []
        if self.is_ours:
            ray.shutdown()

    def _pool(self, kind: str, name: str) -> "_Pool":
        if os.path.isdir(name):
            name = os.path.abspath(name)
        pool = _Pool(kind, name, self.num_workers, self.resources)
        self.pools.append(pool)
        pool.start()
        return pool

    def _share(self) -> dict[str, float]:
        """Return the CPUs and GPUs of one worker. Ray gives it as many threads as CPUs."""
        import ray

        resources, wanted = ray.cluster_resources(), self.num_workers * self.num_models
        num_cpus, num_gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
        if num_cpus < wanted:
            raise ConfigError(
                f"workers={self.num_workers} for each of {self.num_models} models: that takes {wanted} CPUs, and the cluster has {num_cpus}"
            )
        share = {"num_cpus": float(num_cpus // wanted)}
        if num_gpus:
            share["num_gpus"] = 1.0 if num_gpus >= wanted else 1 / math.ceil(wanted / num_gpus)
        return share


def _connect(address: str | None, num_workers: int) -> bool:
    """Connect to Ray; return False if this process was connected already."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default; without it, it warns
    if address is None:
        # Ray reads this when it is imported: a cluster of its own then listens on the loopback address.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray's default is to write one into the home folder
    import ray

    if ray.is_initialized():
        return False
    warnings.filterwarnings("ignore", message="lancedb fork support", category=RuntimeWarning)  # Ray's forks become its programs at once
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"ray_address={address!r}: no cluster of the same Ray and Python answers there ({error})") from error
        return True
    num_cpus = max(num_workers, (os.cpu_count() or 1) // num_workers * num_workers)
    for attempt in range(3):
        try:
            ray.init(num_cpus=num_cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet)
            break
        except Exception as error:  # Ray raises no narrower one when its processes are slower than its fixed limits
            ray.shutdown()
            if attempt == 2:
                raise ModelError(f"Ray does not start on this machine: {error}") from error
    return True


class _Pool:
    """Worker pool of one model, with restarts."""

    def __init__(self, kind: str, name: str, num_workers: int, resources: dict[str, float]) -> None:
        import ray

        self.kind, self.name = kind, name
        actor: Any = ray.remote(Worker).options(max_restarts=MAX_RESTARTS, max_task_retries=0, **resources)
        self.workers: list[Any] = [actor.remote(kind, name, limits_in_force()) for _ in range(num_workers)]
        self.num_alive = num_workers
        self.free: queue.Queue[Any] = queue.Queue()
        self.deaths_in_a_row = 0
        self._counting = threading.Lock()
        self.about: dict[str, Any] = {}

    def start(self) -> None:
        """Wait until all workers have their model. Raises its errors, and ModelError."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        started = [worker.about.remote() for worker in self.workers]
        try:
            abouts = ray.get(started, timeout=START_TIMEOUT_S)
        except GetTimeoutError as error:
            raise ModelError(f"{self.kind}={self.name!r}: not all workers have it loaded after {START_TIMEOUT_S:g} s") from error
        except RayError as error:
            raise ModelError(f"{self.kind}={self.name!r}: its workers do not start; is embedrl on every machine? {error}") from error
        for about in abouts:
            if isinstance(about, EmbedRLError):
                raise about
            if not _same(about, abouts[0]) or about["version"] != embedrl.__version__:
                raise ConfigError(
                    f"{self.kind}={self.name!r}: the machines differ ({about}, {abouts[0]}, embedrl here {embedrl.__version__}): "
                    "give all the same files and the same embedrl"
                )
        self.about = abouts[0]
        for worker in self.workers:
            self.free.put(worker)

    def run(self, method: str, *batch: Sequence[Any]) -> Any:
        """Run a batch on a free worker and return the model's result.

        Raises what the model raises; MediaError for a batch that workers die of; ModelError when none is left; ConfigError if the
        workers do not see the files that are here.
        """
        value, unseen = self._call(lambda worker: worker.run.remote(method, *batch), batch[0])
        if isinstance(value, EmbedRLError):
            for path in unseen:
                if path.exists():
                    raise ConfigError(f"{str(path)!r} is on this machine, but its workers do not see it: put it where all machines do")
            raise value
        return value

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text as the model does."""
        return self._call(lambda worker: worker.num_tokens.remote(text), ())

    def token_ends(self, text: str) -> Sequence[int]:
        """Return where the tokens of a text end for the model."""
        return self._call(lambda worker: worker.token_ends.remote(text), ())

    def _call(self, ask: Callable[[Any], Any], items: Sequence[Item]) -> Any:
        import ray
        from ray.exceptions import RayActorError

        for _ in range(MAX_TRIES):
            worker = self._take()
            try:
                value = ray.get(ask(worker))
            except RayActorError:
                with self._counting:
                    self.deaths_in_a_row += 1
                if not self._is_back(worker):
                    worker = None
                    self._lose_one()
            else:
                self.deaths_in_a_row = 0
                return value
            finally:
                if worker is not None:
                    self.free.put(worker)
        raise MediaError(f"{_named(items)}: {MAX_TRIES} {self.kind} workers died of it (out of memory?); it is not tried again")

    def _take(self) -> Any:
        """Wait for a free worker. Raises ModelError if none is left or all keep dying."""
        worker = self.free.get()
        if worker is None or self.deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            self.free.put(worker)  # the other threads are to learn it too
            reason = "cannot be started again" if worker is None else f"died {self.deaths_in_a_row} times, with no batch done in between"
            raise ModelError(f"the workers of {self.kind}={self.name!r} {reason}; what was done is kept: mend them and run again")
        return worker

    def _is_back(self, worker: Any) -> bool:
        """Wait for a restarted worker; return whether it has the same model as before."""
        import ray
        from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError

        end_s = time.monotonic() + START_TIMEOUT_S
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                return _same(ray.get(worker.about.remote(), timeout=left_s), self.about)
            except (ActorDiedError, GetTimeoutError):
                return False
            except RayActorError:  # it is being started
                time.sleep(_POLL_S)
        return False

    def _lose_one(self) -> None:
        with self._counting:
            self.num_alive -= 1
            if not self.num_alive:
                self.free.put(None)


def _same(about: dict[str, Any] | EmbedRLError, other: dict[str, Any]) -> bool:
    """Return whether two workers describe the same model; of a server, what its probes gave may differ by rounding."""
    if isinstance(about, EmbedRLError):
        return False
    return same_embedder(about["name"], other["name"]) and {**about, "name": ""} == {**other, "name": ""}


class RayReasoner:
    """Workers that write T-CoTs. Fulfils `Reasons`; may be called from several threads at once."""

    def __init__(self, pool: _Pool) -> None:
        self.pool = pool
        self.fingerprint: str = pool.about["name"]
        self.num_frames: int = pool.about["num_frames"]

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order, on one worker. Raises what the model raises; see `_Pool.run`."""
        return self.pool.run("reason", [_portable(item) for item in items])

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text as the model writes it; words, if it does not tell."""
        return self.pool.num_tokens(text)


class RayEmbedder:
    """Workers that embed items. Fulfils `Embeds`; may be called from several threads at once."""

    def __init__(self, pool: _Pool) -> None:
        self.pool = pool
        self.fingerprint: str = pool.about["name"]
        self.dim: int = pool.about["dim"]
        text = pool.about["text"]
        self.text_measure = TextMeasure(pool.token_ends if text["has_tokenizer"] else None, text["max_tokens"], text["max_chars"])
        """Its tokens, and how much of a text it reads."""

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        """Return float32 (N, dim), unit length, in order, from one worker. Raises what the model raises; see `_Pool.run`."""
        return np.array(self.pool.run("embed", [_portable(item) for item in items], list(tcots)))  # Ray's own is read-only


def _portable(item: Item) -> Item:
    """Return an item whose paths hold in any folder of any machine."""
    return item.model_copy(update={"content": tuple(map(_portable_part, item.content))})


def _portable_part(part: Part) -> Part:
    if isinstance(part, Video) and part.frame_files is not None:
        paths = tuple(map(Path.absolute, part.frame_files.paths))
        return part.model_copy(update={"frame_files": part.frame_files.model_copy(update={"paths": paths})})
    if isinstance(part, Image | Page | Video) and part.path is not None:
        return part.model_copy(update={"path": part.path.absolute()})
    return part


def _files(item: Item) -> list[Path]:
    """Return the files that an item's parts name."""
    return [path for part in item.content for path in part_files(part)]


def _named(items: Sequence[Item]) -> str:
    """Name a batch by its first items: their files, or what they say."""
    shown = [", ".join(map(str, _files(item))) or item.text[:60] for item in items[:3]]
    return "; ".join(map(repr, shown)) + (f" and {len(items) - 3} more items" if len(items) > 3 else "")
