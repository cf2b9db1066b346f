"""The Embedder's message builder, used by data, training, RL, evaluation, server and command line.

User turn: media, instruction and text, the T-CoT up to `</thinking>`, evidence crops or key frames as images, the rest of
the T-CoT, one fixed request. Assistant turn: `<emb>`, and the sequence ends there, so last-token pooling is special-token
pooling in any engine. Without a T-CoT the same builder gives the plain input.

Models that know no `<emb>` but end every text by themselves (Qwen3-VL-Embedding) are asked in their own layout: the instruction is
a system turn, and the vector is read at the token that their tokenizer appends.
"""

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import PIL.Image
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import ProcessorMixin
from transformers.video_utils import VideoMetadata

from embedrl.data.evidence_kinds import EVIDENCE_KINDS, Piece
from embedrl.data.items import require_items
from embedrl.data.sample import Item
from embedrl.data.tcot import SPECIAL_TOKEN, TCoT, neutralise, render_parts
from embedrl.errors import ConfigError, ModelError
from embedrl.media.content import Frames, Image, Page, Text, Video
from embedrl.media.decode import load_visual, look
from embedrl.media.passages import TextMeasure
from embedrl.media.resize import VisualBudget
from embedrl.models.added_tokens import check_added_tokens, skeleton
from embedrl.models.load import EMB

REQUEST = "Summarise this in one word."
DEFAULT_INSTRUCTION = "Represent the user's input."
"""What Qwen3-VL-Embedding is told where an item has no instruction."""
VIDEO = "<|video_pad|>"
WRAPPED_VIDEO = f"<|vision_start|>{VIDEO}<|vision_end|>"
"""How chat templates write a video. Each pair of frames that the processor puts in its place has vision tokens of its own."""
FRAME_SECONDS = "second_per_grid_ts"
"""Input of models that place frames by time in their positions (Qwen2.5-VL), not by text: seconds from a pair of frames to the next."""
MAX_EVIDENCE_IMAGES = 8
"""Maximum number of crops or key frames shown, which bounds the input of a T-CoT."""


@dataclass(frozen=True)
class PromptFormat:
    """Prompt format of an Embedder."""

    end: str = EMB
    """Pooling token, the last one of the prompt."""
    request: str | None = REQUEST
    """The line that ends the user turn. None: there is none, and the instruction is a system turn."""
    wraps_videos: bool = True
    """Whether a video stands in one more pair of vision tokens, around those of its frames. Published models were trained without it,
    by transformers before 5.10; later versions write it, and the models that embedrl trains see it."""
    as_published: bool = False
    """Write the user turn as Embed-RL's code does: text before a video, the request right behind the text, tags without spaces."""


DEFAULT_FORMAT = PromptFormat()
EMBED_RL_FORMAT = PromptFormat(request="Summarize the above content in one word:", wraps_videos=False, as_published=True)
"""Prompt format of Embed-RL's released checkpoints (`eval/mmeb_eval`)."""


class EmbedderPrompt(BaseModel):
    """All that decides how the input of an Embedder is built: what a server tells its clients."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    budget: VisualBudget
    factor: int = Field(ge=1)
    """Pixels a side of one visual token."""
    end: str
    request: str | None
    wraps_videos: bool
    as_published: bool
    """As those of `PromptFormat`."""

    @classmethod
    def of(cls, budget: VisualBudget, layout: PromptFormat, factor: int) -> "EmbedderPrompt":
        """Gather the settings of a model."""
        return cls(budget=budget, factor=factor, **asdict(layout))

    @property
    def layout(self) -> PromptFormat:
        """How the model is asked."""
        return PromptFormat(self.end, self.request, self.wraps_videos, self.as_published)


@dataclass(frozen=True)
class EmbedderInput:
    """Chat messages whose image and video parts stand for `images` and `videos`, in order. All images are scaled."""

    messages: list[dict[str, Any]]
    images: tuple[PIL.Image.Image, ...]
    videos: tuple[Frames, ...]
    end: str = EMB
    own: tuple[str, ...] = ()
    """The trusted part of each text, which may contain added tokens."""
    wraps_videos: bool = True
    item: Item | None = None
    """The item it was built from."""

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts of the user turn."""
        return self.messages[-1]["content"]

    def visual_tokens(self, factor: int) -> int:
        """Return how many visual tokens the images and frames take; two frames share one grid of tokens."""
        stills = sum(image.width * image.height for image in self.images)
        clips = sum(video.images[0].width * video.images[0].height * -(-len(video.images) // 2) for video in self.videos)
        return (stills + clips) // factor**2


class DecodedItem:
    """The visual parts of an item, decoded and scaled, and its evidence images as far as they were asked for.

    An item that is built with several T-CoTs is decoded once, and what they point at together is cut out and scaled once.
    """

    def __init__(self, item: Item, budget: VisualBudget, factor: int, *, scale: bool = True) -> None:
        """Decode. `scale=False` leaves the item's own media as they are, for engines that scale by themselves. Raises MediaError."""
        self.budget, self.factor = budget, factor
        self._visuals = [part for part in item.content if not isinstance(part, Text)]
        self._num_frames = [_num_frames(part, budget) for part in self._visuals]
        decoded = [load_visual(part, num_frames=count) for part, count in zip(self._visuals, self._num_frames, strict=True)]
        self._seen: dict[tuple[int, int | None], PIL.Image.Image | Frames] = {
            (number, None): visual for number, visual in enumerate(decoded, 1)
        }
        """The visual parts by their number, and by how many frames of them are looked at; None: as many as this model is shown."""
        self._scaled: dict[tuple[int, int | None, str, Piece], PIL.Image.Image | None] = {}
        shown = [
            visual.since(part.start_s) if isinstance(visual, Frames) and isinstance(part, Video) else visual
            for part, visual in zip(self._visuals, decoded, strict=True)
        ]
        self.own: tuple[PIL.Image.Image | Frames, ...] = tuple(map(self._fit, shown) if scale else shown)
        """The visual parts as this model is shown them; timestamps of a span of a video count from its start, as in a clip of its own."""

    def _fit(self, visual: PIL.Image.Image | Frames) -> PIL.Image.Image | Frames:
        if not isinstance(visual, Frames):
            return self.budget.fit(visual, "image", self.factor)
        budget = self.budget.for_clip(len(visual.images))
        return Frames(tuple(budget.fit(frame, "frame", self.factor) for frame in visual.images), visual.times_s)

    def evidence(self, tcot: TCoT) -> list[PIL.Image.Image]:
        """Return what a T-CoT points at: crops of images, or key frames of a video, each once; what does not hold is left out.

        Key frames are those that the T-CoT's writer saw, however many frames this model is shown.
        """
        pieces = dict.fromkeys((kind, *piece) for kind in EVIDENCE_KINDS for piece in kind.located(tcot.evidence))
        shown = []
        for kind, piece, number in pieces:
            if kind.image is None or not 1 <= number <= len(self._visuals):
                continue
            counted = tcot.evidence.num_frames if isinstance(self._visuals[number - 1], Video) else None
            num_frames = None if counted == self._num_frames[number - 1] else counted
            key = number, num_frames, kind.name, piece
            if key not in self._scaled:
                image = kind.image(self._look(number, num_frames), piece)
                self._scaled[key] = None if image is None else self.budget.fit(image, "crop", self.factor)
            shown.append(self._scaled[key])
        return [image for image in shown if image is not None][:MAX_EVIDENCE_IMAGES]

    def _look(self, number: int, num_frames: int | None) -> PIL.Image.Image | Frames:
        if (number, num_frames) not in self._seen:
            self._seen[number, num_frames] = load_visual(self._visuals[number - 1], num_frames=num_frames)
        return self._seen[number, num_frames]


def _num_frames(part: Image | Page | Video, budget: VisualBudget) -> int:
    """Return how many frames of a video are sampled; of a video file with a budget a second, that depends on its length."""
    if not isinstance(part, Video) or part.path is None or budget.fps is None:
        return budget.num_frames
    end_s = look(part, "pixels", num_frames=1, keep_pixels=False).duration_s if part.end_s is None else part.end_s
    assert end_s is not None, "a file has a length"
    return budget.frames_of(end_s - part.start_s)


def cut(text: str, tokenizer: Any, max_tokens: int) -> str:
    """Truncate a text to a number of tokens."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    return text if len(ends) <= max_tokens else text[: ends[max_tokens - 1]]


_BLOCK_CHARS = 50_000
"""So much of a text is tokenised at once, up to the next white space: what a tokenizer returns takes 100 times the memory of the text."""


def token_ends(text: str, tokenizer: Any) -> Sequence[int]:
    """Return where each token of a text of any length ends, in characters, rising."""
    ends, start = array("q"), 0
    while start < len(text):
        space = re.compile(r"\s").search(text, start + _BLOCK_CHARS, start + 2 * _BLOCK_CHARS)
        end = space.start() if space else start + 2 * _BLOCK_CHARS
        encoded = tokenizer(text[start:end], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends.extend(start + token_end for _, token_end in encoded["offset_mapping"])
        start = end
    return ends


def text_measure(budget: VisualBudget, token_ends: Callable[[str], Sequence[int]] | None) -> TextMeasure:
    """Return how a model of a budget measures texts; its limit is one in characters or one in tokens."""
    return TextMeasure(token_ends, budget.max_text_tokens, None if budget.max_text_tokens else budget.max_text_chars)


def within_text_limit(item: Item, budget: VisualBudget, tokenizer: Any) -> Item:
    """Return an item with its text cut at the limit of a budget; one in tokens only if there is a tokenizer."""
    limit = budget.max_text_tokens
    if len(item.text) <= (budget.max_text_chars if limit is None else limit) or (limit is not None and tokenizer is None):
        return item  # a token has at least one character
    text = item.text[: budget.max_text_chars] if limit is None else cut(item.text, tokenizer, limit)
    if text == item.text:
        return item
    visuals = tuple(part for part in item.content if not isinstance(part, Text))
    return Item(content=(*visuals, Text(text=text)), instruction=item.instruction, role=item.role)


def text_limit(budget: VisualBudget) -> str:
    """Return how much text of an item is read, as a message says it."""
    return f"{budget.max_text_chars:,} characters" if budget.max_text_tokens is None else f"{budget.max_text_tokens:,} tokens"


def check_inputs(items: Sequence[Item], tcots: Sequence[TCoT | None]) -> None:
    """Raise ConfigError unless these are items with a T-CoT, or None, for each."""
    require_items(items)
    if len(items) != len(tcots):
        raise ConfigError(f"{len(items)} items with {len(tcots)} T-CoTs: give one (or None) for each item")
    for tcot in tcots:
        if not isinstance(tcot, TCoT | None):
            raise ConfigError(f"a T-CoT of type {type(tcot).__name__}: give a TCoT or None (`outcome or None` of what a Reasoner returns)")


def build(
    item: Item,
    tcot: TCoT | None,
    budget: VisualBudget,
    factor: int,
    *,
    show_media: bool = True,
    show_evidence: bool = True,
    seen: DecodedItem | None = None,
    layout: PromptFormat = DEFAULT_FORMAT,
    special: re.Pattern[str] = SPECIAL_TOKEN,
) -> EmbedderInput:
    """Build the input of one item. Raises MediaError.

    `show_media=False` leaves all images out (training only), `show_evidence=False` the crops and key frames (ablations only).
    `seen` is for an item that is built several times, with the same budget. `special` matches the added tokens of the model's
    tokenizer, which neither the item's text nor the T-CoT's must hold.
    """
    parts: list[dict[str, Any]] = []
    images: list[PIL.Image.Image] = []
    videos: list[Frames] = []
    seen = (seen or DecodedItem(item, budget, factor)) if show_media else None

    own: list[str] = []

    def say(text: str, ours: str = "") -> None:
        parts.append({"type": "text", "text": text})
        own.append(ours)

    def show(visuals: Iterable[PIL.Image.Image | Frames]) -> None:
        for visual in visuals:
            if isinstance(visual, Frames):
                parts.append({"type": "video"})
                videos.append(visual)
            else:
                parts.append({"type": "image"})
                images.append(visual)

    visuals = seen.own if seen else ()
    stills, clips = ([visual for visual in visuals if isinstance(visual, Frames) is moving] for moving in (False, True))
    show(stills if layout.as_published else visuals)
    text = item.text if budget.max_text_tokens else item.text[: budget.max_text_chars]
    line_end = "" if layout.as_published else "\n"
    if layout.request is not None:
        say(neutralise(" ".join(filter(None, [item.instruction, text])), special) + line_end)
    elif text or not parts:
        say(neutralise(text, special))
    show(clips if layout.as_published else ())
    if tcot is not None:
        head, tail = render_parts(_sealed(tcot, special))
        if layout.as_published:
            head, tail = f"{_tight(head)}\n", _tight(tail)
        say(head, "<thinking></thinking>")
        for image in seen.evidence(tcot) if seen and show_evidence else ():
            parts.append({"type": "image"})
            images.append(image)
        say(f"{tail}{line_end}", "<rethink></rethink><answer></answer>")
    messages = [{"role": "user", "content": parts}]
    if layout.request is not None:
        say(layout.request, layout.request)
    else:
        instruction = _sentence(neutralise(item.instruction, special) or DEFAULT_INSTRUCTION)
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": instruction}]})
        own.insert(0, "")
    return EmbedderInput(messages, tuple(images), tuple(videos), layout.end, tuple(own), layout.wraps_videos, item)


def _tight(rendered: str) -> str:
    """Return a rendered part of a T-CoT without the spaces inside its tags."""
    return re.sub(r" (</)|(\w>) ", r"\1\2", rendered)


def _sealed(tcot: TCoT, special: re.Pattern[str]) -> TCoT:
    """Return a T-CoT, which another model may have written, without a special token of this one in its text."""
    if not any(map(special.search, (tcot.thinking, tcot.rethink, tcot.answer, *tcot.evidence.keywords))):
        return tcot
    evidence = tcot.evidence.model_copy(update={"keywords": tuple(neutralise(word, special) for word in tcot.evidence.keywords)})
    texts = {name: neutralise(getattr(tcot, name), special) for name in ("thinking", "rethink", "answer")}
    return tcot.model_copy(update={"evidence": evidence, **texts})


def _sentence(text: str) -> str:
    """End a text with a full stop unless it ends with punctuation: Qwen3-VL-Embedding was trained on such instructions."""
    text = text.strip()
    return text if unicodedata.category(text[-1:] or ".").startswith("P") else f"{text}."


def render_text(processor: ProcessorMixin, built: EmbedderInput) -> str:
    """Return the prompt text, with one placeholder for each image and video. It ends with `<emb>`, if the layout has it."""
    text = processor.apply_chat_template(built.messages, add_generation_prompt=True)
    if not built.wraps_videos:
        text = text.replace(WRAPPED_VIDEO, VIDEO)
    return text if built.end != EMB else text.removesuffix(EMB) + EMB  # the template of a model that we saved writes it


def collate(processor: ProcessorMixin, inputs: Sequence[EmbedderInput]) -> dict[str, Tensor]:
    """Return the model's inputs, padded on the right, with the number of images and videos of each row.

    Raises ModelError if the last token of a row is not the one whose state is wanted (a vector from elsewhere would be silently
    wrong), or if its text is read as a token of the template.
    """
    end = inputs[0].end
    texts = [render_text(processor, built) for built in inputs]
    bare = [render_text(processor, replace(built, messages=skeleton(built.messages, built.own))) for built in inputs]
    check_added_tokens(processor, texts, bare)
    images = [image for built in inputs for image in built.images]
    videos = [video for built in inputs for video in built.videos]
    batch = dict(
        processor(
            text=texts,
            images=images or None,
            videos=[list(video.images) for video in videos] or None,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            do_resize=False,
            add_special_tokens=end != EMB,
            **({"video_metadata": [metadata(video) for video in videos], "do_sample_frames": False} if videos else {}),
        )
    )
    if FRAME_SECONDS in batch:
        batch[FRAME_SECONDS] = torch.tensor([_pair_seconds(video) for video in videos])
    batch["num_images_per_sample"] = torch.tensor([len(built.images) for built in inputs])
    batch["num_videos_per_sample"] = torch.tensor([len(built.videos) for built in inputs])
    last = batch["input_ids"].gather(1, batch["attention_mask"].sum(1, keepdim=True) - 1)
    if (last != processor.tokenizer.convert_tokens_to_ids(end)).any():
        raise ModelError(f"an input does not end with {end}: the tokenizer must know it as one token")
    return batch


def _pair_seconds(video: Frames) -> float:
    """Return the mean time from one pair of frames to the next, in seconds."""
    times = video.times_s
    return 2 * (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 and times[-1] > times[0] else 1.0


def metadata(video: Frames) -> VideoMetadata:
    """Give the true time of each frame, in milliseconds, so that the processor writes true timestamps."""
    return VideoMetadata(total_num_frames=len(video.images), fps=1000, frames_indices=[round(1000 * time) for time in video.times_s])
