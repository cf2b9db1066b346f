"""Text files: UTF-8 or UTF-16 with a byte order mark, plain UTF-8, or else Western European."""

import codecs
from pathlib import Path

from embedrl.errors import MediaError
from embedrl.media.store import DEFAULT, Limits, looks_textual, open_regular

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def load_text(path: Path, limits: Limits = DEFAULT) -> str:
    """Read a text file, with newlines as `\\n`. Raises MediaError if it is binary, blank, or longer than `max_text_chars`."""
    with open_regular(path, limits) as file:
        data = file.read(4 * limits.max_text_chars + 5)
    text = _decode(data, path).replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > limits.max_text_chars:
        raise MediaError(f"{str(path)!r}: is longer than max_text_chars={limits.max_text_chars}; split it")
    if not text.strip():
        raise MediaError(f"{str(path)!r}: holds no text")
    return text


def _decode(data: bytes, path: Path) -> str:
    if not looks_textual(data):
        raise MediaError(f"{str(path)!r}: is binary, not text")
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if marked and sum(not (char.isprintable() or char.isspace()) for char in text) > len(text) / 200:
            break
        return text
    raise MediaError(f"{str(path)!r}: its byte order mark says {marked}, but it does not read as that")
