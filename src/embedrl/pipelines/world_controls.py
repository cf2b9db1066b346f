"""Controls of the crowded world, by the same queries as the systems: what a gain rests on beside the T-CoTs and the Embedder.

For each Reasoner: T-CoTs of other items, T-CoTs without media, tf-idf of the answers without any Embedder, and, where several are compared,
answers cut to the same number of statements.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from embedrl import log
from embedrl.data.protocols import Embeds
from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.evaluation.evaluate import SystemResult, evaluate
from embedrl.evaluation.report import read_figure
from embedrl.evaluation.task import RetrievalTask
from embedrl.pipelines.controls import WithoutMedia, exchanged
from embedrl.pipelines.room import TfIdf
from embedrl.world.claims import selected, told

OTHERS, NO_MEDIA, TF_IDF, EQUAL = "T-CoTs of other items", "without media", "tf-idf", "equal length"


def control_systems(tasks: Sequence[RetrievalTask], embedder: Embeds, systems: Sequence[SystemResult]) -> list[SystemResult]:
    """Evaluate the controls of systems that were evaluated on these tasks with a Reasoner each; named "SYSTEM, CONTROL"."""
    written = {system.name: {key: tcot for key, tcot in system.tcots.items() if isinstance(tcot, TCoT)} for system in systems}
    settings: dict[str, Any] = {"claims": selected}
    results = []
    for name, tcots in written.items():
        results.append(evaluate(tasks, embedder, name=f"{name}, {OTHERS}", tcots=exchanged(tasks, tcots), **settings))
        if isinstance(embedder, Embedder):
            results.append(evaluate(tasks, WithoutMedia(embedder), name=f"{name}, {NO_MEDIA}", tcots=tcots, **settings))
        results.append(evaluate(tasks, TfIdf(list(tcots.values())), name=f"{name}, {TF_IDF}", tcots=tcots, **settings))
    if written and not isinstance(embedder, Embedder):
        log.warn("T-CoTs without media: left out, since this Embedder has no loaded weights here")
    if len(written) > 1:
        for name, tcots in equally_long(written).items():
            results.append(evaluate(tasks, embedder, name=f"{name}, {EQUAL}", tcots=tcots, **settings))
    return results


def equally_long(written: Mapping[str, Mapping[str, TCoT]]) -> dict[str, dict[str, TCoT]]:
    """Cut the answers of several Reasoners about one item to the fewest statements that any of them makes; all keep the first ones.

    Thinking, evidence and rethink stay. An item that one of them has no T-CoT of is left out of all.
    """
    shared = set.intersection(*(set(tcots) for tcots in written.values()))
    fewest = {key: min(len(told(tcots[key].answer)) for tcots in written.values()) for key in shared}
    return {
        name: {
            key: tcot.model_copy(update={"answer": ", ".join(told(tcot.answer)[: fewest[key]])}) if fewest[key] else tcot
            for key, tcot in tcots.items()
            if key in shared
        }
        for name, tcots in written.items()
    }


def partial_rows(report: Mapping[str, Any], partial: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of a console table: partial descriptions, to which several candidates may be right answers."""
    columns = ["partial descriptions", "task", "hit@1", "mAP@10", "nDCG@10", "T-CoTs that add what was not asked"]
    rows = []
    for system, groups in report["systems"].items():
        for task in (name for name in partial if name in groups["tasks"]):
            figures = groups["tasks"][task]
            invents = figures.get("claims", {}).get("invents")
            values = [figures[name] for name in ("hit@1", "map@10", "ndcg_linear@10")]
            rows.append([system, task, *(read_figure(value).text() for value in values), read_figure(invents).text() if invents else ""])
    return columns, rows
