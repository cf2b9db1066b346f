"""Data files of a dataset repository by the `configs:` of its card (README.md), as `datasets.load_dataset` reads them."""

from pathlib import Path
from typing import Any

import yaml

from embedrl.errors import ConfigError

CARD = "README.md"


def card_files(folder: Path, config: str, split: str) -> list[Path] | None:
    """Return the files of one configuration and split, in order; None where there is no card or it does not name them.

    Without a `config` the default one is meant: marked so, called "default", or the only one. Raises ConfigError for a card that is
    no YAML, and for one that names files which are not there.
    """
    chosen = _choose(_configs(folder), config)
    patterns = _patterns(chosen, split) if chosen is not None else []
    if not patterns:
        return None
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    if not files:
        raise ConfigError(f"its card names {', '.join(map(repr, patterns))}, and {str(folder)!r} holds none of these; download them")
    return files


def _configs(folder: Path) -> list[dict[str, Any]]:
    path = folder / CARD
    if not path.is_file():
        return []
    head, _, rest = path.read_text("utf-8-sig", "replace").partition("---\n")
    front, closing, _ = rest.partition("\n---")
    if head.strip() or not closing:
        return []
    try:
        metadata = yaml.safe_load(front)
    except yaml.YAMLError as error:
        raise ConfigError(f"{str(path)!r}: its front matter is no YAML ({str(error).splitlines()[0]}); download it again") from error
    configs = metadata.get("configs") if isinstance(metadata, dict) else None
    return [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []


def _choose(configs: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    if name:
        return next((config for config in configs if str(config.get("config_name")) == name), None)
    defaults = [config for config in configs if config.get("default") is True or config.get("config_name", "default") == "default"]
    return (defaults or configs)[0] if defaults or len(configs) == 1 else None


def _patterns(config: dict[str, Any], split: str) -> list[str]:
    """Return the patterns of a split, relative to the repository; without splits all files are of "train"."""
    files, folder = config.get("data_files"), str(config.get("data_dir") or "")
    if isinstance(files, str):
        files = [files]
    if isinstance(files, list) and all(isinstance(entry, str) for entry in files):
        files = {"train": files}
    elif isinstance(files, list):
        files = {str(entry.get("split", "train")): entry.get("path") for entry in files if isinstance(entry, dict)}
    if not isinstance(files, dict):
        return []
    paths = files.get(split) or []
    wanted = [paths] if isinstance(paths, str) else [path for path in paths if isinstance(path, str)]
    if any(Path(path).is_absolute() or ".." in Path(path).parts or "://" in path for path in (*wanted, folder)):
        raise ConfigError("its card names files outside of the repository; correct the card")
    return [f"{folder}/{path}" if folder else path for path in wanted]
