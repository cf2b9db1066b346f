"""Write docs/notebooks/*.ipynb from the tutorials: a cell for each block of Python, and one for what stands between (`make notebooks`)."""

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
FOLDER = DOCS / "notebooks"
_BLOCK = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:|#)(?:notebooks/)?([^)\s]+)\)")


def tutorials() -> dict[str, Path]:
    """Return the tutorials by the names of their notebooks."""
    return {path.with_suffix(".ipynb").name: path for path in sorted(DOCS.glob("tutorial-*.md"))}


def notebook(text: str) -> dict[str, Any]:
    """Return a tutorial as a notebook (nbformat 4.5) without outputs; links are made to lead out of the notebooks' folder."""
    cells: list[dict[str, Any]] = []
    for number, part in enumerate(_BLOCK.split(text)):
        is_code = number % 2 == 1
        source = part.strip() if is_code else _LINK.sub(_outwards, part.strip())
        if source:
            cell = {"cell_type": "code" if is_code else "markdown", "id": f"cell-{number}", "metadata": {}}
            cells.append(
                cell | ({"execution_count": None, "outputs": []} if is_code else {}) | {"source": source.splitlines(keepends=True)}
            )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _outwards(link: re.Match[str]) -> str:
    target = link[1]
    return f"]({target if target.endswith('.ipynb') else f'../{target}'})"


def written(path: Path) -> str:
    """Return the text of a notebook's file."""
    return json.dumps(notebook(path.read_text("utf-8")), ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, path in tutorials().items():
        (FOLDER / name).write_text(written(path), "utf-8")
