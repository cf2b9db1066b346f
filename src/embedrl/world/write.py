"""The world as files: PNG and JPEG images, MP4 clips, PDF pages, and a pairs.jsonl."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from embedrl.data.sample import Item, Pair
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError, StoreError, unreadable
from embedrl.media.content import Image, Page, Part, Text, Video, content_key
from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.media.video import save_video
from embedrl.world.clips import FPS
from embedrl.world.tasks import TASKS, AnySide, make_pairs

PAIRS = "pairs.jsonl"


class WrittenPair(BaseModel):
    """A line of pairs.jsonl. Paths are relative to its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    pair: Pair
    query_truth: TCoT
    target_truth: TCoT
    negative_truths: tuple[TCoT, ...]


def make_world(folder: Path, num_pairs: int, seed: int = 0, split: str = "test") -> int:
    """Write `num_pairs` pairs, spread evenly over the tasks, with all their files. Returns the number of media files.

    Two runs with one seed write identical bytes. Raises ConfigError for fewer than one pair, StoreError for a used folder.
    """
    if num_pairs < 1:
        raise ConfigError(f"pairs={num_pairs}: give at least 1")
    if (folder / PAIRS).exists():
        raise StoreError(f"{str(folder)!r} already holds a world ({PAIRS}): choose an empty folder")
    lines, names = [], list(TASKS)
    for index, name in enumerate(names):
        share = num_pairs // len(names) + (index < num_pairs % len(names))
        for made in make_pairs(split, seed, [name], share) if share else ():
            negatives = tuple(_write_side(side, folder) for side in made.negatives)
            pair = Pair(task=name, query=_write_side(made.query, folder), target=_write_side(made.target, folder), negatives=negatives)
            truths = tuple(side.truth for side in made.negatives)
            line = WrittenPair(pair=pair, query_truth=made.query.truth, target_truth=made.target.truth, negative_truths=truths)
            lines.append(line.model_dump_json())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAIRS).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return sum(1 for path in folder.rglob("*") if path.is_file()) - 1


def read_world(folder: Path) -> list[WrittenPair]:
    """Read what `make_world` wrote, with paths made absolute. Raises StoreError naming a line that cannot be read."""
    try:
        lines = (folder / PAIRS).read_text("utf-8").splitlines()
    except OSError as error:
        raise unreadable(folder / PAIRS, error) from error
    pairs = []
    for number, line in enumerate(lines, 1):
        try:
            pairs.append(WrittenPair.model_validate(_absolute(json.loads(line), folder.resolve())))
        except ValueError as error:
            raise StoreError(f"{str(folder / PAIRS)!r}, line {number}: {error}") from error
    return pairs


def _absolute(value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return {key: str(folder / inner) if key == "path" and inner else _absolute(inner, folder) for key, inner in value.items()}
    return [_absolute(inner, folder) for inner in value] if isinstance(value, list) else value


def _write_side(side: AnySide, folder: Path) -> Item:
    item = side.item
    return item.model_copy(update={"content": tuple(_write_part(part, folder) for part in item.content)})


def _write_part(part: Part, folder: Path) -> Part:
    """Write a part under a content-addressed name (equal parts share a file) and return it with a relative path."""
    if isinstance(part, Text):
        return part
    key = content_key((part,))[:16]
    path = (
        folder
        / {"image": f"images/{key}.{'png' if int(key, 16) % 2 else 'jpg'}", "video": f"videos/{key}.mp4", "page": f"documents/{key}.pdf"}[
            part.kind
        ]
    )
    relative = path.relative_to(folder)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        match part:
            case Image(pixels=pixels) if pixels is not None:
                save_image(pixels, path)
            case Page(pixels=pixels) if pixels is not None:
                save_pdf([pixels], path)
            case Video(frames=frames) if frames is not None:
                save_video(frames, path, fps=FPS)
    return {"image": Image, "video": Video, "page": Page}[part.kind](path=relative)
