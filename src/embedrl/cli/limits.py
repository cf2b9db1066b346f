"""Decoding limits from the command line: `--limit NAME=VALUE`, and tables of a `--config` file."""

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embedrl.cli.arguments import need_file
from embedrl.config import load_recipe
from embedrl.errors import ConfigError
from embedrl.media.store import Limits, put_in_force
from embedrl.server.settings import Capacity

OPTIONS = {"limits": "--limit", "upload_limits": "--upload-limit"}
"""The option that sets what a table of the file sets."""


class WordReaders(BaseModel):
    """What reads the words in media: the table [words]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    read_text: str | None = None
    """As `--read-text`."""
    transcribe: str | None = None
    """As `--transcribe`."""

    def over(self, read_text: str | None, transcribe: str | None) -> dict[str, str | None]:
        """Return the names of both; options of the command come first."""
        return {"text_reader": read_text or self.read_text, "transcriber": transcribe or self.transcribe}


class ConfigTables(BaseModel):
    """The tables of a `--config` file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    limits: Limits = Limits()
    """Limits of local files."""
    upload_limits: Limits = Limits()
    """Limits of files that clients of `embedrl serve` upload; the server's defaults unless named."""
    words: WordReaders = WordReaders()
    """What reads the words in media, for `embedrl index` and `embedrl serve`."""
    server: Capacity = Capacity()
    """Of `embedrl serve`."""


def set_limits(config: Path | None, limits: Sequence[str] | None, upload_limits: Sequence[str] | None = None) -> ConfigTables:
    """Parse limits (options override the file, later ones earlier ones) and apply those of local files.

    Raises ConfigError naming the value, with the valid names.
    """
    if config is not None:
        need_file(config, "--config")
    pairs = [f"limits.{pair}" for pair in limits or ()] + [f"upload_limits.{pair}" for pair in upload_limits or ()]
    try:
        tables = load_recipe(config, pairs, ConfigTables)
    except ConfigError as error:
        raise ConfigError(_by_option(str(error), with_file=config is not None)) from error
    put_in_force(tables.limits)
    return tables


def limit_hint(reasons: Sequence[str]) -> str:
    """Return a hint on how to change the limits that these messages name; empty if they name none."""
    named = sorted({name for name in Limits.model_fields for reason in reasons if re.search(rf"\b{name}\b", reason)})
    return f"limits can be changed: {', '.join(f'--limit {name}=…' for name in named)}, or [limits] of a --config file" if named else ""


def _by_option(message: str, *, with_file: bool) -> str:
    """Replace table names by option names in a message."""
    for table, option in OPTIONS.items():
        message = message.replace(f"override: {table}.", f"{option} ").replace(f"'{table}.", f"'{option} ")
        if not with_file:
            message = message.replace(f" {table}.", " ")
    return message
