"""Client-built Embedder prompts: chat messages embedded as sent, as by vLLM's pooling API.

The texts are untrusted: only T-CoT tags are kept as special tokens, all other added tokens are neutralised.
"""

import re
from dataclasses import replace
from typing import Any

import PIL.Image

from embedrl.data.plain_text import neutralise
from embedrl.embedder.inputs import EmbedderInput
from embedrl.media.content import Frames, Image
from embedrl.media.resize import VisualBudget
from embedrl.models.added_tokens import added_tokens
from embedrl.server.openai_messages import ImagePart, TextPart, VideoPart, media_share, read_frames, read_media, url_of
from embedrl.server.openai_schemas import EmbeddingsRequest
from embedrl.server.problem import Problem
from embedrl.server.service import Service
from embedrl.server.shared_models import SharedEmbedder

_TAG = re.compile(r"(</?(?:thinking|rethink|answer)>)")


def read_embedder_prompt(service: Service, embedder: SharedEmbedder, asked: EmbeddingsRequest) -> EmbedderInput:
    """Parse the Embedder input of a request. Blocks. Raises Problem."""
    model = embedder.prompts
    messages = asked.messages or []
    if model is None:
        raise Problem(400, "add_generation_prompt: this Embedder takes no prompts; leave it out", "unsupported")
    if [message.role for message in messages] not in (["user"], ["system", "user"]):
        raise Problem(400, "messages: a prompt has one turn of the user, and perhaps one of the system before it", "bad_prompt")
    share = media_share(messages)
    settings, special = model.prompt_settings, added_tokens(model.processor).pattern
    images: list[PIL.Image.Image] = []
    videos: list[Frames] = []
    own: list[str] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        parts: list[dict[str, Any]] = []
        for part in message.parts:
            match part:
                case TextPart():
                    pieces = _TAG.split(part.text)
                    text = "".join(piece if _TAG.fullmatch(piece) else neutralise(piece, special) for piece in pieces)
                    parts.append({"type": "text", "text": text})
                    own.append("".join(piece for piece in pieces if _TAG.fullmatch(piece)) + _request(text, settings.request))
                case ImagePart():
                    seen = read_media(service, url_of(part), share)
                    if not isinstance(seen, Image) or seen.pixels is None:
                        raise Problem(415, "image_url: holds no image", "bad_file")
                    images.append(_on_grid(seen.pixels, settings.budget, settings.factor))
                    parts.append({"type": "image"})
                case VideoPart():
                    clip = read_frames(service, url_of(part), asked.times_s, share) or read_media(service, url_of(part), share)
                    if isinstance(clip, Image) or clip.frames is None:
                        raise Problem(415, "video_url: holds no video", "bad_file")
                    videos.append(_clip_on_grid(clip.frames, settings.budget, settings.factor))
                    parts.append({"type": "video"})
        turns.append({"role": message.turn, "content": parts})
    if not turns[-1]["content"]:
        raise Problem(400, "messages: the user's messages hold neither text nor images", "empty_messages")
    return EmbedderInput(turns, tuple(images), tuple(videos), settings.end, tuple(own), settings.wraps_videos)


def _request(text: str, request: str | None) -> str:
    return request if request is not None and text == request else ""


def _on_grid(image: PIL.Image.Image, budget: VisualBudget, factor: int) -> PIL.Image.Image:
    """Scale an image to the visual-token grid, unless the client already did."""
    largest = max(budget.image.max_pixels, budget.crop.max_pixels)
    is_scaled = not (image.width % factor or image.height % factor) and image.width * image.height <= largest
    return image if is_scaled else budget.fit(image, "image", factor)


def _clip_on_grid(clip: Frames, budget: VisualBudget, factor: int) -> Frames:
    width, height = clip.images[0].size
    if not (width % factor or height % factor) and width * height <= budget.frame.max_pixels:
        return clip
    scaled = budget.for_clip(len(clip.images))
    return replace(clip, images=tuple(scaled.fit(frame, "frame", factor) for frame in clip.images))
