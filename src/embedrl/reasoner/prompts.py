"""Chat prompts of the seven Reasoner roles and two judge tasks; the wording is in prompts/<set>/<role>.txt.

A video is shown as separate images labelled "Frame i (t s)": GRPO trainers take images only, and a number that can be
read can be pointed at. No path or file name ever reaches a prompt.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import PIL.Image

from embedrl import log
from embedrl.data.items import require_items
from embedrl.data.protocols import Side
from embedrl.data.sample import Item
from embedrl.data.tcot import SPECIAL_TOKEN, TCoT, neutralise, render
from embedrl.errors import ConfigError
from embedrl.media.content import Frames, Text, Video
from embedrl.media.decode import load_visual
from embedrl.media.resize import Fit, VisualBudget

_ANSWER = "-answer"
_WHOLE = ("full", "nano")
SETS = (*_WHOLE, *(f"{name}{_ANSWER}" for name in _WHOLE))
"""Full wording for general models, and one line each for the nano models, which were trained on it; of each also a set that asks for the
answer alone (`answer_only`)."""


_VERDICTS = ("match", "pick")
_RERANK = {
    "Query": "Task: {instruction}\n{text}\nReasoning about the query: {tcot}",
    "Candidate": "{text}\nReasoning about the candidate: {tcot}",
    "request": "Does the candidate answer the query? Answer yes or no.",
}
"""Wording of the second stage. It is no part of `prompt_hash`: no T-CoT depends on it."""
_SEVERAL = (
    "The {count} pictures and videos above are numbered from 1, in their order. Where boxes are asked for, write one JSON object for each "
    'picture that you point at, and name the picture in it: {"bbox_2d": [[x1, y1, x2, y2], ...], "image": 2}.'
)
"""Added for an item of several, of which one is a picture; the nano models were not trained on it. Like the labels of frames it is no
part of `prompt_hash`: all other items are asked as before."""


@dataclass(frozen=True)
class Prompt:
    """A chat prompt: messages whose image parts stand for `images`, in order."""

    messages: list[dict[str, Any]]
    images: tuple[PIL.Image.Image, ...] = ()
    text: str = ""
    """The item's text as it is shown: what keywords quote."""
    own: tuple[str, ...] | None = None
    """What of each text part is our own wording, and may hold added tokens; None: a stranger wrote all of it."""
    is_cut: bool = False
    """Whether text of the item (`max_text_chars`) is not shown."""


class CutNotice:
    """Warning, given once, that a Reasoner does not read all of an item's text."""

    def __init__(self, reader: str) -> None:
        self.reader, self._is_given = reader, False

    def check(self, prompts: Sequence[Prompt], budget: VisualBudget) -> None:
        """Warn if one of the prompts does not show all of its text, unless that was said before."""
        if not self._is_given and any(prompt.is_cut for prompt in prompts):
            self._is_given = True
            log.warn(f"text behind {budget.max_text_chars:,} characters of an item is not seen: all that {self.reader} reads")


def answer_only(prompt_set: str) -> str:
    """Return the set that asks for the answer of a T-CoT alone, in the style of a set."""
    return prompt_set if asks_for_answer(prompt_set) else f"{prompt_set}{_ANSWER}"


def asks_for_answer(prompt_set: str) -> bool:
    """Say whether a set asks for the answer of a T-CoT alone."""
    return prompt_set.endswith(_ANSWER)


@lru_cache
def template(prompt_set: str, name: str) -> str:
    """Return a prompt text; sets of answers are judged in the words of the whole one. Raises ConfigError for an unknown set."""
    if prompt_set not in SETS:
        raise ConfigError(f"prompts={prompt_set!r}: choose one of {', '.join(SETS)}")
    prompt_set = prompt_set.removesuffix(_ANSWER) if name in _VERDICTS else prompt_set
    return files("embedrl.reasoner").joinpath("prompts", prompt_set, f"{name}.txt").read_text("utf-8")


@lru_cache
def prompt_hash(prompt_set: str) -> str:
    """Return 12 hex digits that change whenever a text of the set does."""
    folder = files("embedrl.reasoner").joinpath("prompts", prompt_set)
    texts = sorted((path.name, path.read_text("utf-8")) for path in folder.iterdir())
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:12]


def tcot_prompt(item: Item, prompt_set: str, budget: VisualBudget, factor: int, *, special: re.Pattern[str] = SPECIAL_TOKEN) -> Prompt:
    """Ask for the T-CoT of an item. Media are decoded and scaled to the budget; raises MediaError naming a bad file.

    `special` matches the added tokens of the model that is asked, which the item's text must not hold.
    """
    require_items([item])
    parts, images = _media(item, budget, factor)
    shown = neutralise(item.text[: budget.max_text_chars], special)
    text, own = _fill(template(prompt_set, item.role), special, instruction=item.instruction, text=shown)
    visuals = [part for part in item.content if not isinstance(part, Text)]
    if prompt_set == "full" and len(visuals) > 1 and not all(isinstance(part, Video) for part in visuals):
        parts.append({"type": "text", "text": _SEVERAL.replace("{count}", str(len(visuals)))})
    labels = tuple(part["text"] for part in parts if part["type"] == "text")
    parts.append({"type": "text", "text": text})
    return Prompt([{"role": "user", "content": parts}], tuple(images), shown, (*labels, own), is_cut=_is_cut(item, budget))


def rerank_prompt(query: Side, candidate: Side, budget: VisualBudget, factor: int, *, special: re.Pattern[str] = SPECIAL_TOKEN) -> Prompt:
    """Ask a judge whether a candidate answers a query, with the media, texts and T-CoTs of both. Raises MediaError naming a bad file."""
    parts: list[dict[str, Any]] = []
    images: list[PIL.Image.Image] = []
    own: list[str] = []
    for name, (item, tcot) in (("Query", query), ("Candidate", candidate)):
        media, seen = _media(item, budget, factor)
        images += seen
        values = {"instruction": item.instruction, "text": item.text[: budget.max_text_chars], "tcot": render(tcot) if tcot else "none"}
        text, wording = _fill(_RERANK[name], special, **values)
        parts += [{"type": "text", "text": f"{name}:"}, *media, {"type": "text", "text": text}]
        own += [f"{name}:", *(part["text"] for part in media if part["type"] == "text"), wording]
    parts.append({"type": "text", "text": _RERANK["request"]})
    is_cut = any(_is_cut(item, budget) for item, _ in (query, candidate))
    return Prompt([{"role": "user", "content": parts}], tuple(images), own=(*own, _RERANK["request"]), is_cut=is_cut)


def match_prompt(query: TCoT, target: TCoT, prompt_set: str, *, special: re.Pattern[str] = SPECIAL_TOKEN) -> Prompt:
    """Ask a judge whether two T-CoTs could belong to one pair."""
    return _text_prompt(*_fill(template(prompt_set, "match"), special, query=query.answer, target=target.answer))


def pick_prompt(anchor: TCoT, candidates: Sequence[TCoT], prompt_set: str, *, special: re.Pattern[str] = SPECIAL_TOKEN) -> Prompt:
    """Ask a judge for the number (from 1) of the candidate that belongs to the anchor."""
    listed = "\n".join(f"{number}: {tcot.answer}" for number, tcot in enumerate(candidates, 1))
    return _text_prompt(*_fill(template(prompt_set, "pick"), special, anchor=anchor.answer, candidates=listed))


def _is_cut(item: Item, budget: VisualBudget) -> bool:
    return len(item.text) > budget.max_text_chars


def _media(item: Item, budget: VisualBudget, factor: int) -> tuple[list[dict[str, Any]], list[PIL.Image.Image]]:
    """Return the message parts of an item's media, frames labelled, and their images, scaled to the budget."""
    parts: list[dict[str, Any]] = []
    images: list[PIL.Image.Image] = []
    scale = Fit(budget=budget, factor=factor)
    for part in item.content:
        if isinstance(part, Text):
            continue
        seen = load_visual(part, num_frames=budget.num_frames, scale=scale)
        if isinstance(seen, Frames):
            shown = seen.since(part.start_s if isinstance(part, Video) else 0.0)  # a span is shown as a clip of its own
            for number, (frame, time_s) in enumerate(zip(shown.images, shown.times_s, strict=True), 1):
                parts += [{"type": "text", "text": f"Frame {number} ({time_s:.1f} s)"}, {"type": "image"}]
                images.append(frame)
        else:
            parts.append({"type": "image"})
            images.append(seen)
    return parts, images


def _text_prompt(text: str, own: str) -> Prompt:
    return Prompt([{"role": "user", "content": [{"type": "text", "text": text}]}], own=(own,))


def _fill(wording: str, special: re.Pattern[str], **values: str) -> tuple[str, str]:
    """Put values in place of their {names}, in one pass, with special tokens broken up; other braces stay as they are.

    Returns the text, and the wording alone.
    """
    pattern = "|".join(rf"\{{{name}\}}" for name in values)
    text = re.sub(pattern, lambda match: neutralise(values[match.group()[1:-1]], special), wording)
    return text.strip(), re.sub(pattern, "", wording).strip()
