"""Print docs/api.md: the public names of embedrl, from their docstrings (`make api`)."""

import re
import sys
from pathlib import Path

import griffe
from griffe2md import ConfigDict, render_object_docs

import embedrl

ROOT = Path(__file__).parents[1]
HEAD = """# The public API

Made from the docstrings by `make api`. `import embedrl` imports nothing heavy: a name is loaded when it is first used.

"""
OPTIONS = ConfigDict(
    heading_level=2,
    show_root_full_path=False,
    show_root_heading=True,
    show_root_toc_entry=False,
    show_object_full_path=False,
    show_root_members_full_path=False,
    summary=False,
    signature_crossrefs=False,
    show_signature_annotations=True,
    show_if_no_docstring=False,
    filters=["!^_", "!^model_"],
    show_submodules=False,
    group_by_category=False,
    members_order="source",
)


RESULTS = {
    "Hit": "index.hit",
    "IngestReport": "index.ingest_report",
    "Recommendations": "index.recommend",
    "Recommended": "index.recommend",
    "SearchResult": "index.search",
    "SystemResult": "evaluation.evaluate",
}
"""What public functions return, by module."""


def page() -> str:
    """Return the page."""
    loader = griffe.GriffeLoader(search_paths=[str(ROOT / "src")], extensions=griffe.load_extensions())
    package = loader.load("embedrl", try_relative_path=False)
    loader.resolve_aliases()
    public = {name: embedrl.home_of(name).removeprefix("embedrl.") for name in set(embedrl.__all__) - {"__version__"}}
    parts = []
    for name, module in sorted((public | RESULTS).items(), key=lambda item: (item[0].lower(), item[0])):
        documented = package[f"{module}.{name}"]
        if documented.is_module:  # griffe takes the module `index.search` for the function of that name
            documented = documented[name]
        parts.append(render_object_docs(documented.final_target if documented.is_alias else documented, OPTIONS).strip())
    text = re.sub(r"\[([^\]\n]*)\]\(#[^)\n]*\)", r"\1", "\n\n".join(parts))  # there are no such anchors
    return HEAD + re.sub(r"</?code>", "`", text) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
