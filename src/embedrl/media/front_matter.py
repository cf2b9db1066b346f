"""Front matter of texts: what stands between `---` lines (YAML, as Jekyll, Obsidian and pandoc write it) or `+++` lines (TOML: Hugo)."""

import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

MAX_CHARS = 64 * 1024
"""Of a text, the part in which front matter is looked for."""
_BLOCK = re.compile(r"(?P<fence>---|\+\+\+)[ \t]*\n(?P<inside>.*?\n)(?:(?P=fence)|\.\.\.)[ \t]*(?:\n|$)", re.S)
_ENTRY = re.compile(r"([A-Za-z][\w .-]{0,60}?)[ \t]*:(?:[ \t]+(.*))?")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.+)")
_WORDS = (
    *("title", "subtitle", "author", "authors", "description", "summary", "abstract"),
    *("tags", "tag", "keywords", "categories", "category"),
)
_DATES = ("date", "created", "published", "publishdate", "pubdate", "lastmod", "updated", "modified")


def front_matter(text: str) -> tuple[list[str], list[str]]:
    """Return (words: title, author, keywords …; dates as they are written) of a text's front matter; nothing of one without any.

    Of YAML, scalars and lists of them are read. Raises ValueError for TOML that is none.
    """
    block = _BLOCK.match(text.lstrip("\ufeff")[:MAX_CHARS])
    if block is None:
        return [], []
    read = _yaml(block["inside"]) if block["fence"] == "---" else _listed(tomllib.loads(block["inside"]))
    words = [word for name in _WORDS for word in read.get(name, ())]
    return words, [word for name in _DATES for word in read.get(name, ())]


def _yaml(inside: str) -> dict[str, list[str]]:
    read: dict[str, list[str]] = {}
    values: list[str] = []
    for line in inside.splitlines():
        if match := _ENTRY.fullmatch(line.rstrip()):
            values = read.setdefault(match[1].casefold(), [])
            values += _values(match[2] or "")
        elif match := _ITEM.fullmatch(line.rstrip()):
            values += _values(match[1])
        elif line[:1].isspace() and line.strip() and values:  # folded
            values[-1] += f" {line.strip()}"
    return read


def _values(written: str) -> list[str]:
    written = written.strip()
    if written.startswith("[") and written.endswith("]"):
        return [value for part in written[1:-1].split(",") if (value := _plain(part))]
    return [_plain(written)] if _plain(written) and written not in ("|", ">", "|-", ">-") else []


def _plain(written: str) -> str:
    written = written.strip()
    if len(written) >= 2 and written[0] == written[-1] and written[0] in "\"'":
        return written[1:-1]
    return re.split(r"\s#", written, maxsplit=1)[0].rstrip()


def _listed(table: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name.casefold(): [_written(part) for part in (value if isinstance(value, list) else [value])] for name, value in table.items()}


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)
