"""`--think never|auto|always`: whether queries are reasoned about, with or without a gate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from embedrl.cli.help import REASONING, Command
from embedrl.errors import ConfigError

if TYPE_CHECKING:
    from embedrl.cli.option_groups import QueryModels
    from embedrl.index.gate import GateRole, LinearGate
    from embedrl.index.model_names import ItemGate, ModelNames

Dial = Literal["never", "auto", "always"]
ThinkDial = Annotated[
    Dial | None,
    typer.Option(
        "--think",
        "--no-think",
        help="Reason about queries: never (--no-think), auto (where the Embedder's gate predicts a gain), always (--think alone). Default: "
        "always if the index was built with reasoning, else never.",
        rich_help_panel=REASONING,
    ),
]
IndexDial = Annotated[
    Dial | None,
    typer.Option(
        "--think",
        "--no-think",
        help="Reason about items: never (--no-think), auto (where the Embedder's gate of candidates predicts a gain), always (--think "
        "alone). Default: as the index was made, auto with its gate too; always for a new one.",
        rich_help_panel=REASONING,
    ),
]
EvaluationDial = Annotated[
    Dial | None,
    typer.Option(
        "--think",
        "--no-think",
        help="Reason about items: never (--no-think), auto (candidates, and queries for which the Embedder's gate predicts a gain), always "
        "(--think alone). Default: always.",
        rich_help_panel=REASONING,
    ),
]
GateFile = Annotated[
    Path | None,
    typer.Option(
        "--gate",
        help="Gate of --think auto (bench/gate.py fits one); the one in the Embedder's folder by default.",
        rich_help_panel=REASONING,
    ),
]
ThinkBudget = Annotated[
    float | None,
    typer.Option(
        "--think-budget",
        min=0,
        max=1,
        help="For --think auto: fraction to reason about (of tokens, if the gate knows them); 0.5 by default.",
        rich_help_panel=REASONING,
    ),
]
DEFAULT_SHARE = 0.5


class DialCommand(Command):
    """A command whose `--think` takes a value or stands alone, and whose `--no-think` takes none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with the value of each `--think` and `--no-think` attached to it."""
        return super().parse_args(ctx, attach_values(args))


def attach_values(args: list[str]) -> list[str]:
    """Return arguments with `--think MODE` as one, `--think` alone as `--think=always`, and `--no-think` as `--no-think=never`.

    Raises typer.BadParameter for `--no-think` with a value.
    """
    end = args.index("--") if "--" in args else len(args)
    attached: list[str] = []
    position = 0
    while position < end:
        argument = args[position]
        position += 1
        if argument.startswith("--no-think="):
            raise typer.BadParameter(f"{argument}: --no-think takes no value; for a mode say --think never, auto or always")
        if argument == "--think" and position < end and args[position] in get_args(Dial):
            attached.append(f"--think={args[position]}")
            position += 1
        else:
            attached.append({"--think": "--think=always", "--no-think": "--no-think=never"}.get(argument, argument))
    return [*attached, *args[end:]]


def read_dial(think: Dial | None, gate: Path | None, budget: float | None) -> Dial | None:
    """Return the mode; a gate or a budget alone means `auto`. Raises ConfigError for these with another mode."""
    if gate is None and budget is None:
        return think
    if think in ("never", "always"):
        what = f"--gate {gate}" if gate is not None else f"--think-budget {budget:g}"
        raise ConfigError(f"{what}: only with --think auto, not with --think {think}; leave out one of the two")
    return "auto"


def reasons(dial: Dial | None) -> bool | None:
    """Return whether a Reasoner is needed; None for as the index was built."""
    return None if dial is None else dial != "never"


def find_gate(path: Path | None, embedder: str, role: "GateRole" = "query") -> Path:
    """Return the gate of `--think auto`: a file, else the one in the Embedder's folder. Raises ConfigError if there is none for it."""
    if path is None and (path := gate_beside(embedder, role)) is None:
        raise ConfigError(
            f"--think auto: there is no gate for the Embedder {embedder!r}: fit one with `python bench/gate.py "
            f"--write{'' if role == 'query' else '-candidates'} FILE` and give it as --gate FILE, or say --think always or never"
        )
    return path


def load_gate(path: Path, budget: float | None, fingerprint: str, role: "GateRole" = "query") -> "LinearGate":
    """Load a gate. Raises ConfigError if it is none, or one of another Embedder than that of this fingerprint, or of another role."""
    from embedrl.index.gate import read_gate

    return read_gate(path, DEFAULT_SHARE if budget is None else budget, fingerprint, role)


def choose_item_gate(noted: "ModelNames | None", embedder: str, asked: "QueryModels | None" = None) -> "tuple[ItemGate, Path] | None":
    """Return the gate of items as an index notes it, and its file; None for no gate.

    It is the one of the options `asked`, with --think auto; without a --gate there, or with no mode, the one that the index was made with.
    Raises ConfigError if its file is not there.
    """
    dial, path, share = (None, None, None) if asked is None else (asked.dial, asked.gate, asked.think_budget)
    if dial not in (None, "auto"):
        return None
    made_with = noted.gate_for(embedder) if noted is not None and path is None else None
    if made_with is None:
        if dial is None:
            return None
        from embedrl.index.model_names import ItemGate

        return ItemGate(path=None if path is None else str(path.resolve()), share=share), find_gate(path, embedder, "candidate")
    file = find_gate(None if made_with.path is None else Path(made_with.path), embedder, "candidate")
    if not file.is_file():
        raise ConfigError(
            f"{str(file)!r}: this index was made with --think auto and this gate, which is not there; put it back, give another to "
            "`embedrl index DIR --gate FILE`, or have `embedrl index DIR --think always` forget it"
        )
    return made_with if share is None else made_with.model_copy(update={"share": share}), file


def gate_beside(embedder: str, role: "GateRole" = "query") -> Path | None:
    """Return the gate in an Embedder's folder, if there is one."""
    from embedrl.models.names import GATE_FILES, is_server, resolve

    if embedder == "fake" or is_server(embedder):
        return None
    path = resolve(embedder, "embedder") / GATE_FILES[role]
    return path if path.is_file() else None
