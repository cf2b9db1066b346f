"""A Reasoner and Judge behind any OpenAI-compatible server (vLLM, SGLang, llama.cpp, ...)."""

import hashlib
import json
import math
import re
import string
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from embedrl import log
from embedrl.data.protocols import Question, Refusal
from embedrl.data.reasoning import read_answer, read_bare_answer, require_all
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT, count_words
from embedrl.errors import ConfigError, ModelError
from embedrl.media.resize import PAPER_BUDGET, VisualBudget
from embedrl.models.model_server import ModelServer
from embedrl.models.server_answers import ServerFailure, ServerFailureReason, short
from embedrl.models.server_name import read_server_name
from embedrl.reasoner.chat_client import LENGTH, Reply, read_reply, write_body
from embedrl.reasoner.prompts import CutNotice, Prompt, answer_only, asks_for_answer, match_prompt, pick_prompt, prompt_hash, tcot_prompt
from embedrl.reasoner.served_settings import FROM_SERVER, ServedSettings, check_settings, read_settings

VERDICT_TOKENS = 8
"""Room for "yes", "no" or a number."""

ENDPOINT = "/chat/completions"


class ChatServer(ModelServer):
    """A chat model on an OpenAI-compatible server."""

    is_ours = False
    """Whether it is known to be `embedrl serve`."""

    def settings(self) -> ServedSettings:
        """Return the model's settings as reported by `embedrl serve`. Raises ModelError for other servers."""
        settings = next((model.embedrl for model in self.listed().data if model.id == self.model), None)
        if settings is None:
            raise ModelError(f"{self.url}: does not say how {self.model!r} is asked; give settings=FOLDER, the Reasoner's own")
        self.is_ours = True
        return check_settings(settings, f"{self.url}: the settings of {self.model!r}")

    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float = 0.0) -> list[Reply | ServerFailure]:
        """Answer prompts, in order, several at a time. Blocks, and may be called where an event loop is running."""
        ours: dict[str, Any] = {"model": self.model, "max_tokens": max_tokens, "temperature": temperature}
        unwanted = {name for name, value in self.extra.items() if value is None} - {"model"}
        unwanted |= {"max_tokens"} if self.extra.get("max_completion_tokens") is not None else set()
        settings = {name: value for name, value in ({"top_p": 1.0} | self.extra | ours).items() if name not in unwanted}
        bodies = [partial(write_body, prompt, settings, is_ours=self.is_ours) for prompt in prompts]
        contents = self.post_each(ENDPOINT, bodies)
        return [content if isinstance(content, ServerFailure) else read_reply(content) for content in contents]


class RemoteReasoner:
    """A Reasoner on a server. Implements `Reasons` and `Judges`."""

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
        """Images are scaled to multiples of `factor`, the pixels a side of one visual token, which a server does not tell."""
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"temperature={temperature}: give 0 (greedy) or more")
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={max_new_tokens}: give at least 1")
        self.server, self.prompts, self.budget, self.max_new_tokens = server, prompts, budget, max_new_tokens
        self.temperature, self.factor = temperature, factor
        limits = json.dumps([budget.model_dump(), max_new_tokens, factor, server.extra], sort_keys=True)
        limits_hash = hashlib.sha256(limits.encode()).hexdigest()[:8]
        self.fingerprint = f"{server.model}-{prompt_hash(prompts)}-t{temperature:g}-{limits_hash}"
        self._cut, self._dropped = CutNotice(f"{server.model!r} at {server.url}"), log.Repeated()
        self.last_failure = ""
        """Why a verdict failed last, in the server's words."""
        self.num_written = 0
        """Tokens of all answers so far, as the server counts them; words, if it does not."""

    @classmethod
    def from_url(cls, url: str, *, temperature: float = 0.0, **options: Any) -> "RemoteReasoner":
        """Make one from `http://host:8000/v1#model?max_new_tokens=1024`, with options of `ChatServer`. Raises as `ChatServer.from_url`.

        A Reasoner that was trained here and is served by another engine is asked as its folder says (`settings=FOLDER`), one behind our
        own server as that tells (`settings=server`); without, as a general model. `form=answer` asks for answers alone.
        """
        asked = read_server_name(url).client
        server, source = ChatServer.from_url(url, **options), asked.get("settings")
        settings = ServedSettings() if source is None else server.settings() if source == FROM_SERVER else read_settings(Path(source))
        reasoner = cls(
            server,
            prompts=settings.prompts,
            budget=settings.budget,
            max_new_tokens=asked.get("max_new_tokens", settings.max_new_tokens),
            temperature=temperature,
            factor=settings.factor,
        )
        return reasoner.answering() if asked.get("form") == "answer" else reasoner

    def answering(self) -> "RemoteReasoner":
        """Return the same Reasoner, asked for the answers of T-CoTs alone."""
        return RemoteReasoner(
            self.server,
            prompts=answer_only(self.prompts),
            budget=self.budget,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            factor=self.factor,
        )

    @property
    def num_frames(self) -> int:
        """Maximum number of frames of a video that it is shown."""
        return self.budget.num_frames

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order; an empty answer is a ParseFailure, and one that the limit of tokens cut is TRUNCATED.

        Raises MediaError for a file that cannot be read, Unanswered if any item got no answer.
        """
        prompts = [tcot_prompt(item, self.prompts, self.budget, self.factor) for item in items]
        self._cut.check(prompts, self.budget)
        outcomes = self.server.complete(prompts, max_tokens=self.max_new_tokens, temperature=self.temperature)
        replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
        self.num_written += sum(reply.num_completion_tokens or count_words(reply.text) for reply in replies)
        return require_all([self._read(outcome) for outcome in outcomes], f"{self.server.model!r} at {self.server.url}")

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        """Return for each (query, target) whether they match; None if the answer is not just yes or no."""
        verdicts = self._judge([match_prompt(query, target, self.prompts) for query, target in pairs])
        return [{"yes": True, "no": False}.get(verdict.strip(string.punctuation + string.whitespace).lower()) for verdict in verdicts]

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        """Return for each question the 0-based index of the best candidate; None if the answer is not just a number."""
        for _, candidates in questions:
            if len(candidates) < 2:
                raise ConfigError(f"{len(candidates)} candidates: this judge picks one of 2 or more")
        verdicts = self._judge([pick_prompt(anchor, candidates, self.prompts) for anchor, candidates in questions])
        picked = [_picked(verdict, len(candidates)) for verdict, (_, candidates) in zip(verdicts, questions, strict=True)]
        unread = [verdict for verdict, place in zip(verdicts, picked, strict=True) if verdict and place is None]
        if unread:
            self.last_failure = f"the verdict is no number of a candidate: {short(unread[-1])!r}"
        return picked

    def _read(self, outcome: Reply | ServerFailure) -> TCoT | ParseFailure | Refusal:
        if isinstance(outcome, Reply):
            is_cut = outcome.finish_reason == LENGTH
            if asks_for_answer(self.prompts):
                return read_bare_answer(outcome.text, is_cut=is_cut)
            return read_answer(outcome.text, is_cut=is_cut, num_frames=self.num_frames, dropped=self._dropped)
        if outcome.reason == ServerFailureReason.EMPTY:
            return read_answer("", is_cut=outcome.is_cut, num_frames=self.num_frames)
        return Refusal(outcome.reason.value, outcome.text, about_item=outcome.about_item)

    def _judge(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return greedy short answers; what failed or was cut is empty. A model that thinks first is asked again, with room for it."""
        outcomes = self.server.complete(prompts, max_tokens=VERDICT_TOKENS)
        cut = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, ServerFailure) and outcome.is_cut]
        again = self.server.complete([prompts[row] for row in cut], max_tokens=self.max_new_tokens)
        verdicts = dict(enumerate(outcomes)) | dict(zip(cut, again, strict=True))
        failures = [verdict for verdict in verdicts.values() if isinstance(verdict, ServerFailure)]
        if failures:
            self.last_failure = f"{self.server.model!r} at {self.server.url}: {failures[-1].reason}: {failures[-1].text}"
        return [verdict.text if isinstance(verdict, Reply) and verdict.finish_reason != LENGTH else "" for verdict in verdicts.values()]


def _picked(verdict: str, num_candidates: int) -> int | None:
    number = re.fullmatch(r"[\[(]?([1-9][0-9]{0,3})[\])]?\.?", verdict.strip())
    return int(number[1]) - 1 if number and int(number[1]) <= num_candidates else None
