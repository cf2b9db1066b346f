"""Reader of Embed-RL's T-CoT files for MMEB-V2: per dataset one for queries, one for candidates.

Queries are the benchmark's own rows with "query_cot" and "error" added. Candidates: of a dataset of images {"text": {text: T-CoT},
"image": {path: T-CoT}}; of videos rows {"corpus_content": text or folder of frames, "corpus_cot": …, "error": …}; of pages the
corpus rows without their image, with "corpus_cot" and "error".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from embedrl.data.sources.row import RowError
from embedrl.data.sources.stream import read_json
from embedrl.errors import ConfigError
from embedrl.evaluation.task import Modality
from embedrl.files import read_json_file

FILES: dict[Modality, tuple[str, str]] = {
    "image": ("Image/{}.json", "Image/{}_corpus_cot.json"),
    "video": ("Video/{}_query_cot.json", "Video/{}_corpus_cot.json"),
    "visdoc": ("VisDo/{}_query.json", "VisDo/{}_corpus.json"),
}
"""Where the T-CoTs of a dataset's queries and of its candidates lie, by its name."""

_CONTENT = {"video": "corpus_content", "visdoc": "corpus-id"}


class Written(NamedTuple):
    """Raw T-CoT of a file."""

    text: str
    error: str
    """Error recorded in the file; "" if none."""
    where: str
    """File and row."""


class Entry(NamedTuple):
    """Entry of a file about one item."""

    written: Written
    row: dict[str, Any]
    """Of a query: the benchmark's row."""
    name: str = ""
    """Of a candidate: what the file calls it."""
    kind: str = ""
    """Of a candidate of a dataset of images: "text" or "image"."""


def read_queries(path: Path) -> Iterator[Entry | str]:
    """Yield what a file of queries holds, and a sentence for each row that is broken. Raises ConfigError if it cannot be read."""
    for where, row in _rows(path):
        yield row if isinstance(row, str) else Entry(_written(row, "query_cot", where), row)


def read_candidates(path: Path, modality: Modality) -> Iterator[Entry | str]:
    """Yield what a file of candidates holds, and a sentence for each row that is broken. Raises ConfigError if it cannot be read."""
    if modality == "image":
        yield from _image_corpus(path)
        return
    column = _CONTENT[modality]
    for where, row in _rows(path):
        if isinstance(row, str):
            yield row
        elif row.get(column) is None:
            yield f"{where}: it has no {column}"
        else:
            yield Entry(_written(row, "corpus_cot", where), row, str(row[column]))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    number = 0
    for row in read_json(path):
        number += row.num_rows if isinstance(row, RowError) else 1
        where = f"{path.parent.name}/{path.name}, row {number}"
        yield where, row if isinstance(row, dict) else f"{where}: {row if isinstance(row, RowError) else 'it is no JSON object'}"


def _written(row: dict[str, Any], column: str, where: str) -> Written:
    text = row.get(column)
    return Written(text if isinstance(text, str) else "", str(row.get("error") or ""), where)


def _image_corpus(path: Path) -> Iterator[Entry | str]:
    table = read_json_file(path, ConfigError, "download it again")
    if not all(isinstance(table.get(kind, {}), dict) for kind in ("text", "image")):
        raise ConfigError(f'{str(path)!r}: {{"text": {{…}}, "image": {{…}}}} should stand there; download it again')
    for kind in ("text", "image"):
        for name, text in table.get(kind, {}).items():
            where = f"{path.parent.name}/{path.name}, {kind} {name[:80]!r}"
            yield Entry(Written(text if isinstance(text, str) else "", "", where), {}, name, kind)
