"""What a command says when it is stopped with Ctrl+C: what is kept, and how to go on."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import typer

from embedrl import log

C = TypeVar("C", bound=Callable[..., Any])
STOPPED = 130
"""Exit code: 128 and the number of the signal, as shells have it."""


def says_what_is_kept(kept: str) -> Callable[[C], C]:
    """Let a command that is stopped end with a line on what is kept, instead of with none."""

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
