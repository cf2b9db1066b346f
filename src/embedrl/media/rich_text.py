"""Rich Text Format (RTF 1.9) as text, by the standard library."""

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from embedrl.errors import MediaError
from embedrl.media.markup import tidy

_TOKEN = re.compile(rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|([^\\{}\r\n]+)|[\r\n]+|\\")
_FONT = re.compile(rb"\{\\f(\d+)[^{}]*?\\fcharset(\d{1,3})(?!\d)")
_UNSEEN = {
    *("fonttbl", "colortbl", "stylesheet", "listtable", "listoverridetable", "revtbl", "rsidtbl", "generator", "info", "filetbl"),
    *("header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf", "fldinst", "datafield", "xmlnstbl"),
    *("pict", "object", "objdata", "nonshppict", "themedata", "colorschememapping", "datastore", "latentstyles"),
    *("annotation", "atnid", "atnauthor", "bkmkstart", "bkmkend"),
}
"""Destinations that are no text of the document."""
_WRITTEN = {
    **dict.fromkeys(("par", "sect", "page"), "\n\n"),
    **dict.fromkeys(("line", "row", "nestrow"), "\n"),
    **dict.fromkeys(("cell", "nestcell"), " | "),
    **dict.fromkeys(("emspace", "enspace"), " "),
    **{"tab": "\t", "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•"},
}
_CHARSETS = {
    **{0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258"},
    **{177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250"},
}
"""Of fonts."""
_MAX_DEPTH = 1000


class _State(NamedTuple):
    """What a group inherits, and gives back at its end."""

    is_seen: bool = True
    skips: int = 1
    """Characters behind a Unicode character that stand for it in old readers."""
    encoding: str = ""


def read_rich_text(file: BinaryIO, max_bytes: int) -> str:
    """Return the text of a document. Raises MediaError."""
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise MediaError(f"has more than {max_bytes} bytes")
    return tidy(re.sub(r"(?<! \| )(?: \| )++(?=\n|$)", "", _joined(_pieces(data))))


def document_info(data: bytes) -> dict[str, str]:
    """Return title, author, subject, keywords and dates of a document (`creatim`, `revtim`), as it writes them; nothing for none."""
    info = re.search(rb"\{\\info\b", data)
    if info is None:
        return {}
    head = data[info.start() : info.start() + 64 * 1024]
    encoding = _encoding_of(data)
    values = {
        match[1].decode(): _joined(_pieces(match[2], encoding))
        for match in re.finditer(rb"\{\\(?:\*\\)?(title|subject|author|keywords|doccomm)\b ?((?:[^{}\\]|\\.)*)\}", head)
    }
    for match in re.finditer(rb"\{\\(creatim|revtim)\\yr(\d{4})\\mo(\d{1,2})\\dy(\d{1,2})(?:\\hr(\d{1,2}))?(?:\\min(\d{1,2}))?", head):
        year, month, day, hour, minute = (int(part or 0) for part in match.groups()[1:])
        values[match[1].decode()] = f"{year:04}-{month:02}-{day:02}" + (f" {hour:02}:{minute:02}" if match[5] else "")
    return values


def _encoding_of(data: bytes) -> str:
    if match := re.search(rb"\\ansicpg(\d{3,5})", data[:1000]):
        return _known(f"cp{int(match[1])}")
    return "mac_roman" if b"\\mac" in data[:200] else "cp1252"


def _known(encoding: str) -> str:
    try:
        return encoding if "".encode(encoding) is not None else "cp1252"
    except LookupError:
        return "cp1252"


def _pieces(data: bytes, encoding: str | None = None) -> Iterator[str]:
    """Yield the pieces of text."""
    fonts = {match[1]: _CHARSETS.get(int(match[2]), "") for match in _FONT.finditer(data, 0, 256 * 1024)}
    default = encoding or _encoding_of(data)
    state, outer, due, coded = _State(encoding=default), [], 0, b""
    position = 0
    while match := _TOKEN.match(data, position):
        position = match.end()
        word, number, coded_byte, symbol, brace, plain = match.groups()
        if match[0].isspace() and plain is None:
            continue  # ends of lines are no text, also between the two bytes of a character
        if coded and coded_byte is None and plain is None:
            yield coded.decode(state.encoding, "replace")
            coded = b""
        if brace == b"{":
            if len(outer) >= _MAX_DEPTH:
                raise MediaError("the document is nested too deep")
            outer.append(state)
            due = 0
        elif brace == b"}":
            state, due = (outer.pop() if outer else state), 0
        elif word == b"bin":
            position += max(0, int(number or 0))
        elif word == b"u" and number is not None:
            if state.is_seen:
                yield chr(int(number) % 65536)
            due = state.skips
        elif coded_byte is not None:
            if due:
                due -= 1
            elif state.is_seen:
                coded += bytes([int(coded_byte, 16)])
        elif plain is not None:
            if state.is_seen:
                yield (coded + plain[due:]).decode(state.encoding, "replace")  # a character of two bytes may end in a letter
                coded = b""
            due = max(0, due - len(plain))
        elif symbol == b"*":
            state = state._replace(is_seen=False)
        elif symbol is not None and state.is_seen:
            yield {b"~": "\u00a0", b"_": "\u2011", b"-": "", b"\n": "\n\n", b"\r": "\n\n"}.get(symbol, symbol.decode("latin-1"))
        elif word is not None:
            name = word.decode()
            if name == "uc":
                state = state._replace(skips=max(0, int(number or 1)))
            elif name == "f" and number is not None:
                state = state._replace(encoding=fonts.get(number) or default)
            elif name in _UNSEEN:
                state = state._replace(is_seen=False)
            elif name in _WRITTEN and state.is_seen:
                yield _WRITTEN[name]
    if coded:
        yield coded.decode(state.encoding, "replace")


def _joined(pieces: Iterable[str]) -> str:
    """Join pieces; of characters beyond the first 65,536, RTF writes both halves."""
    return "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
