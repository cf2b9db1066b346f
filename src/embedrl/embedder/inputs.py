"""The one builder of the Embedder's input. Data, training, RL, evaluation, server and command line all call it.

User turn: media, instruction and text, the T-CoT up to `</thinking>`, evidence crops or key frames as pictures, the rest of
the T-CoT, one fixed request. Assistant turn: `<emb>`, and the sequence ends there, so last-token pooling is special-token
pooling in any engine. Without a T-CoT the same builder gives the plain input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from transformers import ProcessorMixin
from transformers.video_utils import VideoMetadata

from embedrl.data.evidence import crops, key_frames
from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT, neutralise, render_parts
from embedrl.errors import ModelError
from embedrl.media.content import Frames, Text
from embedrl.media.decode import load_visual
from embedrl.media.resize import VisualBudget, fit

EMB = "<emb>"
REQUEST = "Summarise this in one word."
MAX_EVIDENCE_PICTURES = 8
"""More crops or key frames than this are not shown: a T-CoT cannot buy itself an endless input."""


@dataclass(frozen=True)
class EmbedderInput:
    """Chat messages whose image and video parts stand for `images` and `videos`, in order. All pictures are scaled."""

    messages: list[dict[str, Any]]
    images: tuple[PIL.Image.Image, ...]
    videos: tuple[Frames, ...]

    def visual_tokens(self, factor: int) -> int:
        """Return how many visual tokens the pictures and frames take; two frames share one grid of tokens."""
        stills = sum(image.width * image.height for image in self.images)
        clips = sum(video.images[0].width * video.images[0].height * -(-len(video.images) // 2) for video in self.videos)
        return (stills + clips) // factor**2


Seen = tuple[PIL.Image.Image | Frames, ...]


def look(item: Item, budget: VisualBudget) -> Seen:
    """Decode the visual parts of an item, in order. Raises MediaError."""
    return tuple(load_visual(part, num_frames=budget.num_frames) for part in item.content if not isinstance(part, Text))


def build(
    item: Item,
    tcot: TCoT | None,
    budget: VisualBudget,
    factor: int,
    *,
    show_media: bool = True,
    show_evidence: bool = True,
    seen: Seen | None = None,
) -> EmbedderInput:
    """Build the input of one item. Raises MediaError.

    `show_media=False` leaves all pictures out (training only), `show_evidence=False` the crops and key frames (ablations only).
    `seen` is what `look` returned, for an item that is built several times.
    """
    parts: list[dict[str, Any]] = []
    images: list[PIL.Image.Image] = []
    videos: list[Frames] = []
    shown = (look(item, budget) if seen is None else seen) if show_media else ()

    for visual in shown:
        if isinstance(visual, Frames):
            parts.append({"type": "video"})
            videos.append(Frames(tuple(fit(frame, budget.frame, factor) for frame in visual.images), visual.times_s))
        else:
            parts.append({"type": "image"})
            images.append(fit(visual, budget.image, factor))
    text = " ".join(filter(None, [item.instruction, item.text[: budget.max_text_chars]]))
    parts.append({"type": "text", "text": f"{neutralise(text)}\n"})
    if tcot is not None:
        head, tail = render_parts(tcot)
        parts.append({"type": "text", "text": head})
        for picture in evidence_pictures(shown[0] if shown and show_evidence else None, tcot):
            parts.append({"type": "image"})
            images.append(fit(picture, budget.crop, factor))
        parts.append({"type": "text", "text": f"{tail}\n"})
    parts.append({"type": "text", "text": REQUEST})
    return EmbedderInput([{"role": "user", "content": parts}], tuple(images), tuple(videos))


def evidence_pictures(visual: PIL.Image.Image | Frames | None, tcot: TCoT) -> list[PIL.Image.Image]:
    """Return the crops of a picture or the key frames of a video that the T-CoT points at; invalid ones are left out."""
    if visual is None:
        return []
    if isinstance(visual, Frames):
        return [image for _, image, _ in key_frames(visual, tcot.evidence)][:MAX_EVIDENCE_PICTURES]
    return crops(visual, tcot.evidence)[:MAX_EVIDENCE_PICTURES]


def render_text(processor: ProcessorMixin, built: EmbedderInput) -> str:
    """Return the prompt text, with one placeholder for each picture and video. It ends with `<emb>`."""
    return processor.apply_chat_template(built.messages, add_generation_prompt=True) + EMB


def collate(processor: ProcessorMixin, inputs: Sequence[EmbedderInput]) -> dict[str, Tensor]:
    """Return the model's inputs, padded on the right, with the number of images and videos of each row.

    Raises ModelError if the last token of a row is not `<emb>`: a vector from elsewhere would be silently wrong.
    """
    images = [image for built in inputs for image in built.images]
    videos = [video for built in inputs for video in built.videos]
    batch = dict(
        processor(
            text=[render_text(processor, built) for built in inputs],
            images=images or None,
            videos=[list(video.images) for video in videos] or None,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            do_resize=False,
            **({"video_metadata": [_metadata(video) for video in videos], "do_sample_frames": False} if videos else {}),
        )
    )
    batch["num_images_per_sample"] = torch.tensor([len(built.images) for built in inputs])
    batch["num_videos_per_sample"] = torch.tensor([len(built.videos) for built in inputs])
    last = batch["input_ids"].gather(1, batch["attention_mask"].sum(1, keepdim=True) - 1)
    if (last != processor.tokenizer.convert_tokens_to_ids(EMB)).any():
        raise ModelError(f"an input does not end with {EMB}: the tokenizer must know it as one token")
    return batch


def _metadata(video: Frames) -> VideoMetadata:
    """Give the true time of each frame, in milliseconds, so that the processor writes true timestamps."""
    return VideoMetadata(total_num_frames=len(video.images), fps=1000, frames_indices=[round(1000 * time) for time in video.times_s])
