"""The command line. Heavy imports are inside the commands, so that --help stays quick."""

import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import embedrl
from embedrl import log
from embedrl.cli import annotate, ask, evaluate, index, known_models, mcp, search, serve, train
from embedrl.cli.arguments import EXTRAS, need_extra
from embedrl.cli.cold_start import run_as_own_process
from embedrl.cli.help import SHOWING
from embedrl.cli.options import Seed, commands
from embedrl.errors import ConfigError, EmbedRLError, MediaError, cause

app = commands(add_completion=True)
_OF_THE_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)
"""Errors of the operating system that name no file, and are no fault of the program."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 some items failed, 2 wrong usage."""
    if arguments is None:
        run_as_own_process()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # imported by others, it warns that a kernel for int4 cannot be fetched
    try:
        _refuse_empty(sys.argv[1:] if arguments is None else arguments)
        app(None if arguments is None else list(arguments), prog_name="embedrl")
    except EmbedRLError as error:
        log.error(str(error))
        if isinstance(error, MediaError):
            from embedrl.cli.limits import limit_hint

            if hint := limit_hint([str(error)]):
                log.info(hint)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        log.error(f"this needs the package {error.name}: pip install 'embedrl[{EXTRAS[error.name]}]'")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM and error.filename is None:
            raise
        named = "the operating system refuses" if error.filename is None else f"{str(error.filename)!r}: cannot be used"
        log.error(f"{named} {cause(error)}")
        sys.exit(2)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise ConfigError for an empty argument: as a path it would be the working folder, which a variable without a value never means."""
    if "" in arguments:
        place = list(arguments).index("")
        before = f" behind {arguments[place - 1]!r}" if place else ""
        raise ConfigError(f"the argument{before} is empty (a variable that is not set?): give it a value, or leave it out")


def _version(wanted: bool) -> None:
    if wanted:
        log.result(embedrl.__version__)
        raise typer.Exit


@app.callback()
def _embedrl(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Multimodal retrieval that reasons before it embeds, and shows its evidence.

    \b
    Example: embedrl index ~/Pictures --models qwen3-vl-2b
    Example: embedrl search "two parrots on a branch" --index ~/Pictures
    """


@app.command(short_help="Show the whole method on generated media, on a CPU.", rich_help_panel=SHOWING)
def quickstart(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("demo"),
    seed: Seed = 0,
    live_steps: Annotated[int, typer.Option(min=0, help="EG-RL steps of the live training; 0 skips it.")] = 30,
) -> None:
    """Show the whole method on generated media with the nano models, on a CPU.

    \b
    Example: embedrl quickstart --out demo
    """
    if live_steps:
        need_extra("train")
    from embedrl.pipelines import quickstart as demo

    demo.quickstart(out, seed=seed, live_steps=live_steps)


for group in (index, search, ask, serve, mcp, known_models, annotate, train, evaluate):
    app.add_typer(group.app)

if __name__ == "__main__":
    main()
