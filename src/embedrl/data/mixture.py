"""Weighted dataset mixture in one-dataset batches, deterministic by seed and batch number.

In an epoch, a data set of weight w is gone through w times. A pass over it is a fresh shuffle, cut into whole batches; a weight
of 0.5 spreads one pass over two epochs. No batch depends on the ones before it, so a run resumes at any of them.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.errors import ConfigError


class MixtureConfig(BaseModel):
    """Settings of a mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch_size: int = Field(ge=1)
    """Rows per batch."""
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)
    """Dataset -> passes per epoch."""
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Dataset -> maximum number of rows used, a fixed random sample."""
    videos: tuple[str, ...] = ()
    """Datasets of videos, whose batches take the most memory and time."""
    max_video_run: int = Field(default=1, ge=1)
    """Maximum number of consecutive batches of videos."""
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> "MixtureConfig":
        for setting, names in (("caps", self.caps), ("videos", self.videos)):
            if unknown := sorted(set(names) - set(self.weights)):
                raise ConfigError(f"{setting} names {unknown[0]!r}, which has no weight; give it one, or drop it from {setting}")
        return self


class Batch(NamedTuple):
    """Rows of one dataset."""

    number: int
    """0-based, over all epochs."""
    epoch: int
    """From 0."""
    dataset: str
    rows: tuple[int, ...]
    """0-based, distinct."""


class Portion(NamedTuple):
    """Share of a dataset in the mixture."""

    num_rows: int
    """Rows used."""
    num_capped: int
    """Rows left out by the cap."""
    num_dropped: int
    """Rows per pass that do not fill a batch; others in each pass."""
    num_batches: float
    """Mean number of batches per epoch."""


class Mixture:
    """Batches of datasets of known sizes. Keeps the order of two epochs in memory."""

    def __init__(self, config: MixtureConfig, sizes: Mapping[str, int]) -> None:
        """Lay out the batches. Raises ConfigError for settings that do not fit the datasets."""
        self.config, self.sizes = config, dict(sizes)
        if set(sizes) != set(config.weights):
            odd = min(set(sizes) ^ set(config.weights))
            raise ConfigError(f"{odd!r} has {'rows' if odd in sizes else 'a weight'} only; every data set needs both rows and a weight")
        self._batches_per_pass: dict[str, int] = {}
        self._batches_per_epoch: dict[str, Fraction] = {}
        for name, weight in sorted(config.weights.items()):
            num_rows = self._num_rows(name)
            self._batches_per_pass[name] = num_rows // config.batch_size
            # As the decimal number that was written: 0.7 times 10 is 7.
            self._batches_per_epoch[name] = Fraction(repr(weight)) * self._batches_per_pass[name]
            if not self._batches_per_pass[name]:
                raise ConfigError(f"batch_size={config.batch_size}: {name!r} has only {num_rows} rows; lower it, or leave {name!r} out")
            if self._batches_per_epoch[name] < 1:
                fix = f"give at least {ceil(1e4 / self._batches_per_pass[name]) / 1e4:g}, or leave it out"
                raise ConfigError(f"weights.{name}={weight}: less than one of its {self._batches_per_pass[name]} batches an epoch; {fix}")
        self._total = sum(self._batches_per_epoch.values())
        self._require_room_for_videos()
        self._order = lru_cache(maxsize=2)(self._make_order)
        self._pass = lru_cache(maxsize=2 * len(sizes))(self._make_pass)

    def portions(self) -> dict[str, Portion]:
        """Return dataset -> share in the mixture."""
        return {
            name: Portion(
                num_rows=self._num_rows(name),
                num_capped=self.sizes[name] - self._num_rows(name),
                num_dropped=self._num_rows(name) % self.config.batch_size,
                num_batches=float(rate),
            )
            for name, rate in self._batches_per_epoch.items()
        }

    def num_batches(self, num_epochs: int) -> int:
        """Return the number of batches of the first epochs."""
        return sum(self._num_before(name, num_epochs) for name in self._batches_per_epoch)

    def batch(self, number: int) -> Batch:
        """Return a batch by its 0-based number, unbounded."""
        if number < 0:
            raise ConfigError(f"batch {number}: batches are numbered from 0")
        epoch = floor(number / self._total)
        while self.num_batches(epoch + 1) <= number:  # at most once: each data set's count is rounded down
            epoch += 1
        name, turn = self._order(epoch)[number - self.num_batches(epoch)]
        pass_number, place = divmod(turn, self._batches_per_pass[name])
        size = self.config.batch_size
        return Batch(number, epoch, name, tuple(self._pass(name, pass_number)[place * size : (place + 1) * size]))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches from a number on, endlessly."""
        while True:
            yield self.batch(start)
            start += 1

    def _num_before(self, name: str, epoch: int) -> int:
        """Return the number of a dataset's batches before an epoch."""
        rate = self._batches_per_epoch[name]
        return epoch * rate.numerator // rate.denominator

    def _num_rows(self, name: str) -> int:
        return min(self.sizes[name], self.config.caps.get(name, self.sizes[name]))

    def _rng(self, *names: object) -> random.Random:
        return random.Random(":".join(map(str, ("mixture", self.config.seed, *names))))

    def _make_pass(self, name: str, number: int) -> list[int]:
        """Return the shuffled rows of a pass over a dataset."""
        size, num_rows = self.sizes[name], self._num_rows(name)
        rows = list(range(size)) if num_rows == size else sorted(self._rng("cap", name).sample(range(size), num_rows))
        self._rng("pass", number, name).shuffle(rows)
        return rows

    def _make_order(self, epoch: int) -> list[tuple[str, int]]:
        """Return (dataset, number of its batches before, over all epochs) for each batch of an epoch."""
        turns = {name: self._num_before(name, epoch) for name in self._batches_per_epoch}
        names = [name for name in turns for _ in range(self._num_before(name, epoch + 1) - turns[name])]
        order = []
        for name in self._arranged(names, self._rng("order", epoch)):
            order.append((name, turns[name]))
            turns[name] += 1
        return order

    def _arranged(self, names: list[str], rng: random.Random) -> list[str]:
        """Shuffle batches, with videos placed before others, so that runs do not join at epoch boundaries."""
        rng.shuffle(names)
        run = self.config.max_video_run
        videos = [name for name in names if name in self.config.videos]
        others = [name for name in names if name not in self.config.videos]
        gaps = Counter(slot // run for slot in rng.sample(range(len(others) * run), len(videos)))
        order = []
        for gap, name in enumerate(others):
            order += [videos.pop() for _ in range(gaps[gap])] + [name]
        return order

    def _require_room_for_videos(self) -> None:
        videos, run = self.config.videos, self.config.max_video_run
        num_videos = sum(ceil(rate) for name, rate in self._batches_per_epoch.items() if name in videos)
        num_others = sum(floor(rate) for name, rate in self._batches_per_epoch.items() if name not in videos)
        if num_videos > run * num_others:
            fix = f"give at least {ceil(num_videos / num_others)}, or lower the weights of videos" if num_others else "leave `videos` empty"
            raise ConfigError(f"max_video_run={run}: up to {num_videos} batches of videos an epoch, and {num_others} others between; {fix}")
