"""E-mails as Markdown: single ones (RFC 5322), and mailboxes of many (mbox, RFC 4155), by the standard library."""

import re
from collections.abc import Iterator
from datetime import UTC
from email import message_from_binary_file, message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import BinaryIO, NamedTuple

from embedrl.errors import MediaError
from embedrl.media.dates import past
from embedrl.media.markup import decode_page, html_text, tidy
from embedrl.media.metadata import merge
from embedrl.media.store import Limits
from embedrl.media.text import LONG_DOCUMENT

_MAX_DEPTH = 10
_HEADERS = ("From", "To", "Cc", "Date")
_BORDER = "\n\n\f\n"
"""Between the mails of a mailbox."""
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.M)
_HEAD = re.compile(r"(?:# (?P<subject>[^\n]*)\n\n)?(?P<headers>(?:(?:From|To|Cc|Date): [^\n]*(?:\n|$))*)")


class Mail(NamedTuple):
    """A mail of a mailbox, in the text of all."""

    start: int
    end: int
    about: str
    """Subject and sender."""
    sent_s: float | None
    """When it was sent, seconds since 1970."""


def read_mail(file: BinaryIO) -> str:
    """Return the text of an e-mail: subject, sender and receivers, date, body, names of attachments; mails inside it as well."""
    return _text(message_from_binary_file(file, policy=policy.default))


def read_mailbox(file: BinaryIO, limits: Limits) -> str:
    """Return the text of all mails of a mailbox, as that of one, with a form feed between two. Raises MediaError.

    Of a mail that cannot be read, subject, sender and receivers are kept, and the reason.
    """
    texts: list[str] = []
    num_chars, most = 0, LONG_DOCUMENT * limits.max_text_chars
    for data in _mails_in(file):
        texts.append(_text_or_head(message_from_bytes(data, policy=policy.default)).replace("\f", " "))
        if (num_chars := num_chars + len(texts[-1])) > most:
            raise MediaError(f"its mails are longer than {LONG_DOCUMENT} times max_text_chars={limits.max_text_chars}; divide it")
    return _BORDER.join(text for text in texts if text)


def mails_of(text: str) -> Iterator[Mail]:
    """Yield the mails in the text of a mailbox."""
    start = 0
    for part in text.split(_BORDER):
        head = _HEAD.match(part)
        subject, headers = (head["subject"] or "", head["headers"]) if head else ("", "")
        values = dict(line.split(": ", 1) for line in headers.splitlines())
        about = merge([{"about": [subject, values.get("From")]}]).about
        try:
            sent_s = sent_seconds(values.get("Date", ""))
        except ValueError:
            sent_s = None
        yield Mail(start, start + len(part), about, sent_s)
        start += len(part) + len(_BORDER)


def sent_seconds(written: str) -> float | None:
    """Return seconds since 1970 of a mail's date; None for none. Raises ValueError for what is no date."""
    if not written:
        return None
    try:
        sent = parsedate_to_datetime(written)
    except OverflowError as error:
        raise ValueError(written) from error
    return past((sent if sent.tzinfo else sent.replace(tzinfo=UTC)).timestamp())  # -0000: of no zone, in UTC


def _mails_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield each mail of a mailbox: behind a line `From …` that follows an empty line and goes before a header."""
    lines: list[bytes] = []
    postmark, before = b"", b"\n"
    for line in file:
        if postmark:
            if _FIELD.match(line):
                yield from _joined(lines)
                lines, postmark = [], b""
            else:
                lines.append(postmark)
                postmark = b""
        if line.startswith(b"From ") and not before.strip():
            postmark = line
        else:
            lines.append(line)
        before = line
    yield from _joined([*lines, postmark])


def _joined(lines: list[bytes]) -> Iterator[bytes]:
    if data := b"".join(lines).strip(b"\r\n"):
        yield _QUOTED_FROM.sub(rb"\1", data) + b"\n"


def _text(message: object) -> str:
    assert isinstance(message, EmailMessage)
    return tidy("\n\n".join(_blocks(message, 1)))


def _text_or_head(message: EmailMessage) -> str:
    # Boundary: the parser of mails trips over what it does not expect (IndexError, AttributeError, …), and the other mails are fine.
    try:
        return _text(message)
    except MemoryError:
        raise
    except Exception as error:
        reason = error if isinstance(error, MediaError) else f"damaged ({type(error).__name__})"
        return tidy("\n\n".join([*_head(message, 1), f"(The text of this mail is not read: {reason})"]))


def _head(message: EmailMessage, depth: int) -> Iterator[str]:
    if subject := header_of(message, "Subject"):
        yield f"{'#' * min(depth, 6)} {subject}"
    yield "\n".join(f"{name}: {value}" for name in _HEADERS if (value := header_of(message, name)))


def _blocks(message: EmailMessage, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise MediaError(f"holds mails inside mails, more than {_MAX_DEPTH} deep")
    yield from _head(message, depth)
    bodies = [part for part in (message.get_body(("plain",)), message.get_body(("html",))) if part is not None]
    yield next((text for part in bodies if (text := _part_text(part)).strip()), "")
    attached = [part for part in message.iter_attachments() if isinstance(part, EmailMessage)] if message.is_multipart() else []
    names = [name for part in attached if (name := part.get_filename())]
    yield f"Attachments: {', '.join(names)}" if names else ""
    inner = (part.get_payload() for part in attached if part.get_content_type() == "message/rfc822")
    for mail in chain.from_iterable(payload for payload in inner if isinstance(payload, list)):
        if isinstance(mail, EmailMessage):
            yield from _blocks(mail, depth + 1)


def header_of(message: EmailMessage, name: str) -> str:
    """Return a header of a mail on one line, "" for none."""
    # Boundary: the parser of headers trips over what it does not expect (IndexError, AttributeError, …), and the others are fine.
    try:
        return " ".join(str(message.get(name) or "").split())
    except Exception:
        return ""


def _part_text(part: MIMEPart) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes) or not data.strip():
        return ""
    charset = part.get_content_charset()
    try:
        text = data.decode(charset or "utf-8")
    except (LookupError, ValueError):  # no charset, or another one's
        text = decode_page(data)
    return html_text(text) if part.get_content_subtype() == "html" else text
