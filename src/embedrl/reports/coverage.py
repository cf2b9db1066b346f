"""Coverage of imported T-CoTs: console table and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from embedrl import log
from embedrl.evaluation.benchmarks.published_tcots import LISTS, ImportedTCoTs

MAX_LINES = 3
"""Names of one kind that are told of a dataset's side; the run folder's file has them all."""

_PHRASES = {
    "missing": "no T-CoT, embedded plain",
    "malformed": "cannot be read, embedded plain",
    "ambiguous": "a look-up by parts of names would have confused it",
    "undecided": "shares its key with others, embedded plain",
    "strangers": "about no item of the dataset",
}


def tell_coverage(imported: ImportedTCoTs) -> None:
    """Print a table of the datasets, and name what is missing, malformed, ambiguous or undecided."""
    log.table(f"T-CoTs: {imported.fingerprint}", *coverage_rows(imported))
    for dataset, tcots in imported.datasets.items():
        for side, coverage in tcots.coverage.items():
            for kind, phrase in _PHRASES.items():
                _tell(f"{dataset}, {side}", phrase, getattr(coverage, kind))


def coverage_rows(imported: ImportedTCoTs) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows: numbers of items with a T-CoT, and without one by reason, per dataset."""
    rows: list[list[object]] = []
    for dataset, tcots in imported.datasets.items():
        sides = tcots.coverage.values()
        row = [f"{side.num_found:,} of {side.num_items:,}" for side in sides]
        rows.append([dataset, *row, *(sum(len(getattr(side, kind)) for side in sides) for kind in LISTS)])
    return ["dataset", "queries", "candidates", *LISTS], rows


def coverage_json(imported: ImportedTCoTs) -> dict[str, Any]:
    """Return the content of a run folder's `tcots.json`."""
    datasets = {
        dataset: {"name": tcots.fingerprint, **{side: asdict(coverage) for side, coverage in tcots.coverage.items()}}
        for dataset, tcots in imported.datasets.items()
    }
    return {"name": imported.fingerprint, "datasets": datasets}


def _tell(where: str, phrase: str, names: Sequence[str]) -> None:
    for name in names[:MAX_LINES]:
        log.warn(f"{where}: {name}: {phrase}")
    if len(names) > MAX_LINES:
        log.warn(f"{where}: and {len(names) - MAX_LINES:,} more: {phrase}")
