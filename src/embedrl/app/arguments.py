"""Arguments of the command line that need more checking than types give."""

from pathlib import Path
from typing import TYPE_CHECKING

from embedrl.errors import ConfigError

if TYPE_CHECKING:
    from embedrl.index.row import Modality
    from embedrl.media.content import Content


def need_file(path: Path, what: str) -> None:
    """Raise ConfigError if there is no such file; `what` says what it was meant to be."""
    if not path.is_file():
        raise ConfigError(f"{what} {str(path)!r}: there is no such file")


def need_folder(path: Path) -> None:
    """Raise ConfigError if there is no such folder."""
    if not path.is_dir():
        raise ConfigError(f"{str(path)!r}: there is no such folder")


def query_content(text: str | None, image: Path | None, video: Path | None) -> "Content":
    """Build the query. Raises ConfigError if it is empty or names a file that is not there."""
    if image and video:
        raise ConfigError("--image and --video: give one of them")
    if not (text and text.strip()) and not image and not video:
        raise ConfigError('nothing to look for: give a text, --image FILE or --video FILE, as in `embedrl search "a red star"`')
    for path, option in ((image, "--image"), (video, "--video")):
        if path:
            need_file(path, option)
    from embedrl.media.content import Image, Text, Video

    words = (Text(text=text),) if text and text.strip() else ()
    if image:
        return (Image(path=image), *words)
    return (Video(path=video), *words) if video else words


def modalities(names: list[str] | None) -> "list[Modality] | None":
    """Return the modalities in their standard order, None for all. Raises ConfigError for an unknown name."""
    from embedrl.index.row import MODALITIES

    if unknown := sorted(set(names or ()) - set(MODALITIES)):
        raise ConfigError(f"--modality {unknown[0]!r}: choose from {', '.join(MODALITIES)}")
    return [name for name in MODALITIES if name in names] if names else None
