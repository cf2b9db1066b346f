"""Listening socket, bound before models are loaded, so that a port in use fails at once."""

import os
import socket

from embedrl.errors import ConfigError
from embedrl.server.settings import Settings

BACKLOG = 512


def bind(settings: Settings) -> socket.socket:
    """Bind the port without listening. Raises ConfigError if it is not available."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With its protocol named, asyncio sends each answer at once (TCP_NODELAY); without, an answer may wait 40 ms for the one before it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise _taken(settings, error) from error
    return listener


def listen(settings: Settings, bound: socket.socket | None = None) -> socket.socket:
    """Listen on the port, which may be bound already. Raises ConfigError if it is not available."""
    listener = bound or bind(settings)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _taken(settings, error) from error
    return listener


def _taken(settings: Settings, error: OSError) -> ConfigError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ConfigError(f"host={settings.host!r}, port={settings.port}: cannot listen there ({reason})")
