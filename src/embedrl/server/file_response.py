"""File responses from a descriptor, with Range, HEAD and conditional requests (304)."""

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from embedrl.server.allowed_folders import OpenFile

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)


def is_known(headers: Headers, etag: str, modified_s: float | None = None) -> bool:
    """Evaluate If-None-Match, else If-Modified-Since (RFC 9110, §13): whether the client's copy is current."""
    if (tags := headers.get("if-none-match")) is not None:
        return "*" in tags or etag in {tag.strip().removeprefix("W/") for tag in tags.split(",")}
    if modified_s is None or (since := headers.get("if-modified-since")) is None:
        return False
    try:
        return int(modified_s) <= parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):
        return False


def tagged(request: Request, content: bytes, etag: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """Return a response with an ETag, or 304."""
    headers = {**headers, "ETag": etag}
    if is_known(request.headers, etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


class FileResponse(Response):
    """Response that sends an open file and closes it."""

    def __init__(self, file: OpenFile, media_type: str, headers: Mapping[str, str]) -> None:
        self.file, self.status_code, self.media_type, self.background = file, 200, media_type, None
        self.body = b""
        self.size = file.status.st_size
        self.etag = f'"{self.size:x}-{file.status.st_mtime_ns:x}"'
        self._more = {**headers, "ETag": self.etag, "Accept-Ranges": "bytes"}
        self._more["Last-Modified"] = formatdate(file.status.st_mtime, usegmt=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            status, start, end = self._part(Headers(scope=scope))
            headers = dict(self._more)
            if status == 206:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{self.size}"
            elif status == 416:
                headers["Content-Range"] = f"bytes */{self.size}"
            body = b"there is no such part" if status == 416 else b""
            if status != 304:
                headers["Content-Length"] = str(len(body) or end - start)
                headers["Content-Type"] = "text/plain; charset=utf-8" if status == 416 else str(self.media_type)
            raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": status, "headers": raw})
            if status in (200, 206) and not scope.get("embedrl.head"):
                await self._send(start, end, send)
            else:
                await send({"type": "http.response.body", "body": body})
        finally:
            self.file.close()

    async def _send(self, start: int, end: int, send: Send) -> None:
        while start < end:
            data = await run_in_threadpool(self.file.read, min(CHUNK_BYTES, end - start), start)
            if not data:
                raise OSError("the file became shorter while it was sent")  # the connection is cut: the client must notice
            start += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": start < end})
        if end == 0:
            await send({"type": "http.response.body", "body": b""})

    def _part(self, headers: Headers) -> tuple[int, int, int]:
        """Return status and byte range. Multiple, malformed and non-byte ranges are ignored."""
        if is_known(headers, self.etag, self.file.status.st_mtime):
            return 304, 0, 0
        match = _RANGE.fullmatch(headers.get("range", ""))
        condition = headers.get("if-range")
        if (
            match is None
            or not any(match.groups())
            or (condition is not None and condition not in (self.etag, self._more["Last-Modified"]))
        ):
            return 200, 0, self.size
        first, last = match.groups()
        if not first:
            length = min(int(last[:18]), self.size)
            return (206, self.size - length, self.size) if length else (416, 0, 0)
        start, end = int(first[:18]), min(int(last[:18] or self.size), self.size - 1) + 1
        if last and int(last[:18]) < start:
            return 200, 0, self.size
        return (206, start, end) if start < self.size else (416, 0, 0)
