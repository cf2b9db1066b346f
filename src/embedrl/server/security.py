"""Security middleware: Host, origin, token, size and time limits; response headers."""

import asyncio
import hashlib
import hmac
import json
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedrl import log
from embedrl.server.budget import PixelBudget, holding
from embedrl.server.metrics import Metrics
from embedrl.server.problem import Problem, internal_problem
from embedrl.server.settings import Settings

COOKIE = "embedrl_token"
OPEN_PATHS = ("/", "/health", "/ready", "/api/login")
WRONG_TOKEN_S = 0.1
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class WrongTokens:
    """Rate limiter of wrong tokens: answered one at a time, with a delay."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for the caller's turn."""
        async with self._turn:
            await asyncio.sleep(WRONG_TOKEN_S)


class SecurityMiddleware:
    """ASGI middleware that authorises and limits requests, and turns every failure into a `Problem`."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, pixels: PixelBudget, wrong_tokens: WrongTokens) -> None:
        self.app, self.settings, self.metrics, self.pixels, self.wrong_tokens = app, settings, metrics, pixels, wrong_tokens
        self.num_held_bytes = 0
        """Bytes of requests that are being received or answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # as GET, without the body
            scope = {**scope, "method": "GET", "embedrl.head": True}
        exchange = _Exchange(self, scope["path"], receive, send, is_head=method == "HEAD")
        started = time.perf_counter()
        with self.metrics.in_flight(), holding(self.pixels):
            try:
                self._check(scope)
                await self.app(scope, exchange.receive, exchange.send)
                if exchange.problem:
                    await exchange.refuse(exchange.problem)
            except Problem as problem:
                if problem.code == "wrong_token" and _gives_token(Headers(scope=scope)):
                    await self.wrong_tokens.wait()
                await exchange.refuse(problem)
            except ClientDisconnect:
                pass  # nobody is there to be answered
            except Exception as error:  # boundary: nothing of it may reach the client
                if exchange.problem is None:
                    log.error(f"{method} {scope['path']}: {type(error).__name__}: {error}")
                await exchange.refuse(internal_problem())
            finally:
                self.num_held_bytes -= exchange.num_bytes
        route = getattr(scope.get("route"), "path", None) or "other"
        self.metrics.count(method, route, exchange.status, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        nameless = "host" not in headers and scope["http_version"] == "1.0"  # which no page of another site can send
        if not nameless and not self.settings.admits(host):
            raise Problem(
                421, "the Host header names another server; start this one with --allow-host NAME to answer to that name", "wrong_host"
            )
        if scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            if (origin is not None and _host_of(origin) != host) or headers.get("sec-fetch-site", "same-origin") == "cross-site":
                raise Problem(403, "this request comes from the page of another site", "wrong_origin")
        path = scope["path"]
        if self.settings.token is not None and path not in OPEN_PATHS and not path.startswith("/page/") and not self._knows_token(headers):
            raise Problem(401, "give the server's token: Authorization: Bearer TOKEN", "wrong_token")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.settings.max_upload_bytes:
            raise _too_large(self.settings)

    def _knows_token(self, headers: Headers) -> bool:
        assert self.settings.token is not None
        kind, _, presented = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(presented.strip().encode(), self.settings.token.encode()):
            return True
        return hmac.compare_digest(_cookie(headers).encode(), cookie_value(self.settings.token).encode())


class _Exchange:
    """One request and its response: enforces limits on the way in, adds headers on the way out."""

    def __init__(self, guard: SecurityMiddleware, path: str, receive: Receive, send: Send, *, is_head: bool) -> None:
        self._guard, self._path, self._receive, self._send, self._settings = guard, path, receive, send, guard.settings
        self._is_head = is_head
        self._deadline = time.monotonic() + guard.settings.body_timeout_s
        self.num_bytes = 0
        self._whole = False
        self._started = False
        self.status = 0
        self.problem: Problem | None = None
        """Why the body was not read to its end; it decides the answer, whatever the reader of the body makes of it."""

    async def receive(self) -> Message:
        """Pass on the next message while the body keeps within its limits. Raises Problem."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            limit = f"{self._settings.body_timeout_s:g} s"
            self.problem = Problem(408, f"the request was not sent within {limit}", "slow_upload")
            raise self.problem from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.num_bytes += size
            self._guard.num_held_bytes += size
            self._whole = not message.get("more_body", False)
            if self.num_bytes > self._settings.max_upload_bytes:
                self.problem = _too_large(self._settings)
            elif self._guard.num_held_bytes > self._settings.max_held_bytes:
                self.problem = Problem(429, "too many large requests at once: try again", "busy", retry_after_s=2)
            if self.problem is not None:
                raise self.problem
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if self.problem is not None:
            return
        if message["type"] == "http.response.start":
            self._started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        elif self._is_head:
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Send a Problem, unless the response has started."""
        problem, self.problem = self.problem or problem, None
        if self._started:
            return
        body = json.dumps(problem.body(self._path)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **problem.headers}
        if not self._whole:
            headers["Connection"] = "close"  # the rest of the request is not wanted
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _gives_token(headers: Headers) -> bool:
    return "authorization" in headers or bool(_cookie(headers))


def cookie_value(token: str) -> str:
    """Return the cookie's value, a hash of the token."""
    return hmac.new(token.encode(), b"embedrl cookie", hashlib.sha256).hexdigest()


def _cookie(headers: Headers) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _too_large(settings: Settings) -> Problem:
    return Problem(413, f"the request has more than {settings.max_upload_bytes} bytes", "too_large")
