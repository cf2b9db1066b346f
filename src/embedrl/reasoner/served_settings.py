"""How a Reasoner behind a server was trained to be asked: its prompts, its pixel budget, its length of answers."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from embedrl.errors import ConfigError
from embedrl.files import read_json_file
from embedrl.media.resize import PAPER_BUDGET, VisualBudget, grid_as_saved

FROM_SERVER = "server"
"""In place of a folder: the server itself is asked, which `embedrl serve` answers."""


class ServedSettings(BaseModel):
    """The settings of a Reasoner's folder, and what its processor makes of pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompts: str = "full"
    budget: VisualBudget = PAPER_BUDGET
    max_new_tokens: int = Field(default=512, ge=1)
    factor: int = Field(default=32, ge=1)
    """Pixels a side of one visual token."""

    _grid = field_validator("budget", mode="before")(grid_as_saved)


def read_settings(folder: Path) -> ServedSettings:
    """Read embedrl.json and config.json of a Reasoner's folder, without its weights. Raises ConfigError."""
    settings = {key: value for key, value in _object(folder, "embedrl.json").items() if key in ("prompts", "budget", "max_new_tokens")}
    vision = _object(folder, "config.json").get("vision_config", {})
    try:
        return check_settings(settings | {"factor": vision["patch_size"] * vision["spatial_merge_size"]}, f"settings={str(folder)!r}")
    except (KeyError, TypeError) as error:
        raise ConfigError(f"settings={str(folder)!r}: config.json does not say patch_size and spatial_merge_size ({error})") from error


def check_settings(settings: Any, where: str) -> ServedSettings:
    """Return settings that were read. Raises ConfigError."""
    try:
        return ServedSettings.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _object(folder: Path, name: str) -> dict[str, Any]:
    remedy = f"give settings= the folder of the Reasoner that is served, or {FROM_SERVER!r} for one behind `embedrl serve`"
    return read_json_file(folder / name, ConfigError, remedy)
