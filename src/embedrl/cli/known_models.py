"""Command `models`: known models, and a check of one."""

from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedrl import log
from embedrl.cli.help import SEARCHING, Commands, Group
from embedrl.cli.options import AsJson, commands
from embedrl.cli.placement import places_models
from embedrl.errors import ConfigError

if TYPE_CHECKING:
    from embedrl.models.known import KnownModel


class _ModelsGroup(Group):
    """The commands of `models`; any other word is the name of a model to show."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of the first argument, or `show` for a name."""
        is_name = args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx)
        return super().resolve_command(ctx, ["show", *args] if is_name else args)


app = commands()
_models = Commands(cls=_ModelsGroup, rich_markup_mode=None, pretty_exceptions_enable=False, invoke_without_command=True)
app.add_typer(_models, name="models", short_help="Known models and their sizes; check one.", rich_help_panel=SEARCHING)
_GB = 1e9


@_models.callback()
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List known models, their computed sizes, and whether they fit this machine.

    \b
    Example: embedrl models
    Example: embedrl models Qwen/Qwen3-VL-Embedding-2B
    Example: embedrl models check Qwen/Qwen3-VL-Embedding-2B
    """
    if context.invoked_subcommand:
        return
    from embedrl.models.known import known_models, presets
    from embedrl.models.placement import memory_bytes

    if as_json:
        pairs = {name: pair.model_dump() for name, pair in presets().items()}
        log.print_json({"models": _as_json(known_models()), "presets": pairs, "memory_bytes": memory_bytes()})
        return
    _list(known_models())
    for name, pair in presets().items():
        log.info(f"--models {name}: --reasoner {pair.reasoner} --embedder {pair.embedder}")


@_models.command("show", short_help="Known models of a name: size, license, source. `show` may be left out.")
def show(name: Annotated[str, typer.Argument(help="Shipped name, hub id or its last part, or preset.")], as_json: AsJson = False) -> None:
    """List what is known about the models of a name; other models are not listed, and `embedrl models check` tries any.

    \b
    Example: embedrl models show Qwen3-VL-Embedding-2B
    """
    from embedrl.models.known import known_models, presets

    pair = presets().get(name)
    wanted = {name.casefold()} if pair is None else {pair.reasoner.casefold(), pair.embedder.casefold()}
    rows = [row for row in known_models() if wanted & {row.name.casefold(), row.name.rpartition("/")[2].casefold()}]
    if not rows:
        known = sorted({row.name for row in known_models()} | set(presets()) | {"check"})
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        tries = f"`embedrl models check {quote(name)}` tries a folder, hub id or server"
        raise ConfigError(f"{name!r} is no known model: {hint}`embedrl models` lists them, {tries}")
    if as_json:
        log.print_json(_as_json(rows))
        return
    _list(rows)
    for row in rows:
        log.info(f"{row.name} ({row.role}): {row.source}; use it with --{row.role} {row.name}")


def _as_json(rows: "Sequence[KnownModel]") -> list[dict[str, Any]]:
    from embedrl.models.placement import memory_bytes

    sizes, memory = ("disk_bytes", "bf16_bytes", "int8_bytes"), memory_bytes()
    return [{**row.model_dump(), **{size: getattr(row, size) for size in sizes}, "fits": row.fit(memory)} for row in rows]


def _list(rows: "Sequence[KnownModel]") -> None:
    """Print models as a table, with sizes and whether they fit this machine."""
    from embedrl.models.placement import choose_device, memory_bytes

    memory = memory_bytes()
    log.table(
        f"Known models; {choose_device()} has {memory / _GB:.1f} GB",
        ["model", "role", "parameters", "license", "disk GB", "bf16 GB", "int8 GB", "fits", "tested"],
        [
            [
                row.name,
                row.role,
                f"{row.parameters / 1e6:,.0f} M",
                row.license,
                *(f"{size / _GB:.2f}" for size in (row.disk_bytes, row.bf16_bytes, row.int8_bytes)),
                row.fit(memory),
                row.tested,
            ]
            for row in rows
        ],
    )


@_models.command("check", short_help="Load a model and compare it with plain transformers.")
@places_models
def check(name: Annotated[str, typer.Argument(help="A shipped name, folder, hub id or server's URL.")], as_json: AsJson = False) -> None:
    """Load a model, run it on probes of every medium, and compare with plain transformers; exits with 1 if they differ.

    What differs by design (docs/parity.md) is said and is no failure. Peak memory is the accelerator's; on a CPU, the whole process's.

    \b
    Example: embedrl models check nano
    Example: embedrl models check http://localhost:8000/v1#model
    """
    from embedrl.runtime.names import check_names

    try:
        check_names(None, name)
    except ConfigError:
        check_names(name, None)
    from embedrl.pipelines.check_model import check_model  # takes long to import

    reports = check_model(name)
    if as_json:
        log.print_json([asdict(report) for report in reports])
    else:
        rows = []
        for report in reports:
            if report.error:
                rows.append([report.role, "no", "", "", "", report.error])
                continue
            weights, peak = ("" if size is None else f"{size / _GB:.3f}" for size in (report.weight_bytes, report.peak_bytes))
            findings = "; ".join([*(report.differences or report.outcomes), *(f"ours: {difference}" for difference in report.by_design)])
            state, seconds = "differs" if report.differences else "yes", f"{report.load_s:.1f} + {report.run_s:.1f}"
            rows.append([report.role, state, seconds, weights, peak, findings])
        log.table(name, ["role", "usable", "seconds to load + run", "weights GB", "peak GB", "probes, or what differs"], rows)
    if any(report.differences for report in reports):
        raise typer.Exit(1)
