"""HTTP client of OpenAI-compatible model servers (vLLM, SGLang, llama.cpp, Ollama, `embedrl serve`, ...): requests, tries, time limits.

Requests fail one by one: what could not be sent, was refused or came back in another shape is a `ServerFailure` in its place,
and the others keep their answers. Only the transport is tried again, never a question that was answered.
"""

import asyncio
import email.utils
import json
import math
import os
import random
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import httpx

from embedrl.errors import ConfigError, ModelError
from embedrl.models.server_answers import (
    API_KEY,
    Models,
    ServerFailure,
    ServerFailureReason,
    api_key,
    error_inside,
    read,
    read_bounded,
    short,
)
from embedrl.models.server_name import NOT_OF_CLIENT, is_this_machine, read_server_name

ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/audio/transcriptions")
"""A URL that ends so says that what is before it is the server's root."""

_JSON = "application/json"
_CONNECT_S = 10.0
_MAX_PORT = 65_535
_VERSION = re.compile(r"/v\d+\w*(?:/openai)?$")
_PROXIES, _CERTIFICATES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"), ("SSL_CERT_FILE", "SSL_CERT_DIR")
_TRIES_AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 that are retried."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSES_ALL = _REDIRECTS | {401, 402, 403, 404, 405, 407, 501, 505}
"""Statuses about the key, the address or the model, not the item."""
_ABOUT_INPUT = re.compile(
    r"too (?:large|long|big)\b|exceeds? the (?:\w+ )?context|context (?:length|size|window) exceeded|input is not supported", re.I
)
"""What llama.cpp and Ollama say, with status 500, of an input that they will never take."""
_NO_CREDIT = re.compile(r"insufficient_quota|billing_hard_limit_reached|credit balance is too low", re.I)
"""What OpenAI and others say, with status 429 or 400, where the account and not the rate is at its limit."""
_jitter = random.Random()  # not the global one, which runs seed

T = TypeVar("T")


class ModelServer:
    """Client of one model on an OpenAI-compatible server, without open connections between calls."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        max_in_flight: int = 16,
        timeout_s: float = 600.0,
        num_retries: int = 5,
        backoff_s: float = 0.5,
        max_wait_s: float = 60.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a URL: with `/v1`, with another version (`/v4`, `/v1beta/openai`), with none (then it is `/v1`), or of one of `ENDPOINTS`.

        A request may take `timeout_s` and is sent at most 1 + `num_retries` times, after waits that double from `backoff_s` up to
        `max_wait_s`; a server that asks for a longer one is given up. `extra` goes into each request: `seed`, `top_k`, ...; None takes
        a setting out of it (`temperature=None`), and `max_completion_tokens` takes the place of `max_tokens`.
        Raises ConfigError for a URL that is not http(s)://host[:port][/path].
        """
        self.root, self.model = _root(url), model
        self.url = self.root.removesuffix("/v1").rstrip("/")
        if max_in_flight < 1 or num_retries < 0:
            raise ConfigError(f"max_in_flight={max_in_flight}, num_retries={num_retries}: give at least 1 and 0")
        if not (timeout_s > 0 and backoff_s >= 0 and max_wait_s >= 0):
            raise ConfigError(f"timeout_s={timeout_s}, backoff_s={backoff_s}, max_wait_s={max_wait_s}: give seconds, above 0 for timeout_s")
        self.max_in_flight, self.timeout_s, self.num_retries = max_in_flight, timeout_s, num_retries
        self.backoff_s, self.max_wait_s, self.extra = backoff_s, max_wait_s, dict(extra or {})

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Make a client of `http://host:8000/v1#model?timeout_s=60`; without a model, of the one that the server has.

        Raises ConfigError if there are several to choose from, ModelError if the server does not tell, or if the environment names a
        proxy or certificates that cannot be used.
        """
        name = read_server_name(url)
        client: dict[str, Any] = {"extra": name.extra, **name.client, **options}
        for key in NOT_OF_CLIENT:
            client.pop(key, None)
        server = cls(name.url, name.model, **client)
        server._client()
        if not name.model:
            names = server.models()
            if len(names) != 1:
                raise ConfigError(f"{url!r}: name one of the server's models behind a '#': {', '.join(names[:20]) or 'it has none'}")
            server.model = names[0]
        return server

    def models(self) -> list[str]:
        """Return the names of the server's models. Raises ModelError."""
        return [model.id for model in self.listed().data]

    def listed(self) -> Models:
        """Return what the server says of its models. Raises ModelError if it does not tell."""
        answer = self.fetch("/models")
        listed = answer if isinstance(answer, ServerFailure) else read(answer, Models)
        if isinstance(listed, ServerFailure):
            raise ModelError(f"{self.url} does not list its models ({listed.reason}: {listed.text})")
        return listed

    def fetch(self, path: str, body: Mapping[str, Any] | bytes | None = None, *, media_type: str = _JSON) -> bytes | ServerFailure:
        """Return the content of an answer, to a POST if there is a body, tried and bounded as that of a question is. Blocks."""
        content = body or b"" if isinstance(body, bytes | None) else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")

        async def ask() -> bytes | ServerFailure:
            async with self._client(media_type) as client:
                return await self._request(client, asyncio.Semaphore(1), "GET" if body is None else "POST", path, lambda: content)

        return _run(ask())

    def post_each(self, path: str, bodies: Sequence[Callable[[], bytes]]) -> list[bytes | ServerFailure]:
        """POST bodies, several at a time, each made when its turn comes; return the contents of the answers, in order.

        Blocks, and may be called where an event loop is running. What a body raises ends the call.
        """
        return _run(self._post_each(path, bodies))

    async def _post_each(self, path: str, bodies: Sequence[Callable[[], bytes]]) -> list[bytes | ServerFailure]:
        slots = asyncio.Semaphore(self.max_in_flight)
        async with self._client() as client:
            tasks = [asyncio.create_task(self._request(client, slots, "POST", path, body)) for body in bodies]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _client(self, media_type: str = _JSON) -> httpx.AsyncClient:
        """Make a client with the proxies and certificates of the environment; this machine is reached directly."""
        headers = {"Content-Type": media_type, "Accept-Encoding": "gzip"}
        if key := api_key():
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx.Limits(max_connections=self.max_in_flight, max_keepalive_connections=self.max_in_flight)
        timeout = httpx.Timeout(None, connect=_CONNECT_S)  # a whole request has timeout_s, however it is spread
        parsed = httpx.URL(self.root)
        direct = is_this_machine(parsed.host)
        try:
            verify = httpx.create_ssl_context() if parsed.scheme == "https" else False
            return httpx.AsyncClient(
                base_url=self.root, headers=headers, limits=limits, timeout=timeout, verify=verify, trust_env=not direct
            )
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:  # OSError: of certificates, too
            names = (*_PROXIES, *map(str.lower, _PROXIES), *_CERTIFICATES)
            raise ModelError(
                f"{self.url}: cannot be asked with {', '.join(name for name in names if os.environ.get(name)) or 'the certificates'} "
                f"as the environment has it ({type(error).__name__}: {short(str(error))}); mend or unset it (a proxy is http://host:port)"
            ) from error

    async def _request(
        self,
        client: httpx.AsyncClient,
        slots: asyncio.Semaphore,
        method: str,
        path: str,
        body: Callable[[], bytes] = bytes,
    ) -> bytes | ServerFailure:
        """Return the content of an answer 2xx. A request that waits for its next try leaves its slot to others."""
        for attempt in range(self.num_retries + 1):
            async with slots:
                outcome = await self._try(client, method, path, await asyncio.to_thread(body))
            if not isinstance(outcome, _Again):
                return outcome
            wait_s = max(outcome.after_s, min(self.backoff_s * 2**attempt, self.max_wait_s) * _jitter.uniform(0.5, 1.0))
            if wait_s > self.max_wait_s:
                return ServerFailure(ServerFailureReason.TRANSPORT, f"{outcome.text} (asks to wait {wait_s:.0f} s)")
            if attempt < self.num_retries:
                await asyncio.sleep(wait_s)
        return ServerFailure(ServerFailureReason.TRANSPORT, f"{outcome.text} (tried {self.num_retries + 1} times)")

    async def _try(self, client: httpx.AsyncClient, method: str, path: str, content: bytes) -> "bytes | ServerFailure | _Again":
        try:
            async with asyncio.timeout(self.timeout_s), client.stream(method, path, content=content) as response:
                body = await read_bounded(response.aiter_raw(), response.headers.get("Content-Encoding", ""))
        except TimeoutError:
            return _Again(f"no answer within timeout_s={self.timeout_s:g}")
        except httpx.TransportError as error:
            return _Again(short(f"{type(error).__name__}: {error}".rstrip(": ")))
        status = response.status_code
        if isinstance(body, ServerFailure):
            if response.is_success:
                return body
            body = body.text.encode()
        text = f"{status}: {body.decode('utf-8', 'replace')}"
        if status in _REDIRECTS:
            text = f"{status}: redirects to {response.headers.get('Location', 'nowhere')!r}, and no redirect is followed; give that address"
        if response.is_success:
            error = error_inside(body)
            if error is None:
                return body
            status, text = error[0] or 400, f"{error[0] or 'error'}: {error[1]}"
        if _NO_CREDIT.search(text):
            return ServerFailure(
                ServerFailureReason.REFUSED, f"{short(text)} (the account has no credit left: top it up, or give another key)"
            )
        if status in _TRIES_AGAIN or (status >= 500 and status not in _REFUSES_ALL and not _ABOUT_INPUT.search(text)):
            return _Again(short(text), _asked_wait_s(response.headers.get("Retry-After", "")))
        if "max_completion_tokens" in text and "max_completion_tokens" not in self.extra:
            remedy = "give --server-option max_completion_tokens=…, which takes the place of max_tokens"
            return ServerFailure(ServerFailureReason.REFUSED, f"{short(text)} ({remedy})")
        return ServerFailure(ServerFailureReason.REFUSED, short(text), about_item=status not in _REFUSES_ALL)


@dataclass(frozen=True)
class _Again:
    text: str
    after_s: float = 0.0


def write_form(fields: Mapping[str, str | list[str]], name: str, content: bytes, media_type: str) -> tuple[bytes, str]:
    """Return a form with a file (multipart/form-data), and its media type with the boundary."""
    form = httpx.Request("POST", "http://localhost", data=fields, files={"file": (name, content, media_type)})
    return form.read(), form.headers["Content-Type"]


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread of its own if this one has a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work)).result()


def _root(url: str) -> str:
    """Return the URL that paths such as `/chat/completions` stand behind: with its version, which is `/v1` where none is named."""
    try:
        parsed = httpx.URL(url.strip())
        host, port = parsed.host, parsed.port or 0
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: of a host that no name server knows how to write
        raise ConfigError(f"{url!r}: is not a URL ({error})") from error
    if port > _MAX_PORT:
        raise ConfigError(f"{url!r}: port {port} is above {_MAX_PORT}, the last there is")
    if parsed.userinfo:
        raise ConfigError(f"the URL of {host!r} holds a password: put the key into the environment variable {API_KEY}")
    if parsed.scheme not in ("http", "https") or not host or parsed.query or parsed.fragment:
        raise ConfigError(f"{url!r}: give a server as http://host:port/v1")
    root = str(parsed).rstrip("/")
    for endpoint in ENDPOINTS:
        if root.endswith(endpoint):
            return root.removesuffix(endpoint)
    return root if _VERSION.search(parsed.path.rstrip("/")) else f"{root}/v1"


def _asked_wait_s(value: str) -> float:
    """Return the seconds that a Retry-After header asks for, which gives a number or a date; 0 if it cannot be read."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return 0.0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
