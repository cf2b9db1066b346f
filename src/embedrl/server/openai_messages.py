"""Parsing of OpenAI chat messages: text and images in data URLs. Nothing is ever fetched."""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import PIL.Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from embedrl.data.tcot import SPECIAL_TOKEN
from embedrl.media.content import Content, Frames, Image, Text, Video, well_formed
from embedrl.models.added_tokens import seal
from embedrl.reasoner.prompts import Prompt
from embedrl.server.budget import REQUEST_PIXELS
from embedrl.server.problem import Problem
from embedrl.server.query import clean
from embedrl.server.scratch import scratch_folder
from embedrl.server.service import Service

MAX_CHARS = 16_000
"""Of one text, and of a chat in all."""
MAX_IMAGES = 32
MAX_MESSAGES = 64
MAX_FRAMES = 64
"""Of one video that is sent as frames."""
MAX_PARTS = 64
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:")
_DATA_URL = re.compile(r"data:(?:image|video)/[\w.+*-]{1,40}(?:;[\w.+-]{1,40}=[^;,]{0,80})*;base64,", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")

WholeText = Annotated[
    str, BeforeValidator(lambda text: well_formed(text).replace("\0", " ") if isinstance(text, str) else text), Field(max_length=MAX_CHARS)
]
"""With its ends, which matter in a prompt."""
CleanText = Annotated[str, BeforeValidator(lambda text: clean(text) if isinstance(text, str) else text), Field(max_length=MAX_CHARS)]


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class MediaUrl(_Shape):
    """URL of an image or video."""

    url: str
    """`data:image/png;base64,…`; other URLs are refused."""


class TextPart(_Shape):
    """A text part."""

    type: Literal["text", "input_text"]
    text: WholeText


class ImagePart(_Shape):
    """An image part."""

    type: Literal["image_url"]
    image_url: MediaUrl | str


class VideoPart(_Shape):
    """A video part."""

    type: Literal["video_url"]
    video_url: MediaUrl | str


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(_Shape):
    """A chat message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: CleanText | Annotated[list[Part], Field(max_length=MAX_PARTS)] | None = None
    """Null only beside tool calls."""
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=MAX_PARTS)] | None = None
    """What an assistant called in an earlier turn; shown as text."""

    @model_validator(mode="after")
    def _something(self) -> "Message":
        if self.content is None and not self.tool_calls:
            raise ValueError("give content")
        return self

    @property
    def parts(self) -> Sequence[TextPart | ImagePart | VideoPart]:
        """The content as parts, with tool calls as text."""
        content = [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content or []
        calls = [call.get("function", call) for call in self.tool_calls or ()]
        return [*content, *(TextPart(type="text", text=json.dumps(call, ensure_ascii=False)[:MAX_CHARS]) for call in calls)]

    @property
    def turn(self) -> str:
        """The role for the chat template, which may lack some of OpenAI's."""
        return {"developer": "system", "tool": "user"}.get(self.role, self.role)


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


def media_share(messages: Sequence[Message]) -> int:
    """Return how many pixels each image or video may have. Raises Problem 413 for too much text or too many images, before any decoding."""
    parts = [part for message in messages for part in message.parts]
    num_chars = sum(len(part.text) for part in parts if isinstance(part, TextPart))
    num_media = sum(not isinstance(part, TextPart) for part in parts)
    if num_media > MAX_IMAGES or num_chars > MAX_CHARS:
        raise Problem(413, f"messages: give at most {MAX_CHARS} characters and {MAX_IMAGES} images in all", "too_large")
    return REQUEST_PIXELS // max(1, num_media)


def read_content(service: Service, messages: Sequence[Message]) -> Content:
    """Return the texts and images of user messages as one Content. Blocks. Raises Problem."""
    share = media_share(messages)
    parts: list[Text | Image | Video] = []
    for message in messages:
        for part in message.parts if message.role == "user" else ():
            match part:
                case TextPart():
                    parts += [Text(text=text)] if (text := part.text.strip()) else []
                case ImagePart() | VideoPart():
                    parts.append(read_media(service, url_of(part), share))
    if not parts:
        raise Problem(400, "messages: the user's messages hold neither text nor images", "empty_messages")
    return tuple(sorted(parts, key=lambda part: isinstance(part, Text)))


def read_prompt(service: Service, messages: Sequence[Message]) -> Prompt:
    """Convert messages to a chat prompt with special tokens neutralised. Blocks. Raises Problem."""
    if all(message.role != "user" for message in messages):
        raise Problem(400, "messages: there is no user message", "empty_messages")
    share = media_share(messages)
    images: list[PIL.Image.Image] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            match part:
                case TextPart():
                    content.append({"type": "text", "text": part.text.strip()})
                case ImagePart() | VideoPart():
                    seen = read_media(service, url_of(part), share)
                    if not isinstance(seen, Image) or seen.pixels is None:
                        raise Problem(400, "video_url: show the frames of a video as image_url parts", "no_video")
                    content.append({"type": "image"})
                    images.append(seen.pixels)
        turns.append({"role": message.turn, "content": content})
    return Prompt(seal(turns, SPECIAL_TOKEN), tuple(images))


def read_frames(service: Service, url: str, times_s: Sequence[float], share: int) -> Video | None:
    """Decode the frames of a `data:video/jpeg;base64,…,…` URL; None for another URL. Raises Problem unless each has its time."""
    head = _DATA_URL.match(url[:400])
    if head is None or not head.group().lower().startswith("data:video/jpeg"):
        return None
    frames = url[head.end() :].split(",")
    if len(frames) != len(times_s) or len(frames) > MAX_FRAMES:
        raise Problem(
            400,
            f"media_io_kwargs.video.frames_indices: {len(times_s)} for {len(frames)} frames; give one each, at most {MAX_FRAMES}",
            "bad_frames",
        )
    decoded = [read_media(service, f"data:image/jpeg;base64,{frame}", share // len(frames)) for frame in frames]
    images = [frame.pixels for frame in decoded if isinstance(frame, Image) and frame.pixels is not None]
    if len(images) != len(frames) or len({image.size for image in images}) != 1:
        raise Problem(415, "url: its frames are not images of one size", "bad_file")
    return Video(frames=Frames(tuple(images), tuple(times_s)))


def as_data_url(image: str) -> str:
    """Return base64 without a head, as Jina's clients send it, as a data URL; a URL stays as it is."""
    return image if _URL.match(image[:80]) else f"data:image/*;base64,{image}"


def read_media(service: Service, url: str, share: int, field: str = "url") -> Image | Video:
    """Decode the image or video of a data URL in a child process, up to `share` pixels. Raises Problem that names the field."""
    head = _DATA_URL.match(url[:400])
    if head is None:
        raise Problem(400, f"{field}: give data:image/…;base64,… or data:video/…;base64,…; this server fetches nothing", "no_fetching")
    try:
        packed = "".join(unquote(url[head.end() :]).split()).encode("ascii").translate(_URL_SAFE).rstrip(b"=")
        data = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, f"{field}: its data is not base64", "bad_data_url") from error
    with scratch_folder() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        decoded = service.decode_file(path, num_frames=service.library().num_frames, share=share)
    match decoded.kind:
        case "image":
            return Image(pixels=decoded.images[0])
        case "video":
            return Video(frames=decoded.frames)
    raise Problem(415, f"{field}: holds neither an image nor a video", "bad_file")


def url_of(part: ImagePart | VideoPart) -> str:
    """Return the URL of a part."""
    link = part.image_url if isinstance(part, ImagePart) else part.video_url
    return link if isinstance(link, str) else link.url
