"""Validation of command-line arguments beyond their types."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from embedrl.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from embedrl.media.content import Content

EXTRAS = {
    "sentence_transformers": "train",
    "trl": "train",
    "datasets": "train",
    "ray": "scale",
    "mteb": "mteb",
    "bitsandbytes": "quantize",
}
"""Package -> the extra that installs it."""


def need_extra(extra: str) -> None:
    """Raise ConfigError if a package of an extra is not installed; none is imported."""
    for package in (package for package, bringer in EXTRAS.items() if bringer == extra):
        if find_spec(package) is None:
            raise ConfigError(f"this needs the package {package}: pip install 'embedrl[{extra}]'")


def need_file(path: Path, what: str) -> None:
    """Raise ConfigError if the file does not exist; `what` names its purpose."""
    if not path.is_file():
        raise ConfigError(f"{what} {str(path)!r}: there is no such file")


def need_folder(path: Path) -> None:
    """Raise ConfigError if the folder does not exist, or is a file."""
    if path.is_file():
        raise ConfigError(f"{str(path)!r}: is a file; give a folder")
    if not path.is_dir():
        raise ConfigError(f"{str(path)!r}: there is no such folder")


def need_index(place: str, remedy: str = "") -> None:
    """Raise StoreError if a folder has no index; `remedy` ends the message. Object storage is not queried."""
    from embedrl.index.location import find_home

    if not (home := find_home(place)).is_begun:
        raise StoreError(", ".join(filter(None, [str(home.missing()), remedy])))


def asked(text: str | None) -> str | None:
    """Return the text of a question, decoded; "-" is the standard input, as elsewhere."""
    return sys.stdin.buffer.read().decode("utf-8", "replace").strip() if text == "-" else decoded(text)


def decoded(text: str | None) -> str | None:
    """Decode a text argument as UTF-8, independent of the locale."""
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def query_content(text: str | None, image: Path | None, video: Path | None) -> "Content":
    """Build the query's Content. Raises ConfigError if it is empty or names a missing file."""
    text = asked(text)
    if image and video:
        raise ConfigError("--image and --video exclude each other: give one")
    if not (text and text.strip()) and not image and not video:
        raise ConfigError('the query is empty: give a text, --image FILE or --video FILE, as in `embedrl search "a red star"`')
    for path, option in ((image, "--image"), (video, "--video")):
        if path:
            need_file(path, option)
    from embedrl.media.content import Image, Text, Video

    words = (Text(text=text),) if text and text.strip() else ()
    if image:
        return (Image(path=image), *words)
    return (Video(path=video), *words) if video else words


def weights(keys: list[str]) -> dict[str, float]:
    """Parse weighted keys, like `3fa94c` or `3fa94c=0.5`. Raises ConfigError for a weight that is not a number."""
    weight_of_key = {}
    for text in keys:
        key, _, weight = text.partition("=")
        try:
            weight_of_key[key] = float(weight or 1)
        except ValueError:
            raise ConfigError(f"{text!r}: give a key, or a key with a weight like 3fa94c=0.5") from None
    return weight_of_key
