"""Validation of command-line arguments beyond their types."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from embedrl.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from embedrl.index.filter import Filter
    from embedrl.media.content import Content

N = TypeVar("N", str, str | None)


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
    """Raise ConfigError if the folder does not exist."""
    if not path.is_dir():
        raise ConfigError(f"{str(path)!r}: there is no such folder")


def with_server_options(names: Sequence[N], options: list[str] | None, max_new_tokens: int | None, server_timeout: float | None) -> list[N]:
    """Return model names, with the server options added to those of servers. Raises ConfigError if options are given but no server.

    Names that are None stay None.
    """
    from embedrl.models.names import is_server
    from embedrl.models.server_name import add_options

    added = _server_options(options, max_new_tokens, server_timeout)
    servers = {name for name in names if name is not None and is_server(name)}
    if added and not servers:
        shown = ", ".join(repr(name) for name in names if name is not None) or "no Reasoner"
        raise ConfigError(
            f"{added[0][0]}={added[0][1]} is for a server (http://host:8000/v1#model), and {shown} is not one; "
            "the answers of a model folder are limited by max_new_tokens in its embedrl.json"
        )
    return [cast(N, add_options(name, added)) if name in servers and name is not None else name for name in names]


def with_preset(name: str | None, reasoner: N, embedder: N) -> tuple[N, N]:
    """Return the names of a Reasoner and an Embedder, from the preset if there is one. Raises ConfigError if both are set."""
    if name is None:
        return reasoner, embedder
    from embedrl.models.known import preset

    if reasoner is not None or embedder is not None:
        raise ConfigError(f"--models {name} names both models: leave out --reasoner and --embedder, or --models")
    pair = preset(name)
    return cast(N, pair.reasoner), cast(N, pair.embedder)


def with_options_of_both(
    reasoners: Sequence[N],
    embedder: N,
    options: list[str] | None,
    max_new_tokens: int | None,
    server_timeout: float | None,
    like: Path | None = None,
) -> tuple[list[N], N]:
    """Return the names of Reasoners and an Embedder, with the server options added to those of servers.

    Transport options go to every server; all others to the Reasoners, or to the Embedder if it alone is on a server.
    Raises ConfigError as `with_server_options` does, and for `like` without an Embedder on a server.
    """
    from embedrl.models.names import is_server
    from embedrl.models.server_name import add_options, is_about_transport

    if embedder is None or not is_server(embedder):
        if like is not None:
            raise ConfigError(f"--like {str(like)!r} is for an Embedder on a server: give --embedder http://host:8000/v1#model")
        return with_server_options(reasoners, options, max_new_tokens, server_timeout), embedder
    added, asks_reasoner = _server_options(options, None, server_timeout), any(name and is_server(name) for name in reasoners)
    embedder_options = [option for option in added if is_about_transport(option[0])] if asks_reasoner else added
    with_options = cast(N, add_options(embedder, [*embedder_options, *([("like", str(like))] if like is not None else [])]))
    if asks_reasoner or max_new_tokens is not None:
        return with_server_options(reasoners, options, max_new_tokens, server_timeout), with_options
    return list(reasoners), with_options


def _server_options(options: list[str] | None, max_new_tokens: int | None, server_timeout: float | None) -> list[tuple[str, str]]:
    from embedrl.models.server_name import split_option

    added = [split_option(option) for option in options or ()]
    added += [("max_new_tokens", str(max_new_tokens))] if max_new_tokens is not None else []
    return added + ([("timeout_s", f"{server_timeout:g}")] if server_timeout is not None else [])


def need_index(place: str, remedy: str = "") -> None:
    """Raise StoreError if a folder has no index; `remedy` ends the message. Object storage is not queried."""
    from embedrl.index.location import find_home

    if not (home := find_home(place)).is_begun:
        raise StoreError(", ".join(filter(None, [str(home.missing()), remedy])))


def decoded(text: str | None) -> str | None:
    """Decode a text argument as UTF-8, independent of the locale."""
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def query_content(text: str | None, image: Path | None, video: Path | None) -> "Content":
    """Build the query's Content. Raises ConfigError if it is empty or names a missing file."""
    text = decoded(text)
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


def search_filter(
    names: list[str] | None,
    under: Path | None,
    since: str | None,
    until: str | None,
    words: str | None,
    camera: str | None = None,
    area: str | None = None,
) -> "Filter":
    """Build the Filter. Raises ConfigError for an unknown modality, an invalid date or range, or too many words."""
    from embedrl.index.filter import MAX_WORDS, Filter, read_area, read_time
    from embedrl.index.row import MODALITIES, shown

    if unknown := sorted(set(names or ()) - set(MODALITIES)):
        raise ConfigError(f"--modality {unknown[0]!r}: choose from {', '.join(MODALITIES)}")
    modality = tuple(name for name in MODALITIES if name in names) if names else None
    wanted = tuple((decoded(words) or "").split())
    if len(wanted) > MAX_WORDS:
        raise ConfigError(f"--words: {len(wanted)} words; give at most {MAX_WORDS}")
    since_s, until_s = (read_time(time, is_end=is_end, zone=None) if time else None for time, is_end in ((since, False), (until, True)))
    if since_s is not None and until_s is not None and since_s >= until_s:
        raise ConfigError(f"--since {since}, --until {until}: give the earlier time first")
    return Filter(
        modality=modality,
        path=shown(under) if under else "",
        since_s=since_s,
        until_s=until_s,
        words=wanted,
        camera=decoded(camera) or "",
        area=read_area(area) if area else None,
    )


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
