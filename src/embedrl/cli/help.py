"""Help texts in sections: Typer's panels of commands and options, as plain text."""

import os
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

SEARCHING, SHOWING, TRAINING, MEASURING = "Search your own files", "See the method", "Train", "Measure"
COMMAND_PANELS = (SEARCHING, SHOWING, TRAINING, MEASURING)
"""Panels of commands, in order."""
FILTERS, MODELS, REASONING, SERVERS = "Filters", "Models", "When to reason", "Models on servers"
LIMITS, SCALE = "Limits and settings", "Workers, object storage, approximate search"
OPTION_PANELS = (FILTERS, MODELS, REASONING, SERVERS, LIMITS, SCALE)
"""Panels of options, in order."""
_METAVARS = {"int range": "int", "float range": "float", "list[str]": "str"}


class Command(TyperCommand):
    """A command whose options are listed by their panels, and whose examples fit the terminal."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a text of several words without quotes is told so, and a folder that should be `--index`."""
        given = list(args)  # the parser takes them out
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # Typer has its own copy of click, without a public name for a UsageError
            if "unexpected extra argument" in (message := str(getattr(error, "message", ""))):
                searches = any("--index" in option.opts for option in self.params) and "--index" not in given
                folders = list(filter(os.path.isdir, given)) if searches else []
                hint = f"give the folder as --index {folders[0]}" if folders else "put a text of several words in quotes"
                vars(error)["message"] = f"{message.rstrip('.')}: {hint}"
            raise

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the description, with long examples continued on further lines."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n".join(continued(line, formatter.width - 2) for line in (self.help or "").splitlines()))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options by panel; those without one come first."""
        _write_parameters(self, ctx, formatter)


class Group(TyperGroup):
    """A group whose commands are listed by their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        _write_parameters(self, ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by panel; those without one come last."""
        commands = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) and not command.hidden]
        width = max((len(name) for name, _ in commands), default=0)
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in COMMAND_PANELS}
        for name, command in commands:
            row = (name.ljust(width), command.get_short_help_str(formatter.width - width - 6))
            panels.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append(row)
        _write_panels(panels, formatter)


class Commands(typer.Typer):
    """A Typer app whose commands are of these classes."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = Command, **settings: Any) -> Any:
        """Decorator that adds a command, as Typer's."""
        return super().command(name, cls=cls, **settings)


def continued(line: str, width: int) -> str:
    r"""Return an example broken before options, or else words, with `\` at the end of each line but the last; another line as it is."""
    if not line.startswith("Example: ") or len(line) <= width:
        return line
    breaks = [match.start() for match in re.finditer(r" (?=\S)", line) if line[: match.start()].count('"') % 2 == 0]
    fitting = [place for place in breaks if len("Example: embedrl ") <= place <= width - 2]
    before_options = [place for place in fitting if line.startswith(" --", place)]
    if not fitting:
        return line
    place = max(before_options or fitting)
    indent = "    "
    rest = continued(f"Example: {line[place + 1 :]}", width + len("Example: ") - len(indent))
    return f"{line[:place]} \\\n{indent}{rest.removeprefix('Example: ')}"


def _write_parameters(command: Any, ctx: Any, formatter: Any) -> None:
    panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in ("Arguments", "Options", *OPTION_PANELS)}
    for parameter in command.get_params(ctx):
        row = parameter.get_help_record(ctx)
        if row is None:
            continue
        is_argument = parameter.param_type_name == "argument"
        panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
        panels.setdefault(panel, []).append((_plain(row[0]), row[1]))
    _write_panels(panels, formatter)


def _plain(names: str) -> str:
    for metavar, plain in _METAVARS.items():
        names = names.replace(f"<{metavar}>", f"<{plain}>")
    return names


def _write_panels(panels: dict[str, list[tuple[str, str]]], formatter: Any) -> None:
    for title, rows in panels.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
