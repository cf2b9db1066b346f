"""Bulk work on Ray: two workers of each model, one of them killed in the middle, give what this process gives."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import ray

from embedrl.annotate.annotate import annotate
from embedrl.annotate.store import Annotations
from embedrl.data.records import Records
from embedrl.data.sample import Item, Role
from embedrl.data.sources import SOURCES
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError, MediaError
from embedrl.evaluation.cache import Cache, CachedEmbedder, CachedReasoner
from embedrl.evaluation.evaluate import evaluate
from embedrl.evaluation.world import world_tasks
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.row import Row
from embedrl.media.content import Image, Text
from embedrl.media.image import save_image
from embedrl.runtime.engine import Engine, start_models
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.runtime.ray import Cluster
from embedrl.world.write import make_world
from tests.coloured_folder import NUM_PLACES, make_folder, picture

LANES = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Ray on this machine, with room for two workers of each of two models; what connects later uses it."""
    with Cluster(2, 2) as started:
        yield started


def pids(model: Any) -> list[int]:
    """Return the process of each worker of a model."""
    return ray.get([worker.pid.remote() for worker in model.pool.workers])


class Killing:
    """A model on Ray; one of its workers is killed as the third batch is asked for, while the others are under way."""

    def __init__(self, model: Any) -> None:
        self.model, self.num_calls = model, 0
        self.fingerprint, self.num_frames, self.dim = model.fingerprint, getattr(model, "num_frames", 0), getattr(model, "dim", 0)
        self.before = pids(model)

    def reason(self, items: Sequence[Item]) -> Any:
        self._kill()
        return self.model.reason(items)

    def embed(self, items: Sequence[Item], tcots: Sequence[TCoT | None]) -> np.ndarray:
        self._kill()
        return self.model.embed(items, tcots)

    def _kill(self) -> None:
        self.num_calls += 1
        if self.num_calls == 3:
            os.kill(self.before[0], signal.SIGKILL)

    def was_killed(self) -> bool:
        after = pids(self.model)
        return len(set(after) & set(self.before)) == len(after) - 1


@pytest.mark.slow
def test_annotate_gives_the_same_tcots(cluster: Cluster, tmp_path: Path):
    make_world(tmp_path / "library", num_pairs=6, seed=3)

    def outcomes(reasoner: Any, name: str, max_in_flight: int) -> dict[str, Any]:
        pairs = SOURCES["lines"](tmp_path / "library" / "pairs.jsonl", None)
        report = annotate(pairs, reasoner, tmp_path / name, batch_size=2, max_in_flight=max_in_flight)
        assert report.num_pairs == 6
        assert report.failed == 0
        assert report.left == 0
        store = Annotations(tmp_path / name)
        found = {key: records.get(key) for records in store.outcomes.values() for key in records}
        assert len(store.pairs) == 6
        store.close()
        return found

    with Cluster(2, 1) as started:
        killing = Killing(started.reasoner("nano"))
        found = outcomes(killing, "ray", LANES)
        assert killing.was_killed()
        assert killing.model.num_tokens("a small red star") == load_reasoner("nano").num_tokens("a small red star")
    assert found == outcomes(load_reasoner("nano"), "local", 1)
    assert len(found) > 6


@pytest.mark.slow
def test_index_gives_the_same_rows(cluster: Cluster, tmp_path: Path):
    def rows(reasoner: Any, embedder: Any, name: str, max_in_flight: int) -> dict[str, Row]:
        folder = make_folder(tmp_path / name)
        index = Index.open(folder, embedder=embedder)
        report = ingest(folder, index, reasoner, embedder, batch_size=2, max_in_flight=max_in_flight)
        assert not report.failures
        return {row.place.id: row for row in index.rows({place.key for place in index.places()})}

    with Cluster(2, 2) as started:
        killing = Killing(started.embedder("nano"))
        found = rows(started.reasoner("fake"), killing, "ray", LANES)
        assert killing.was_killed()
    local = rows(load_reasoner("fake"), load_embedder("nano"), "local", 1)
    assert found.keys() == local.keys()
    assert len(found) == NUM_PLACES
    for place, row in local.items():
        assert found[place].tcot_text == row.tcot_text
        assert found[place].place.key == row.place.key
        assert float(np.dot(found[place].plain, row.plain)) > 0.99999
        assert float(np.dot(found[place].tcot, row.tcot)) > 0.99999


def test_evaluate_gives_the_same_vectors_and_figures(cluster: Cluster, tmp_path: Path):
    tasks = world_tasks(seed=0, num_queries=2, pool_size=8)[:3]

    def run(reasoner: Any, embedder: Any, name: str, max_in_flight: int) -> tuple[Any, dict[str, Any]]:
        with Cache(tmp_path / name) as cache:
            result = evaluate(
                tasks,
                CachedEmbedder(embedder, cache.vectors),
                reasoner=CachedReasoner(reasoner, cache),
                batch_size=4,
                max_in_flight=max_in_flight,
            )
        kept = {kind: Records(tmp_path / name / f"{kind}.jsonl") for kind in ("tcots", "vectors")}
        return result, {f"{kind} {key}": records.get(key) for kind, records in kept.items() for key in records}

    with Cluster(2, 2) as started:
        killing = Killing(started.reasoner("fake"))
        on_ray, kept = run(killing, started.embedder("fake"), "ray", LANES)
        assert killing.was_killed()
    local, kept_local = run(load_reasoner("fake"), load_embedder("fake"), "local", 1)
    assert kept == kept_local
    assert on_ray.tcots == local.tcots
    for one, other in zip(on_ray.tasks, local.tasks, strict=True):
        assert one.rankings == other.rankings


def deadly() -> PIL.Image.Image:
    """A picture that ends the process that unpacks it."""

    class Deadly(PIL.Image.Image):
        def __reduce_ex__(self, protocol: Any) -> Any:
            return os._exit, (9,)

    image = picture("red")
    image.__class__ = Deadly
    return image


def text_item(text: str) -> Item:
    return Item(content=(Text(text=text),), role=Role.TARGET_TEXT)


def test_what_kills_its_workers_is_a_failure_of_its_own(cluster: Cluster, tmp_path: Path):
    bad = Item(content=(Image(pixels=deadly()), Text(text="the culprit")), role=Role.TARGET_IMAGE)
    unseen = tmp_path / "blue.png"
    save_image(picture("blue"), unseen)
    with Cluster(2, 1) as started:
        reasoner = started.reasoner("fake")
        with pytest.raises(MediaError, match=r"the culprit.*2 reasoner workers died"):
            reasoner.reason([text_item("one"), bad])
        assert reasoner.reason([text_item("one")]) == load_reasoner("fake").reason([text_item("one")]), "the workers are back"
        with pytest.raises(MediaError, match=r"no such file|cannot be read"):
            reasoner.reason([Item(content=(Image(path=tmp_path / "none.png"),), role=Role.TARGET_IMAGE)])
        with open(unseen, "rb") as file:  # a path that only this process sees: no worker has so many files open
            here = Item(
                content=(Image(path=Path(f"/proc/self/fd/{fcntl.fcntl(file.fileno(), fcntl.F_DUPFD, 900)}")),), role=Role.TARGET_IMAGE
            )
            if here.content[0].path.exists() and sys.platform == "linux":
                with pytest.raises(ConfigError, match="workers do not see it"):
                    reasoner.reason([here])


def test_wrong_settings_name_the_fix(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="add it, or leave them out"):
        Engine("local", workers=2)
    with pytest.raises(ConfigError, match=r"workers=9.* takes 18 CPUs"), start_models(Engine("ray", 9), ["fake"], "fake"):
        pass
    with pytest.raises(ConfigError, match="not a folder"), start_models(Engine("ray"), ["no-such-model"], None):
        pass
    with pytest.raises(ConfigError, match="needs no workers"), start_models(Engine("ray"), ["http://127.0.0.1:9/v1#m"], None):
        pass
    with pytest.raises(ConfigError, match="cannot be repeated"), start_models(Engine("ray"), ["fake"], "fake", temperature=1):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'embedrl\[scale\]'"), start_models(Engine("ray"), ["fake"], None):
        pass
