"""Text files with encoding detection: byte order mark, UTF-8 (also slightly damaged), UTF-16, legacy encodings."""

import codecs
import re
from bisect import bisect_left
from pathlib import Path

from embedrl.errors import MediaError
from embedrl.media.content import well_formed
from embedrl.media.store import DEFAULT, Limits, is_written, looks_textual, open_regular, wide_encoding

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENCODINGS = (
    *("cp1251", "koi8_r", "koi8_u", "iso8859_5", "cp866", "gb18030", "big5", "cp932", "euc_jp", "cp949"),
    *("iso8859_2", "cp1250", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "iso8859_6"),
)
"""What is recognised by how its text reads; Thai comes after, since anything reads as Thai."""
_SAMPLE_BYTES = 64 * 1024
_MAX_DAMAGED = 1 / 200
"""Characters that may be damaged in a text of a recognised encoding."""
_MAX_WESTERN_SHARE = 0.3
_INSIDE_WORD = re.compile(r"(?<=[^\W\d_])[¹²³±¶¼½¾¿¡»«¨´¸¯¬¦¤](?=[^\W\d_])")
_FOREIGN_RUN = re.compile(r"[À-ÿ]{4,}")


def load_text(path: Path, limits: Limits = DEFAULT) -> str:
    """Read a text file, with newlines as `\\n`. Raises MediaError if it is binary, blank, or longer than `max_text_chars`."""
    with open_regular(path, limits) as file:
        data = file.read(4 * limits.max_text_chars + 5)
    try:
        text = decode_text(data)
    except MediaError as error:
        raise MediaError(f"{str(path)!r}: {error}") from error
    text = well_formed(text).replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > limits.max_text_chars:
        raise MediaError(f"{str(path)!r}: is longer than max_text_chars={limits.max_text_chars}; split it")
    if not text.strip():
        raise MediaError(f"{str(path)!r}: holds no text")
    return text


LONG_TEXT = 100
"""Maximum length of a text that is divided into passages, in units of `max_text_chars`."""
LONG_DOCUMENT = 10
"""The same for a converted document, all of which comes from a child process at once."""


def load_long_text(path: Path, limits: Limits = DEFAULT) -> str:
    """Read a text file that is divided into passages, as `load_text` does: it may be 100 times as long."""
    most = LONG_TEXT * limits.max_text_chars
    try:
        return load_text(path, limits.model_copy(update={"max_text_chars": most}))
    except MediaError as error:
        if f"max_text_chars={most}" not in str(error):
            raise
        reason = f"is longer than {LONG_TEXT} times max_text_chars={limits.max_text_chars}; split it"
        raise MediaError(f"{str(path)!r}: {reason}") from error


def byte_offsets(path: Path, text: str, positions: list[int], limits: Limits = DEFAULT) -> dict[int, int]:
    """Return at which byte of the file each of these characters (rising) of its text begins; none if it is not kept as UTF-8."""
    with open_regular(path, limits) as file:
        data = file.read()
    mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    stored = _decoded(data[mark:], "utf-8")
    if stored is None or stored.replace("\r\n", "\n").replace("\r", "\n") != text:
        return {}
    ends = [match.start() - number for number, match in enumerate(re.finditer("\r\n", stored))]
    offsets, last, offset = {}, 0, mark
    for position in positions:
        at = position + bisect_left(ends, position)
        offset += len(stored[last:at].encode())
        offsets[position], last = offset, at
    return offsets


def decode_text(data: bytes) -> str:
    """Decode text of an encoding that is not known. Raises MediaError, without a name, for what is no text or not recognised."""
    if not looks_textual(data):
        raise MediaError("is binary, not text")
    if encoding := next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None):
        text = data.decode(encoding, "replace")
        if not is_written(text):
            raise MediaError(f"its byte order mark says {encoding}, but it does not read as that")
        return text
    if encoding := wide_encoding(data):
        return data.decode(encoding, "replace")
    if b"\x1b$" in data and (text := _decoded(data, "iso2022_jp")) is not None:
        return text
    if (text := _decoded(data, "utf-8")) is not None:
        return text
    text = data.decode("utf-8", "replace")
    num_damaged = text.count("\ufffd") - data.count("\ufffd".encode())
    num_wide = sum(char > "\x7f" for char in text) - num_damaged
    if num_wide >= 2 * num_damaged:
        return text
    if (legacy := _decode_legacy(data)) is None:
        raise MediaError("its encoding is not recognised; save it as UTF-8")
    return legacy


def _decode_legacy(data: bytes) -> str | None:
    """Decode text of a legacy encoding; None if not recognised."""
    western = _decoded(data, "cp1252")
    if western is not None and _reads_as_western(western):
        return western
    from charset_normalizer import from_bytes

    sample = data[:_SAMPLE_BYTES]
    if len(data) > len(sample):  # not in the middle of a character
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    for encodings in (_ENCODINGS, ("cp874",)):
        if (best := from_bytes(sample, cp_isolation=list(encodings)).best()) is not None:
            encoding = best.encoding
            if encoding in ("cp1250", "iso8859_2"):  # they differ in letters that one of them keeps where the other has controls
                encoding = "cp1250" if re.search(b"[\x80-\x9f]", data) else "iso8859_2"
            text = data.decode(encoding, "replace")
            if text.count("\ufffd") <= max(len(text) * _MAX_DAMAGED, 1):
                return text
    western = western or data.decode("latin-1")
    return western if _share_of_high(western) <= _MAX_WESTERN_SHARE else None


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _reads_as_western(text: str) -> bool:
    """Return whether a text is plausible Western European: no symbols inside words, no words of accented letters only."""
    num_high = sum(char > "\x7f" for char in text)
    num_odd = len(_INSIDE_WORD.findall(text)) + sum(len(run) for run in _FOREIGN_RUN.findall(text))
    return _share_of_high(text) <= _MAX_WESTERN_SHARE and num_odd <= 0.04 * num_high


def _share_of_high(text: str) -> float:
    return sum(char > "\x7f" for char in text) / max(len(text), 1)
