"""Prediction and score files in MMEB-V2's format.

`<modality>/<dataset>_score.json` holds 24 means and two counts, `<dataset>_pred.jsonl` a line per query: {"prediction": names best
first (ours end after the tenth), "label": names of the right ones, "rel_scores": their grades, or null if all are 1}.
"""

import json
import math
from pathlib import Path

from embedrl.evaluation.evaluate import TaskResult
from embedrl.evaluation.metrics import METRIC_NAMES
from embedrl.evaluation.report import write_report
from embedrl.evaluation.tables import SCORE_SUFFIX
from embedrl.evaluation.task import RetrievalTask
from embedrl.files import write_bytes

PREDICTION_SUFFIX = "_pred.jsonl"


def score(result: TaskResult) -> dict[str, float]:
    """Return the 26 values of a score file: means over queries, and how many queries were ranked and how many there are."""
    num = len(result.query_keys)
    means = {name: math.fsum(result.figures[name]) / num for name in METRIC_NAMES}
    return {**means, "num_pred": len(result.rankings), "num_data": num}


def write_predictions(task: RetrievalTask, result: TaskResult, folder: Path) -> None:
    """Write the score file and the predictions of one dataset, each whole or not at all. Raises StoreError."""
    lines = []
    for relevant, ranking in zip(task.relevant, result.rankings, strict=True):
        label, grades = [task.names.get(key, key) for key in relevant], list(relevant.values())
        prediction = [task.names.get(key, key) for key, _ in ranking.top]
        row = {"prediction": prediction, "label": label, "rel_scores": grades if set(grades) - {1.0} else None}
        lines.append(f"{json.dumps(row, ensure_ascii=False)}\n")
    home = folder / task.modality
    path = home / f"{task.name}{PREDICTION_SUFFIX}"
    write_bytes(path, "".join(lines).encode("utf-8", "surrogatepass"))
    write_report(score(result), home / f"{task.name}{SCORE_SUFFIX}")
