"""Command `models`: known models, and a check of one."""

from dataclasses import asdict
from typing import Annotated

import typer

from embedrl import log
from embedrl.cli.help import SEARCHING, Commands, Group
from embedrl.cli.options import AsJson, commands
from embedrl.cli.placement import places_models
from embedrl.errors import ConfigError

app = commands()
_models = Commands(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False, invoke_without_command=True)
app.add_typer(_models, name="models", short_help="Known models and their sizes; check one.", rich_help_panel=SEARCHING)
_GB = 1e9


@_models.callback()
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List known models, their computed sizes, and whether they fit this machine.

    \b
    Example: embedrl models
    Example: embedrl models check Qwen/Qwen3-VL-Embedding-2B
    """
    if context.invoked_subcommand:
        return
    from embedrl.models.known import known_models, presets
    from embedrl.models.placement import choose_device, memory_bytes

    memory = memory_bytes()
    if as_json:
        sizes = ("disk_bytes", "bf16_bytes", "int8_bytes")
        rows = [{**row.model_dump(), **{size: getattr(row, size) for size in sizes}, "fits": row.fit(memory)} for row in known_models()]
        log.print_json({"models": rows, "presets": {name: pair.model_dump() for name, pair in presets().items()}, "memory_bytes": memory})
        return
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
            for row in known_models()
        ],
    )
    for name, pair in presets().items():
        log.info(f"--models {name}: --reasoner {pair.reasoner} --embedder {pair.embedder}")


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
