"""Message of a command stopped with Ctrl+C: what is saved, and how to resume."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import typer

from embedrl import log

C = TypeVar("C", bound=Callable[..., Any])
STOPPED = 130
"""Exit code: 128 and the number of the signal, as shells have it."""


def says_what_is_kept(kept: str) -> Callable[[C], C]:
    """Decorator: on Ctrl+C, print what is saved and exit."""

    def dressed(command: C) -> C:
        @functools.wraps(command)
        def stoppable(*args: Any, **kwargs: Any) -> Any:
            try:
                return command(*args, **kwargs)
            except KeyboardInterrupt:
                log.warn(f"stopped: {kept}")
                raise typer.Exit(STOPPED) from None

        return cast(C, stoppable)

    return dressed
