"""Contrastive rows from annotated pair files: mixture batches with T-CoT and media dropout."""

import random
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from embedrl.data.mixture import Mixture, MixtureConfig
from embedrl.data.pair_file import PairFile, side_tcot
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError


class PairsConfig(BaseModel):
    """Pair files and their mixture."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    files: dict[str, Path] = Field(min_length=1)
    """Dataset -> JSON Lines file of pairs: contrastive.jsonl of `embedrl filter`, or your own."""
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Dataset -> passes per epoch; 1 by default."""
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Dataset -> maximum number of pairs used."""
    videos: tuple[str, ...] = ()
    """Datasets of videos."""
    max_video_run: int = Field(default=1, ge=1)
    """Maximum number of consecutive batches of videos."""
    tcot_dropout: float = Field(default=0.25, ge=0, le=1)
    """Share of pairs without T-CoTs (T-CoT dropout), so that both modes are trained."""
    media_dropout: float = Field(default=0.15, ge=0, le=1)
    """Share of sides with a T-CoT whose media are dropped, so that T-CoTs are used."""
    negatives: int = Field(default=1, ge=0)
    """Maximum number of hard negatives per pair in a batch, drawn anew each time; 0: none. One has a T-CoT if it is a target with
    one elsewhere in the file; one that has none is left out beside a target that is shown with its T-CoT, which would give it away."""


class DatasetShare(NamedTuple):
    """Share of a dataset in a run."""

    name: str
    share: float
    """Of all rows."""
    num_pairs: int
    """In the file."""
    num_used: int
    """After the cap."""
    num_with_negatives: int
    """Pairs of the file that have hard negatives."""


class PairFileRows:
    """Contrastive batches, deterministic by settings and batch number."""

    def __init__(
        self, config: PairsConfig, *, seed: int, batch_size: int, num_batches: int | None = None, num_epochs: float | None = None
    ) -> None:
        """Read the files once. Raises ConfigError for files that cannot be used, or that fill no batch.

        The run has `num_batches`, or as many as hold the rows of all files `num_epochs` times.
        """
        self.config, self.seed = config, seed
        for setting, names in (("weights", config.weights), ("caps", config.caps), ("videos", config.videos)):
            if unknown := sorted(set(names) - set(config.files)):
                raise ConfigError(f"{setting}.{unknown[0]}: there is no such data set; choose from {', '.join(config.files)}")
        self.files = {name: PairFile(path) for name, path in config.files.items()}
        mixture = MixtureConfig(
            batch_size=batch_size,
            weights={name: config.weights.get(name, 1.0) for name in config.files},
            caps=config.caps,
            videos=config.videos,
            max_video_run=config.max_video_run,
            seed=seed,
        )
        self.mixture = Mixture(mixture, {name: len(file) for name, file in self.files.items()})
        num_rows = sum(portion.num_rows for portion in self.mixture.portions().values())
        self.num_batches = num_batches or max(1, int((num_epochs or 1) * num_rows / batch_size))

    def datasets(self, num_batches: int | None = None) -> dict[str, list[tuple[str, ...]]]:
        """Return (query key, target key, negative keys …) rows of the batches, one after the other; of the first `num_batches` if given."""
        number = self.num_batches if num_batches is None else min(num_batches, self.num_batches)
        names = [f"{batch.dataset}/{row}/{batch.number}" for batch in map(self.mixture.batch, range(number)) for row in batch.rows]
        return {"pairs": [(f"{name}/query", f"{name}/target", *self._negatives(name)) for name in names]}

    def shares(self) -> list[DatasetShare]:
        """Return each dataset's share in the run."""
        portions = self.mixture.portions()
        total = sum(portion.num_batches for portion in portions.values())
        return [
            DatasetShare(name, portion.num_batches / total, len(self.files[name]), portion.num_rows, len(self.files[name].negatives))
            for name, portion in portions.items()
        ]

    def resolve(self, key: str) -> tuple[Item, TCoT | None, bool]:
        """Return the item of a key, its T-CoT (or None) and whether its media are shown."""
        item, tcot = self._side(key)
        if tcot is None or self._is_plain(key.rsplit("/", 1)[0]):
            return item, None, True
        return item, tcot, random.Random(f"media:{self.seed}:{key}").random() >= self.config.media_dropout

    def tcot(self, key: str) -> TCoT | None:
        """Return the T-CoT of a key's item, shown or not; None if it has none."""
        return self._side(key)[1]

    def require_tcots(self) -> None:
        """Raise ConfigError, naming the first, for a query or target without a T-CoT."""
        for name, file in self.files.items():
            if file.first_without is not None:
                number, side = file.first_without
                raise ConfigError(
                    f"pairs.files.{name}={str(file.path)!r}, pair {number + 1}: its {side} has no T-CoT, and [distill] needs one of every "
                    "query and target; write them with `embedrl annotate`, or leave such pairs out"
                )

    def _side(self, key: str) -> tuple[Item, TCoT | None]:
        name, side = key.rsplit("/", 1)
        file, number = self._pair(name)
        pair = file[number]
        if side in ("query", "target"):
            return (pair.query if side == "query" else pair.target), side_tcot(pair, side)
        place = int(side.removeprefix("negative"))
        return pair.negatives[place], file.tcot_of(file.negatives[number][place])

    def _pair(self, name: str) -> tuple[PairFile, int]:
        dataset, number, _ = name.rsplit("/", 2)
        return self.files[dataset], int(number)

    def _is_plain(self, name: str) -> bool:
        """Return whether a pair is shown without T-CoTs."""
        return random.Random(f"tcot:{self.seed}:{name}").random() < self.config.tcot_dropout

    def _negatives(self, name: str) -> list[str]:
        """Return the keys of a pair's hard negatives in one batch."""
        file, number = self._pair(name)
        if number not in file.negatives:
            return []
        reasoned = bool(file.has_tcot[number]) and not self._is_plain(name)
        places = [place for place, key in enumerate(file.negatives[number]) if not reasoned or file.knows_tcot(key)]
        drawn = random.Random(f"negatives:{self.seed}:{name}").sample(places, min(self.config.negatives, len(places)))
        return [f"{name}/negative{place}" for place in drawn]
