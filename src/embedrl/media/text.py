"""Text files: UTF-8 with or without a byte order mark, UTF-16, and Latin-1 for what is older."""

from pathlib import Path

from embedrl.errors import MediaError
from embedrl.media.store import DEFAULT, Limits, open_file, text_encoding


def load_text(path: Path, limits: Limits = DEFAULT) -> str:
    """Read a text file, with line ends as newlines. Raises MediaError for binary data and for text over `max_text_chars`."""
    max_bytes = 4 * limits.max_text_chars + 4  # the longest encoding of a character, and a byte order mark
    with open_file(path, limits) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise MediaError(f"{str(path)!r}: cannot be read ({error.strerror})") from error
    too_long = f"{str(path)!r}: is longer than max_text_chars={limits.max_text_chars}: split it or raise the limit"
    if len(data) > max_bytes:
        raise MediaError(too_long)
    encoding = text_encoding(data)
    if encoding is None:
        raise MediaError(f"{str(path)!r}: is binary data, not text")
    # A UTF-8 prefix may end within a character, and a byte order mark may lie: both show only in a strict decode.
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise MediaError(f"{str(path)!r}: is not valid {encoding} text ({error.reason} at byte {error.start})") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise MediaError(f"{str(path)!r}: is binary data, not text")
    if len(text) > limits.max_text_chars:
        raise MediaError(too_long)
    return text
