"""A Reasoner and Judge behind any OpenAI-compatible server (vLLM, SGLang, llama.cpp, ...).

Requests fail one by one: what could not be sent, was refused or came back in another shape is a `ChatFailure` in its place,
and the others keep their answers. Only the transport is tried again, never a question that was answered.
"""

import asyncio
import email.utils
import hashlib
import json
import math
import os
import random
import re
import string
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from embedrl.data.protocols import Question, Refusal
from embedrl.data.reasoning import read_answer, require_all
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT, count_words
from embedrl.errors import ConfigError, ModelError
from embedrl.media.resize import PAPER_BUDGET, VisualBudget
from embedrl.reasoner.chat_client import (
    API_KEY,
    LENGTH,
    ChatFailure,
    ChatFailureReason,
    Models,
    Reply,
    api_key,
    error_inside,
    read,
    read_bounded,
    read_reply,
    short,
    write_body,
)
from embedrl.reasoner.prompts import Prompt, match_prompt, pick_prompt, prompt_hash, tcot_prompt
from embedrl.reasoner.served_settings import FROM_SERVER, ServedSettings, check_settings, read_settings
from embedrl.reasoner.server_name import is_this_machine, read_server_name

VERDICT_TOKENS = 8
"""Room for "yes", "no" or a number."""

ENDPOINT = "/chat/completions"
"""A URL that ends so says that what is before it is the server's root."""

_CONNECT_S = 10.0
_VERSION = re.compile(r"/v\d+\w*(?:/openai)?$")
_PROXIES, _CERTIFICATES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"), ("SSL_CERT_FILE", "SSL_CERT_DIR")
_TRIES_AGAIN = frozenset({408, 409, 425, 429})
"""Statuses below 500 that the next try may change."""
_REFUSES_ALL = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405, 407})
"""Statuses that are about the key, the address or the model, and not about what was asked."""
_jitter = random.Random()  # not the global one, which runs seed

T = TypeVar("T")
OnReply = Callable[[int, Reply | ChatFailure], None]


class ChatServer:
    """One model on an OpenAI-compatible server. Nothing stays open between calls."""

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
        """Take a URL: with `/v1`, with another version (`/v4`, `/v1beta/openai`), with none (then it is `/v1`), or of its chat completions.

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
        self.is_ours = False
        """Whether it is known to be `embedrl serve`."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> "ChatServer":
        """Make a client of `http://host:8000/v1#model?timeout_s=60`; without a model, of the one that the server has.

        Raises ConfigError if there are several to choose from, ModelError if the server does not tell, or if the environment names a
        proxy or certificates that cannot be used.
        """
        name = read_server_name(url)
        client: dict[str, Any] = {"extra": name.extra, **name.client, **options}
        for key in ("max_new_tokens", "settings"):
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
        """Return the names of the server's models. Raises ModelError if it does not tell."""
        return [model.id for model in self._listed().data]

    def settings(self) -> ServedSettings:
        """Return how the model is to be asked, as our own server tells. Raises ModelError if it does not."""
        settings = next((model.embedrl for model in self._listed().data if model.id == self.model), None)
        if settings is None:
            raise ModelError(f"{self.url}: does not say how {self.model!r} is asked; give settings=FOLDER, the Reasoner's own")
        self.is_ours = True
        return check_settings(settings, f"{self.url}: the settings of {self.model!r}")

    def _listed(self) -> Models:
        answer = self.fetch("/models")
        listed = answer if isinstance(answer, ChatFailure) else read(answer, Models)
        if isinstance(listed, ChatFailure):
            raise ModelError(f"{self.url} does not list its models ({listed.reason}: {listed.text})")
        return listed

    def fetch(self, path: str, body: Mapping[str, Any] | None = None) -> bytes | ChatFailure:
        """Return the content of an answer, to a POST if there is a body, tried and bounded as that of a question is. Blocks."""
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")

        async def ask() -> bytes | ChatFailure:
            async with self._client() as client:
                return await self._request(client, asyncio.Semaphore(1), "GET" if body is None else "POST", path, lambda: content)

        return _run(ask())

    def complete(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float = 0.0, on_reply: OnReply | None = None
    ) -> list[Reply | ChatFailure]:
        """Answer prompts, in order, several at a time. Blocks, and may be called where an event loop is running.

        `on_reply` gets the index and the outcome of each prompt as it arrives, in the caller's thread unless that one runs an
        event loop. What it raises ends the call.
        """
        ours: dict[str, Any] = {"model": self.model, "max_tokens": max_tokens, "temperature": temperature}
        unwanted = {name for name, value in self.extra.items() if value is None} - {"model"}
        unwanted |= {"max_tokens"} if self.extra.get("max_completion_tokens") is not None else set()
        settings = {"top_p": 1.0} | self.extra | ours
        return _run(self._complete(prompts, {name: value for name, value in settings.items() if name not in unwanted}, on_reply))

    async def _complete(self, prompts: Sequence[Prompt], settings: dict[str, Any], on_reply: OnReply | None) -> list[Reply | ChatFailure]:
        slots = asyncio.Semaphore(self.max_in_flight)

        async def answer(index: int, prompt: Prompt) -> Reply | ChatFailure:
            content = await self._request(client, slots, "POST", ENDPOINT, lambda: write_body(prompt, settings, is_ours=self.is_ours))
            outcome = content if isinstance(content, ChatFailure) else read_reply(content)
            if on_reply:
                on_reply(index, outcome)
            return outcome

        async with self._client() as client:
            tasks = [asyncio.create_task(answer(index, prompt)) for index, prompt in enumerate(prompts)]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _client(self) -> httpx.AsyncClient:
        """Make a client with the proxies and certificates of the environment; this machine is reached directly."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
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
        except (ValueError, ImportError, OSError) as error:  # OSError: of certificates, too
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
    ) -> bytes | ChatFailure:
        """Return the content of an answer 2xx. A request that waits for its next try leaves its slot to others."""
        for attempt in range(self.num_retries + 1):
            async with slots:
                outcome = await self._try(client, method, path, await asyncio.to_thread(body))
            if not isinstance(outcome, _Again):
                return outcome
            wait_s = max(outcome.after_s, min(self.backoff_s * 2**attempt, self.max_wait_s) * _jitter.uniform(0.5, 1.0))
            if wait_s > self.max_wait_s:
                return ChatFailure(ChatFailureReason.TRANSPORT, f"{outcome.text} (asks to wait {wait_s:.0f} s)")
            if attempt < self.num_retries:
                await asyncio.sleep(wait_s)
        return ChatFailure(ChatFailureReason.TRANSPORT, f"{outcome.text} (tried {self.num_retries + 1} times)")

    async def _try(self, client: httpx.AsyncClient, method: str, path: str, content: bytes) -> "bytes | ChatFailure | _Again":
        try:
            async with asyncio.timeout(self.timeout_s), client.stream(method, path, content=content) as response:
                body = await read_bounded(response.aiter_raw(), response.headers.get("Content-Encoding", ""))
        except TimeoutError:
            return _Again(f"no answer within timeout_s={self.timeout_s:g}")
        except httpx.TransportError as error:
            return _Again(short(f"{type(error).__name__}: {error}".rstrip(": ")))
        if isinstance(body, ChatFailure):
            return body
        status = response.status_code
        text = f"{status}: {body.decode('utf-8', 'replace')}"
        if response.is_success:
            error = error_inside(body)
            if error is None:
                return body
            status, text = error[0] or 400, f"{error[0] or 'error'}: {error[1]}"
        if status in _TRIES_AGAIN or status >= 500:
            return _Again(short(text), _asked_wait_s(response.headers.get("Retry-After", "")))
        if "max_completion_tokens" in text and "max_completion_tokens" not in self.extra:
            remedy = "give --server-option max_completion_tokens=…, which takes the place of max_tokens"
            return ChatFailure(ChatFailureReason.REFUSED, f"{short(text)} ({remedy})")
        return ChatFailure(ChatFailureReason.REFUSED, short(text), about_item=status not in _REFUSES_ALL)


@dataclass(frozen=True)
class _Again:
    text: str
    after_s: float = 0.0


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
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url!r}: is not a URL ({error})") from error
    if parsed.userinfo:
        raise ConfigError(f"the URL of {parsed.host!r} holds a password: put the key into the environment variable {API_KEY}")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ConfigError(f"{url!r}: give a server as http://host:port/v1")
    root = str(parsed).rstrip("/")
    if root.endswith(ENDPOINT):
        return root.removesuffix(ENDPOINT)
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


class RemoteReasoner:
    """A model on a server that writes T-CoTs. Fulfils `Reasons` and `Judges`."""

    def __init__(
        self,
        server: ChatServer,
        *,
        prompts: str = "full",
        budget: VisualBudget = PAPER_BUDGET,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        factor: int = 32,
    ) -> None:
        """Pictures are scaled to multiples of `factor`, the pixels a side of one visual token, which a server does not tell."""
        if temperature < 0:
            raise ConfigError(f"temperature={temperature}: give 0 (greedy) or more")
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={max_new_tokens}: give at least 1")
        self.server, self.prompts, self.budget, self.max_new_tokens = server, prompts, budget, max_new_tokens
        self.temperature, self.factor = temperature, factor
        limits = json.dumps([budget.model_dump(), max_new_tokens, factor, server.extra], sort_keys=True)
        limits_hash = hashlib.sha256(limits.encode()).hexdigest()[:8]
        self.fingerprint = f"{server.model}-{prompt_hash(prompts)}-t{temperature:g}-{limits_hash}"
        self.last_failure = ""
        """Why a verdict failed last, in the server's words."""
        self.num_written = 0
        """Tokens of all answers so far, as the server counts them; words, if it does not."""

    @classmethod
    def from_url(cls, url: str, *, temperature: float = 0.0, **options: Any) -> "RemoteReasoner":
        """Make one from `http://host:8000/v1#model?max_new_tokens=1024`, with options of `ChatServer`. Raises as `ChatServer.from_url`.

        A Reasoner that was trained here and is served by another engine is asked as its folder says (`settings=FOLDER`), one behind our
        own server as that tells (`settings=server`); without, as a general model.
        """
        asked = read_server_name(url).client
        server, source = ChatServer.from_url(url, **options), asked.get("settings")
        settings = ServedSettings() if source is None else server.settings() if source == FROM_SERVER else read_settings(Path(source))
        return cls(
            server,
            prompts=settings.prompts,
            budget=settings.budget,
            max_new_tokens=asked.get("max_new_tokens", settings.max_new_tokens),
            temperature=temperature,
            factor=settings.factor,
        )

    @property
    def num_frames(self) -> int:
        """How many frames of a video it is shown, at most."""
        return self.budget.num_frames

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order; an empty answer is a ParseFailure, and one that the limit of tokens cut is TRUNCATED.

        Raises MediaError for a file that cannot be read, Unanswered if any item got no answer.
        """
        prompts = [tcot_prompt(item, self.prompts, self.budget, self.factor) for item in items]
        outcomes = self.server.complete(prompts, max_tokens=self.max_new_tokens, temperature=self.temperature)
        replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
        self.num_written += sum(reply.num_completion_tokens or count_words(reply.text) for reply in replies)
        return require_all([_read(outcome, self.num_frames) for outcome in outcomes], f"{self.server.model!r} at {self.server.url}")

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        """Say of each (query, target) whether the two could belong to one pair; None if the answer is not yes or no alone."""
        verdicts = self._judge([match_prompt(query, target, self.prompts) for query, target in pairs])
        return [{"yes": True, "no": False}.get(verdict.strip(string.punctuation + string.whitespace).lower()) for verdict in verdicts]

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        """Name the 0-based index of the candidate that fits each anchor best; None if the answer is not its number alone."""
        for _, candidates in questions:
            if len(candidates) < 2:
                raise ConfigError(f"{len(candidates)} candidates: this judge picks one of 2 or more")
        verdicts = self._judge([pick_prompt(anchor, candidates, self.prompts) for anchor, candidates in questions])
        picked = [_picked(verdict, len(candidates)) for verdict, (_, candidates) in zip(verdicts, questions, strict=True)]
        unread = [verdict for verdict, place in zip(verdicts, picked, strict=True) if verdict and place is None]
        if unread:
            self.last_failure = f"the verdict is no number of a candidate: {short(unread[-1])!r}"
        return picked

    def _judge(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return greedy short answers; what failed or was cut is empty. A model that thinks first is asked again, with room for it."""
        outcomes = self.server.complete(prompts, max_tokens=VERDICT_TOKENS)
        cut = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, ChatFailure) and outcome.is_cut]
        again = self.server.complete([prompts[row] for row in cut], max_tokens=self.max_new_tokens)
        verdicts = dict(enumerate(outcomes)) | dict(zip(cut, again, strict=True))
        failures = [verdict for verdict in verdicts.values() if isinstance(verdict, ChatFailure)]
        if failures:
            self.last_failure = f"{self.server.model!r} at {self.server.url}: {failures[-1].reason}: {failures[-1].text}"
        return [verdict.text if isinstance(verdict, Reply) and verdict.finish_reason != LENGTH else "" for verdict in verdicts.values()]


def _read(outcome: Reply | ChatFailure, num_frames: int) -> TCoT | ParseFailure | Refusal:
    if isinstance(outcome, Reply):
        return read_answer(outcome.text, is_cut=outcome.finish_reason == LENGTH, num_frames=num_frames)
    if outcome.reason == ChatFailureReason.EMPTY:
        return read_answer("", is_cut=outcome.is_cut, num_frames=num_frames)
    return Refusal(outcome.reason.value, outcome.text, about_item=outcome.about_item)


def _picked(verdict: str, num_candidates: int) -> int | None:
    number = re.fullmatch(r"[\[(]?([1-9][0-9]{0,3})[\])]?\.?", verdict.strip())
    return int(number[1]) - 1 if number and int(number[1]) <= num_candidates else None
