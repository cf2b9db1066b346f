"""Names of models on servers: `http://host:8000/v1#model?timeout_s=60&top_k=5`. Options of the client and of requests follow the `?`."""

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from embedrl.errors import ConfigError
from embedrl.models.names import read_form

CLIENT_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "max_new_tokens": int,
    "timeout_s": float,
    "num_retries": int,
    "max_in_flight": int,
    "max_wait_s": float,
    "settings": str,
    "like": str,
    "form": read_form,
}
"""Options that are about the client; all others go into each request."""
NOT_OF_CLIENT = ("max_new_tokens", "settings", "like", "form")
"""Those of them that say how the model is asked, not how the server is reached."""


def is_about_transport(key: str) -> bool:
    """Say whether an option says how a server is reached, whatever it is asked."""
    return key in CLIENT_OPTIONS and key not in NOT_OF_CLIENT


@dataclass(frozen=True)
class ServerName:
    """A server's URL, which of its models is meant, and how it is asked."""

    url: str
    model: str = ""
    """Empty: the only one that the server has."""
    client: dict[str, Any] = field(default_factory=dict)
    """Some of `CLIENT_OPTIONS`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What goes into the JSON of each request; None takes a setting out of it."""


def read_server_name(name: str) -> ServerName:
    """Read a server's name. Raises ConfigError for an option that cannot be read."""
    url, _, fragment = name.partition("#")
    model, _, options = fragment.partition("?")
    client: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, text in parse_qsl(options, keep_blank_values=True):
        if key in CLIENT_OPTIONS:
            try:
                client[key] = CLIENT_OPTIONS[key](text)
            except ValueError as error:
                raise ConfigError(f"{key}={text!r}: give a number, as in {key}=60") from error
        else:
            _set(extra, key, text)
    return ServerName(url, unquote(model), client, extra)


def add_options(name: str, options: Sequence[tuple[str, str]]) -> str:
    """Return a server's name with some more options, which replace those of the same key that it has."""
    if not options:
        return name
    url, _, fragment = name.partition("#")
    model, _, before = fragment.partition("?")
    merged = dict(parse_qsl(before, keep_blank_values=True)) | dict(options)
    return f"{url}#{model}?" + "&".join(f"{quote(key, safe='')}={quote(text, safe='')}" for key, text in merged.items())


def split_option(option: str) -> tuple[str, str]:
    """Split `key=value`. Raises ConfigError for anything else."""
    key, equals, text = option.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not text or not all(part.strip() for part in key.split(".")):
        raise ConfigError(f"--server-option {option!r}: write key=value, as in top_k=5 or chat_template_kwargs.enable_thinking=false")
    return key, text


def is_this_machine(host: str) -> bool:
    """Say whether a host is this machine itself, which no proxy stands before."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _set(table: dict[str, Any], key: str, text: str) -> None:
    """Put a value (JSON, or else text) under a key; a dot leads into an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    *outer, last = key.split(".")
    for part in outer:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"server option {key}={text}: {part!r} is a value already, and no object")
    table[last] = value
