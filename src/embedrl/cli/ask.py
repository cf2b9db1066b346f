"""Command `ask`: a question about what is indexed, answered with citations."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedrl import log
from embedrl.cli.arguments import asked, need_index
from embedrl.cli.dial import DialCommand
from embedrl.cli.help import SEARCHING
from embedrl.cli.models import load_for_queries, warn_if_blind
from embedrl.cli.option_groups import Conditions, QueryModels
from embedrl.cli.options import AsJson, IndexPlace, Local, commands
from embedrl.cli.placement import places_models
from embedrl.cli.search import running_server
from embedrl.errors import ConfigError, StoreError
from embedrl.parameters import expand_groups

if TYPE_CHECKING:
    from embedrl.index.answer import Citation, CitedAnswer

app = commands()
NOT_ANSWERED = 1


@app.command("ask", cls=DialCommand, short_help="Answer a question from an index, with citations.", rich_help_panel=SEARCHING)
@places_models
@expand_groups
def ask_index(
    question: Annotated[str, typer.Argument(help="A question about the indexed items; - reads it from stdin.")],
    *,
    index: IndexPlace = ".",
    models: QueryModels,
    local: Local = False,
    look_at: Annotated[int, typer.Option(min=1, max=32, help="Number of items to retrieve and read.")] = 8,
    min_support: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Fraction of the question's words that an item must contain to be cited; 0.75 by default."),
    ] = None,
    conditions: Conditions,
    as_json: AsJson = False,
) -> None:
    """Answer a question from the top items of an index, citing box, moment, page or line.

    If no item answers it, the answer says so and the exit code is 1.

    \b
    Example: embedrl ask "when does the red circle leave?" --index library
    """
    question = asked(question) or ""
    if not question.strip():
        raise ConfigError('the question is empty: give one, as in `embedrl ask "when does the red circle leave?"`')
    named, _ = models.by_name()
    need_index(index)
    from embedrl.index.answer import MIN_SUPPORT, ask
    from embedrl.index.index import Index
    from embedrl.index.query import Query
    from embedrl.server.client import filter_fields

    share, filter = MIN_SUPPORT if min_support is None else min_support, conditions.filter()
    dialled = {name: value for name, value in (("think", named.dial), ("think_budget", named.think_budget)) if value is not None}
    request = {"question": question, "limit": look_at, "min_support": share, **dialled, **filter_fields(filter)}
    answer = None if local or models.gate or models.are_set else _ask_server(index, named, request)
    if answer is None:
        reasoner, embedder, gate = load_for_queries(index, named)
        answer = ask(
            Index.open(index, embedder=embedder),
            question,
            embedder,
            reasoner,
            limit=look_at,
            min_support=share,
            query=Query(filter=filter),
            gate=gate,
        )
    _show(answer, as_json=as_json)
    if not answer.is_answered:
        raise typer.Exit(NOT_ANSWERED)


def _ask_server(index: str, named: QueryModels, request: dict[str, Any]) -> "CitedAnswer | None":
    """Ask the running server of this index; None, with the reason logged, if there is none or it refuses."""
    server = running_server(index, named)
    if server is None:
        return None
    from embedrl.index.answer import Citation, CitedAnswer
    from embedrl.server.running import post_json

    try:
        answer = post_json(server, "/v1/ask", request, token=os.environ.get("EMBEDRL_TOKEN"))
    except StoreError as error:
        log.info(f"{error}; answering here")
        return None
    warn_if_blind(server.models, index, again=True)
    log.info(f"asked {server.url}, which serves this index; --local answers here")
    cited = tuple(Citation(**{name: row[name] for name in Citation.model_fields}) for row in answer["citations"])
    return CitedAnswer(text=answer["text"], citations=cited, num_asked=answer["num_asked"], gate=answer.get("gate"))


def _show(answer: "CitedAnswer", *, as_json: bool) -> None:
    from embedrl.index.row import shown

    if as_json:
        log.print_json(answer.model_dump(mode="json"))
        return
    if answer.gate == "plain":
        log.info("searched without reasoning: the gate expects no gain for this question (--think-budget 1 reasons always)")
    log.result(answer.text)
    for number, cited in enumerate(answer.citations, 1):
        log.result(f"[{number}] {shown(cited.path)}{_where(cited)}: {cited.answer}")


def _where(cited: "Citation") -> str:
    """Format the position in the file: page, moments, boxes, line."""
    parts = [f"page {cited.page}"] if cited.page else []
    parts += [f"at {time_s:.1f} s" for time_s in cited.times_s]
    parts += [f"box {' '.join(map(str, box))}" for box in cited.boxes]
    parts += [f"line {cited.line}"] if cited.line else []
    return "".join(f", {part}" for part in parts)
