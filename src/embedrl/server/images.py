"""JPEG renderings of items: still, page or frame, optionally with evidence; decoded in a child process."""

import io

import PIL.Image

from embedrl.data.evidence import Verification, draw_boxes
from embedrl.index.hit import tcot_of
from embedrl.index.row import Row
from embedrl.index.units import unit_of
from embedrl.media.content import Image, Page, Part, Text, Video
from embedrl.server.problem import Problem
from embedrl.server.sandbox import Decoded
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service

MAX_SIDE = 4_096


def item_image(service: Service, library: ServedIndex, key: str, max_side: int) -> bytes:
    """Return an item's image; of a video, the middle frame. Raises Problem 404 for a text."""
    return _jpeg(still(service, library, library.row(key)), max_side)


def overlay(service: Service, library: ServedIndex, key: str, max_side: int) -> bytes:
    """Return an item's image with the boxes of its T-CoT drawn."""
    row = library.row(key)
    image = _fit(still(service, library, row), max_side)
    tcot = tcot_of(row)
    verification = Verification.model_validate_json(row.verification) if row.verification else None
    return _jpeg(draw_boxes(image, tcot.evidence, verification) if tcot else image, max_side)


def frame(service: Service, library: ServedIndex, key: str, number: int, max_side: int) -> bytes:
    """Return a frame of a video, by the 1-based number that evidence uses. Raises Problem 404 if there is none."""
    row = library.row(key)
    if row.modality != "video" or not 1 <= number <= len(row.frame_times_s):
        raise Problem(404, "there is no such frame", "no_such_frame")
    frames = _decode(service, library, key).images
    if number > len(frames):
        raise Problem(404, "there is no such frame", "no_such_frame")
    return _jpeg(frames[number - 1], max_side)


def medium(service: Service, library: ServedIndex, key: str) -> Part:
    """Return a decoded item of the index as a query part. Raises Problem 404, 415."""
    row = library.row(key)
    if row.modality == "text":
        return Text(text=row.text)
    decoded = _decode(service, library, key)
    if row.modality == "video":
        return Video(frames=decoded.frames)
    return Page(pixels=decoded.images[0]) if row.modality == "page" else Image(pixels=decoded.images[0])


def still(service: Service, library: ServedIndex, row: Row) -> PIL.Image.Image:
    """Decode an item's image; of a video, the middle frame. Raises Problem 404 for a text."""
    if row.modality == "text":
        raise Problem(404, "a text has no image", "no_picture")
    frames = _decode(service, library, row.place.key).images
    return frames[len(frames) // 2]


def _decode(service: Service, library: ServedIndex, key: str) -> Decoded:
    place, file = library.file(key)
    row = library.row(key)
    unit = unit_of(row)
    number, span_s = unit.number if row.modality == "image" else place.page, (unit.start_s, unit.end_s)
    try:
        return service.decode_file(file.path, number=number, span_s=span_s, num_frames=library.num_frames, is_indexed=True)
    except Problem as problem:  # the client's request was fine
        if problem.status != 415:
            raise
        raise Problem(404, f"there is no image: {problem.message}", "no_picture") from problem
    finally:
        file.close()


def _fit(image: PIL.Image.Image, max_side: int) -> PIL.Image.Image:
    small = image.copy()
    small.thumbnail((max_side, max_side))
    return small


def _jpeg(image: PIL.Image.Image, max_side: int) -> bytes:
    buffer = io.BytesIO()
    _fit(image, max_side).convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
