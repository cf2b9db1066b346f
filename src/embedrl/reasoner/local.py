"""A Reasoner and Judge on loaded weights, through transformers' `generate`."""

import copy
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import PIL.Image
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor
from transformers import AutoModelForImageTextToText, LogitsProcessorList, PreTrainedModel, ProcessorMixin

from embedrl import log
from embedrl.data.protocols import Question
from embedrl.data.reasoning import read_answer, read_bare_answer
from embedrl.data.sample import Item
from embedrl.data.tcot import ParseFailure, TCoT
from embedrl.errors import ConfigError, ModelError
from embedrl.media.resize import PAPER_BUDGET, VisualBudget, grid_as_saved
from embedrl.models.adapters import merge
from embedrl.models.added_tokens import added_tokens, check_added_tokens, seal, skeleton
from embedrl.models.architectures import decodes_greedily, give_one_answer, takes_grids
from embedrl.models.load import EMB, SETTINGS, LoadOptions, load, loading, read_settings, token_side
from embedrl.models.names import Form
from embedrl.models.tokens import probe_items, save_tokens, tokens_digest, tokens_mark
from embedrl.models.weights import save_bf16
from embedrl.reasoner.drafts import Habits, skeletons
from embedrl.reasoner.greedy import MAX_DRAFT, GreedyDecoder, Stops
from embedrl.reasoner.keyword_copy import KeywordCopyConstraint
from embedrl.reasoner.prompts import (
    SETS,
    CutNotice,
    Prompt,
    answer_only,
    asks_for_answer,
    match_prompt,
    pick_prompt,
    prompt_hash,
    tcot_prompt,
)


class ReasonerSettings(BaseModel):
    """Prompt set, visual budget and answer length of a Reasoner (embedrl.json)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompts: str = "full"
    """Prompt set: "full", or "nano" for the models trained on it; "full-answer" or "nano-answer" to be asked for answers alone."""
    budget: VisualBudget = PAPER_BUDGET
    max_new_tokens: int = Field(default=512, ge=1)

    @field_validator("prompts")
    @classmethod
    def _known(cls, prompts: str) -> str:
        if prompts not in SETS:
            raise ConfigError(f"prompts={prompts!r}: choose from {', '.join(SETS)}")
        return prompts

    _grid = field_validator("budget", mode="before")(grid_as_saved)


_EMBEDDERS = "is the folder of an Embedder: give it as the Embedder (--embedder), or give a Reasoner's"


def read_reasoner_settings(folder: Path) -> ReasonerSettings:
    """Return a folder's settings, or the default ones. Raises ModelError if they are broken, or an Embedder's."""
    if (folder / "modules.json").is_file():  # of sentence-transformers: it gives vectors
        raise ModelError(f"{str(folder)!r} {_EMBEDDERS}")
    return read_settings(folder, ReasonerSettings, dict.fromkeys(("image", "frame", "crop", "request"), _EMBEDDERS)) or ReasonerSettings()


class LocalReasoner:
    """A Reasoner on local weights. Implements `Reasons` and `Judges`."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        settings: ReasonerSettings,
        name: str,
        *,
        temperature: float = 0.0,
    ) -> None:
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"temperature={temperature}: give 0 (greedy) or more")
        self.model, self.processor, self.settings = model.eval(), processor, settings
        self.temperature, self.batch_size = temperature, 64
        self.is_deterministic = not temperature
        """Whether the same item gets the same answer again."""
        self.factor, self._cut = token_side(model.config), CutNotice("this Reasoner")
        self._dropped = log.Repeated()
        self._collating = threading.Lock()
        self.name = name
        self.fingerprint = self._fingerprint()
        self.quotes = True
        """Whether keywords are held to the item's text as they are written; EG-RL's rollouts are not."""
        self.num_written = 0
        """Tokens that it has written so far."""
        self.num_steps = 0
        """Passes of the model behind prompts so far."""
        self.continuous = True
        """Whether greedy answers are written by `reasoner.greedy` where the model can; else by transformers, in fixed batches."""
        self.max_draft = MAX_DRAFT
        """Tokens that greedy decoding drafts and verifies in one pass, at most; 0: none."""

    @classmethod
    def load(cls, folder: Path, *, temperature: float = 0.0, form: Form = "tcot", **options: Unpack[LoadOptions]) -> "LocalReasoner":
        """Load a local folder (safetensors only): ours, Qwen3-VL's, or a LoRA adapter of one of them.

        With `form` "answer" it is asked for the answers of T-CoTs alone.
        Raises ModelError if it is not a model that this code knows.
        """
        read_reasoner_settings(folder)  # a folder of the other role is refused before its weights are read
        loaded = load(AutoModelForImageTextToText, folder, **options)
        return cls.on(*loaded, folder, temperature=temperature, form=form)

    @classmethod
    def on(
        cls,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        name: str,
        folder: Path,
        *,
        temperature: float = 0.0,
        form: Form = "tcot",
    ) -> "LocalReasoner":
        """Wrap loaded weights with the settings of a folder. Raises ModelError."""
        settings = read_reasoner_settings(folder)
        with loading(folder):
            give_one_answer(folder, model, processor.tokenizer)
            if processor.tokenizer.pad_token is None:
                processor.tokenizer.pad_token = processor.tokenizer.eos_token
            if processor.tokenizer("")["input_ids"][-1:] == [processor.tokenizer.pad_token_id]:
                raise ModelError(f"{str(folder)!r} {_EMBEDDERS}")
            digest = _probe_digest(processor, settings, token_side(model.config), takes_grids(model.config))
        reasoner = cls(model, processor, settings, name + tokens_mark(folder, digest), temperature=temperature)
        return reasoner.answering() if form == "answer" else reasoner

    def _fingerprint(self) -> str:
        settings = self.settings
        limits = f"{settings.budget.fingerprint}-{settings.max_new_tokens}-quoting"
        return f"{self.name}-{prompt_hash(settings.prompts)}-{limits}-t{self.temperature:g}"

    def answering(self) -> "LocalReasoner":
        """Return the same Reasoner, on the same weights, asked for the answers of T-CoTs alone."""
        twin = copy.copy(self)
        twin.settings = self.settings.model_copy(update={"prompts": answer_only(self.settings.prompts)})
        twin.fingerprint = twin._fingerprint()
        return twin

    @property
    def special(self) -> re.Pattern[str]:
        """Pattern of the special and added tokens that no input text may contain."""
        return added_tokens(self.processor).pattern

    def save(self, folder: Path) -> None:
        """Save weights (bf16, adapter merged), processor and settings."""
        self.model = merge(self.model)
        save_bf16(self.model, folder)
        self.save_settings(folder)

    def save_settings(self, folder: Path) -> None:
        """Save the processor and the settings, without weights."""
        self.processor.save_pretrained(folder)
        (folder / SETTINGS).write_text(self.settings.model_dump_json(indent=2) + "\n", "utf-8")
        save_tokens(folder, _probe_digest(self.processor, self.settings, self.factor, takes_grids(self.model.config)))

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the tokenizer's, and for other families than ours those that the model names besides."""
        named = [] if takes_grids(self.model.config) else self.model.generation_config.eos_token_id or []
        return sorted({self.processor.tokenizer.eos_token_id, *([named] if isinstance(named, int) else named)})

    @property
    def num_frames(self) -> int:
        """Maximum number of frames of a video that it is shown."""
        return self.settings.budget.num_frames

    def reason(self, items: Sequence[Item]) -> list[TCoT | ParseFailure]:
        """Write one T-CoT per item, in order; one that `max_new_tokens` cut is TRUNCATED. Raises MediaError naming a bad file."""
        settings = self.settings
        prompts = [tcot_prompt(item, settings.prompts, settings.budget, self.factor, special=self.special) for item in items]
        self._cut.check(prompts, settings.budget)
        written = self._write(prompts, settings.max_new_tokens, self.temperature)
        if asks_for_answer(settings.prompts):
            return [read_bare_answer(text, is_cut=is_cut) for text, is_cut in written]
        return [read_answer(text, is_cut=is_cut, num_frames=self.num_frames, dropped=self._dropped) for text, is_cut in written]

    def write(self, prompts: Sequence[Prompt], *, max_new_tokens: int | None = None, temperature: float | None = None) -> list[str]:
        """Answer prompts, in order; prompts of similar length share a batch. Without limits of their own, the Reasoner's hold.

        An image that is no grid of whole visual tokens within the budget is scaled to one; a prompt of a stranger is sealed.
        """
        limit = min(max_new_tokens or self.settings.max_new_tokens, self.settings.max_new_tokens)
        heat = self.temperature if temperature is None else temperature
        return [text for text, _ in self._write(prompts, limit, heat)]

    def _write(self, prompts: Sequence[Prompt], max_new_tokens: int, temperature: float) -> list[tuple[str, bool]]:
        """Return each answer, and whether the limit cut it."""
        prompts = [
            replace(
                prompt,
                messages=seal(prompt.messages, self.special) if prompt.own is None else prompt.messages,
                images=tuple(map(self._fitted, prompt.images)),
            )
            for prompt in prompts
        ]
        if self.continuous and not temperature and decodes_greedily(self.model):
            return self._decode(prompts, max_new_tokens)
        order = sorted(range(len(prompts)), key=lambda row: (_length(prompts[row], self.factor), row))
        answers = [("", False)] * len(prompts)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            for row, answer in zip(rows, self._generate([prompts[row] for row in rows], max_new_tokens, temperature), strict=True):
                answers[row] = answer
        return answers

    def _decode(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[tuple[str, bool]]:
        """Return what `generate` would write greedily, in fewer passes."""
        tokenizer = self.processor.tokenizer
        suppressed = tuple(sorted(set(forbidden_tokens(self.processor)) - set(self.ends)))
        stops = Stops(max_new_tokens, frozenset(self.ends), suppressed, tokenizer.pad_token_id)
        decoder = GreedyDecoder(self.model, self.habits, stops, min(self.batch_size, max(1, len(prompts))), max_draft=self.max_draft)
        constraint = KeywordCopyConstraint(tokenizer, [prompt.text for prompt in prompts]) if self.quotes else None
        lengths = [_length(prompt, self.factor) for prompt in prompts]
        answers = [("", False)] * len(prompts)
        for number, ids in decoder.write(lengths, lambda numbers: self._collate([prompts[number] for number in numbers]), constraint):
            self.num_written += len(ids)
            answers[number] = (tokenizer.decode(ids, skip_special_tokens=True), ids[-1] not in stops.ends)
        self.num_steps += decoder.num_steps
        return answers

    @cached_property
    def habits(self) -> Habits:
        """What it wrote before, for drafts."""
        with self._collating:
            return Habits([self.processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in skeletons()])

    def _fitted(self, image: PIL.Image.Image) -> PIL.Image.Image:
        budget = self.settings.budget
        fits = not (image.width % self.factor or image.height % self.factor) and image.width * image.height <= budget.image.max_pixels
        return image if fits else budget.fit(image, "image", self.factor)

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text as this model writes it."""
        with self._collating:  # a tokenizer is not for several threads
            return len(self.processor.tokenizer(text)["input_ids"])

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[Prompt], max_new_tokens: int, temperature: float) -> list[tuple[str, bool]]:
        batch = self._collate(prompts)
        tokenizer = self.processor.tokenizer
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        held = [KeywordCopyConstraint(tokenizer, [prompt.text for prompt in prompts], batch["input_ids"].shape[1])] if self.quotes else []
        ids = self.model.generate(
            **batch,
            **sampling,
            max_new_tokens=max_new_tokens,
            logits_processor=LogitsProcessorList(held),
            suppress_tokens=sorted(set(forbidden_tokens(self.processor)) - set(self.ends)),
            eos_token_id=self.ends,
            pad_token_id=tokenizer.pad_token_id,
        )
        written = ids[:, batch["input_ids"].shape[1] :]
        self.num_steps += written.shape[1] - 1
        self.num_written += int((written != tokenizer.pad_token_id).sum())
        ended = torch.isin(written, torch.tensor(self.ends, device=written.device)).any(dim=1).tolist()
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        return [(text, not has_end) for text, has_end in zip(texts, ended, strict=True)]

    def _collate(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        with self._collating:
            batch = tokenize(self.processor, prompts, takes_grids=takes_grids(self.model.config))
        return {name: value.to(self.model.device) for name, value in batch.items()}

    def match(self, pairs: Sequence[tuple[TCoT, TCoT]]) -> list[bool | None]:
        """Return for each (query, target) whether they match."""
        prompts = [match_prompt(query, target, self.settings.prompts, special=self.special) for query, target in pairs]
        return [choice == 1 for choice in self._choose(prompts, [["no", "yes"]] * len(prompts))]

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        """Return for each question the 0-based index of the best candidate, by the most likely next token."""
        for _, candidates in questions:
            if not 2 <= len(candidates) <= 9:
                raise ConfigError(f"{len(candidates)} candidates: this judge picks one of 2 to 9")
        prompts = [pick_prompt(anchor, candidates, self.settings.prompts, special=self.special) for anchor, candidates in questions]
        return [*self._choose(prompts, [[str(number + 1) for number in range(len(shown))] for _, shown in questions])]

    def _choose(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[int]:
        """Return which answer's first token is likeliest next, for each prompt."""
        return [int(scores.argmax()) for scores in self._answer_scores(prompts, answers)]

    def yes_scores(self, prompts: Sequence[Prompt]) -> list[float]:
        """Return log p(yes) - log p(no) as the next token of each prompt."""
        return [float(scores[1] - scores[0]) for scores in self._answer_scores(prompts, [["no", "yes"]] * len(prompts))]

    @torch.inference_mode()
    def _answer_scores(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return the scores of each answer's first token, for each prompt: one forward pass a batch."""
        answer_scores = [torch.empty(0)] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda row: (_length(prompts[row], self.factor), row))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            logits = self.model(**self._collate([prompts[row] for row in rows]), logits_to_keep=1).logits[:, -1]
            for row, scores in zip(rows, logits, strict=True):
                answer_scores[row] = scores[self._first_tokens(tuple(answers[row]))].float()
        return answer_scores

    def _first_tokens(self, answers: tuple[str, ...]) -> list[int]:
        firsts = [self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"][0] for answer in answers]
        if len(set(firsts)) < len(firsts):
            raise ModelError(f"the tokenizer cannot tell {answers!r} apart by their first token")
        return firsts


def forbidden_tokens(processor: ProcessorMixin) -> list[int]:
    """Return the token ids that must never be sampled: all added special tokens but the end of turn, and `<emb>`."""
    tokenizer = processor.tokenizer
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special or token.content == EMB}
    return sorted(special - {tokenizer.eos_token_id})


def _probe_digest(processor: ProcessorMixin, settings: ReasonerSettings, factor: int, grids: bool) -> str:
    """Return the digest of the tokens that a text, an image and the frames of a video become."""
    special = added_tokens(processor).pattern
    prompts = [tcot_prompt(item, settings.prompts, settings.budget, factor, special=special) for item in probe_items()]
    return tokens_digest([tokenize(processor, [prompt], takes_grids=grids)["input_ids"][0].tolist() for prompt in prompts])


def tokenize(processor: ProcessorMixin, prompts: Sequence[Prompt], *, takes_grids: bool = True) -> dict[str, Tensor]:
    """Return the model's inputs for a batch of prompts, padded on the left. Unless it `takes_grids`, the processor scales images itself."""
    texts, bare = (
        [processor.apply_chat_template(messages, add_generation_prompt=True) for messages in asked]
        for asked in ([prompt.messages for prompt in prompts], [skeleton(prompt.messages, prompt.own) for prompt in prompts])
    )
    check_added_tokens(processor, texts, bare)
    options: dict[str, Any] = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    if not takes_grids:
        images: list[Any] = [list(prompt.images) for prompt in prompts]
        return dict(processor(text=texts, images=images if any(images) else None, **options))
    images = [image for prompt in prompts for image in prompt.images]
    return dict(processor(text=texts, images=images or None, do_resize=False, **options))


def _length(prompt: Prompt, factor: int) -> int:
    chars = sum(len(part.get("text", "")) for part in prompt.messages[0]["content"])
    return sum(image.width * image.height for image in prompt.images) // factor**2 + chars // 3
