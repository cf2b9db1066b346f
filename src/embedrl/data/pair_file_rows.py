"""Contrastive rows from annotated pair files: mixture batches with T-CoT and media dropout."""

import random
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.mixture import Mixture, MixtureConfig
from embedrl.data.pair_file import PairFile
from embedrl.data.sample import Item
from embedrl.data.sources.row import AnnotatedPair
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError


class PairsConfig(BaseModel):
    """Which files, and how they are mixed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    files: dict[str, Path] = Field(min_length=1)
    """JSON Lines of pairs, by the name of the data set: contrastive.jsonl of `embedrl filter`, or lines of your own."""
    weights: dict[str, float] = Field(default_factory=dict)
    """How often an epoch goes through a data set; 1 if it is not named."""
    caps: dict[str, int] = Field(default_factory=dict)
    """At most so many groups of pairs of a data set are used."""
    videos: tuple[str, ...] = ()
    """Data sets of videos."""
    max_video_run: int = Field(default=1, ge=1)
    """At most so many batches of videos follow each other."""
    tcot_dropout: float = Field(default=0.25, ge=0, le=1)
    """Share of the pairs that are shown without T-CoTs, so that both modes work."""
    media_dropout: float = Field(default=0.15, ge=0, le=1)
    """Share of the sides with a T-CoT whose media are left out, so that T-CoTs are read."""


class PairFileRows:
    """The batches of a run; each is a function of settings and number alone."""

    def __init__(
        self, config: PairsConfig, *, seed: int, batch_size: int, num_batches: int | None = None, num_epochs: float | None = None
    ) -> None:
        """Read the files once. Raises ConfigError for files that cannot be used, or that fill no batch.

        The run has `num_batches`, or as many as hold the rows of all files `num_epochs` times.
        """
        self.config, self.seed = config, seed
        self.files = {name: PairFile(path) for name, path in config.files.items()}
        if unknown := sorted(set(config.weights) - set(config.files)):
            raise ConfigError(f"weights.{unknown[0]}: there is no such data set; choose from {', '.join(config.files)}")
        mixture = MixtureConfig(
            batch_size=batch_size,
            weights={name: config.weights.get(name, 1.0) for name in config.files},
            caps=config.caps,
            videos=config.videos,
            max_video_run=config.max_video_run,
            seed=seed,
        )
        sizes = {name: len(file.groups) for name, file in self.files.items()}
        self.mixture = Mixture(mixture, sizes)
        num_rows = sum(portion.num_rows for portion in self.mixture.portions().values())
        self.num_batches = num_batches or max(1, int((num_epochs or 1) * num_rows / batch_size))

    def datasets(self) -> dict[str, list[tuple[str, str]]]:
        """Return (query key, target key) rows of all batches, one after the other."""
        return {"pairs": [(f"{name}/query", f"{name}/target") for name in self._names]}

    def resolve(self, key: str) -> tuple[Item, TCoT | None, bool]:
        """Return the item of a key, its T-CoT (or None) and whether its media are shown."""
        name, side = key.rsplit("/", 1)
        dataset, number, _ = name.rsplit("/", 2)
        pair = self.files[dataset][int(number)]
        item = pair.query if side == "query" else pair.target
        tcot = getattr(pair, f"{side}_tcot") if isinstance(pair, AnnotatedPair) else None
        if not isinstance(tcot, TCoT) or random.Random(f"tcot:{self.seed}:{name}").random() < self.config.tcot_dropout:
            return item, None, True
        return item, tcot, random.Random(f"media:{self.seed}:{key}").random() >= self.config.media_dropout

    @cached_property
    def _names(self) -> list[str]:
        """Name every row by data set, pair and batch; of a group, each batch takes a pair drawn at random."""
        names = []
        for number in range(self.num_batches):
            batch = self.mixture.batch(number)
            rng = random.Random(f"pairs:{self.seed}:{number}")
            groups = self.files[batch.dataset].groups
            names += [f"{batch.dataset}/{rng.choice(groups[row])}/{number}" for row in batch.rows]
        return names
