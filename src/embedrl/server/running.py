"""Discovery of a running server through its index folder, so that searches need not load models.

The announcement is locked while the server lives, so a stale one of a killed server is recognised, and
it is stored in the index, so a server of another index is never used.
"""

import fcntl
import http.client
import json
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, ValidationError

from embedrl.errors import StoreError, unreadable, unwritable
from embedrl.index.model_names import ModelNames

ANNOUNCEMENT = "serving.json"
CONNECT_S, ANSWER_S = 2.0, 600.0
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}
"""Where a server that listens on every address is reached from its own machine."""


class Announcement(BaseModel):
    """Address and models of a server."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    host: str
    """An address that reaches it from its own machine."""
    port: int
    machine: str
    """Its name: an index folder may be seen by several."""
    models: ModelNames

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"


class Announced:
    """The announcement of this process, valid until `close` or the end of the process."""

    def __init__(self, directory: Path, host: str, port: int, models: ModelNames) -> None:
        """Write the announcement. Raises StoreError if another server of this index is announced, or the file cannot be written."""
        path = directory / ANNOUNCEMENT
        held = Announcement(host=_LOOPBACK.get(host, host), port=port, machine=socket.gethostname(), models=models)
        try:
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, held.model_dump_json().encode(), 0)
        except OSError as error:
            self.close()
            raise StoreError(f"{str(path)!r}: another server of this index is announced there") from error

    def close(self) -> None:
        """Withdraw the announcement. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def find_server(directory: Path) -> Announcement | None:
    """Find the live server of an index on this machine; None if there is none.

    Only announcements of the same user with an address of this machine count, so queries and tokens go nowhere else.
    """
    try:
        fd = os.open(directory / ANNOUNCEMENT, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held: the server lives
        try:
            announcement = Announcement.model_validate_json(os.pread(fd, 64 * 1024, 0))
        except (ValidationError, OSError):
            return None
        is_ours = os.fstat(fd).st_uid == os.geteuid() and announcement.machine == socket.gethostname()
        return announcement if is_ours and _is_here(announcement.host) else None
    else:
        return None
    finally:
        os.close(fd)


def _is_here(host: str) -> bool:
    """Return whether this is an address of this machine."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as tried:
            tried.bind((host, 0))
    except OSError:
        return False
    return True


def post_form(
    server: Announcement, path: str, fields: Sequence[tuple[str, str]], file: Path | None = None, *, token: str | None = None
) -> dict[str, Any]:
    """POST a form and return the response. Raises StoreError with the reason if the server refuses or does not answer."""
    headers, body = _form(fields, file)
    return _post(server, path, headers, body, token)


def post_json(server: Announcement, path: str, value: Mapping[str, Any], *, token: str | None = None) -> dict[str, Any]:
    """POST JSON and return the response. Raises StoreError as `post_form` does."""
    return _post(server, path, {"Content-Type": "application/json"}, json.dumps(value).encode(), token)


def _post(server: Announcement, path: str, headers: dict[str, str], body: bytes, token: str | None) -> dict[str, Any]:
    if token:
        headers = {**headers, "Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(server.host, server.port, timeout=CONNECT_S)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_S)
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StoreError(f"the server at {server.url} does not answer ({type(error).__name__}: {error})") from error
    finally:
        connection.close()
    if response.status != 200:
        raise StoreError(f"the server at {server.url} refuses ({response.status}: {_reason(answer)})")
    return answer


def _reason(answer: object) -> str:
    error = answer.get("error", answer) if isinstance(answer, Mapping) else answer
    return str(error.get("message", error) if isinstance(error, Mapping) else error)[:300]


def _form(fields: Sequence[tuple[str, str]], file: Path | None) -> tuple[dict[str, str], bytes]:
    """Encode a form as urlencoded, or as multipart with a file. Raises StoreError for an unreadable file."""
    if file is None:
        return {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
    boundary = secrets.token_hex(16)
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'.encode()
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, b"".join(
        [*parts, head, content, f"\r\n--{boundary}--\r\n".encode()]
    )
