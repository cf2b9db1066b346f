"""Digest of the token ids of fixed probes: part of a fingerprint, since library versions may tokenise differently.

transformers 5.10 and later, for example, wrap each video in one more pair of vision tokens than 5.9 did. The digest of a model's tokens
is kept beside its weights when they are saved. As long as it holds, it leaves no mark in the name; otherwise the name changes, so that
vectors and T-CoTs of two tokenisations never meet under one name, and the change is said.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import transformers

from embedrl import log
from embedrl.data.sample import Item, Role
from embedrl.media.content import Frames, Image, Text, Video

TOKENS = "tokens.sha256"
"""File beside the weights with the digest of the tokens that the model was saved with."""
_TEXT = "Where's the 2nd café? 尺寸 größe 😀\n\t <b>x</b>  12,345.6 naïve"
_SIZE = (64, 48)


def probe_items() -> list[Item]:
    """Return a text, an image and a video of four frames, always the same."""
    frames = tuple(PIL.Image.new("RGB", _SIZE, (shade, 255 - shade, 40)) for shade in (0, 80, 160, 240))
    return [
        Item(content=(Text(text=_TEXT),), instruction="Find the image.", role=Role.QUERY_TEXT_TO_IMAGE),
        Item(content=(Image(pixels=frames[0]),), role=Role.TARGET_IMAGE),
        Item(content=(Video(frames=Frames(frames, (0.0, 0.5, 1.0, 1.5))),), role=Role.TARGET_VIDEO),
    ]


def tokens_digest(rows: Sequence[Sequence[int]]) -> str:
    """Return the sha256 of the token ids of the probes, as 64 hex digits."""
    return hashlib.sha256(json.dumps([list(row) for row in rows]).encode()).hexdigest()


def tokens_mark(folder: Path, digest: str) -> str:
    """Return the fingerprint's suffix for the tokens: "" if they are those that the weights were saved with.

    Warns if the folder names other tokens.
    """
    path = folder / TOKENS
    saved = path.read_text("utf-8").strip() if path.is_file() else ""
    if saved == digest:
        return ""
    if saved:
        log.warn(
            f"{str(folder)!r}: transformers {transformers.__version__} makes other tokens of the same input than the version that the "
            "model was saved with: its results differ, and what is kept of it before is not used; install that version, or train again"
        )
    return f"-tokens{digest[:6]}"


def save_tokens(folder: Path, digest: str) -> None:
    """Keep the digest beside the weights."""
    (folder / TOKENS).write_text(f"{digest}\n", "utf-8")
