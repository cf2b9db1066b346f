"""Item routes: metadata, file, images; upload and deletion."""

import asyncio
import hashlib
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi import Query as Parameter
from fastapi.responses import Response

from embedrl.media.store import HEAD_BYTES, audio_format, container_format, document_format, still_format
from embedrl.media.video_formats import CONTAINERS
from embedrl.server import crop_checks, images
from embedrl.server.allowed_folders import OpenFile
from embedrl.server.bodies import BoundedRoute
from embedrl.server.file_response import FileResponse, tagged
from embedrl.server.problem import Problem
from embedrl.server.query import KEY
from embedrl.server.schemas import CropsChecked, ItemShown, Removed, Uploaded
from embedrl.server.service import Service
from embedrl.server.uploads import add_uploads

MAX_FILES = 50
_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
    **{
        name: f"application/vnd.openxmlformats-officedocument.{kind}"
        for name, kind in (
            ("DOCX", "wordprocessingml.document"),
            ("PPTX", "presentationml.presentation"),
            ("XLSX", "spreadsheetml.sheet"),
        )
    },
    "EPUB": "application/epub+zip",
    "HTML": "text/plain; charset=utf-8",
    "EML": "text/plain; charset=utf-8",
    "MBOX": "text/plain; charset=utf-8",
    "RTF": "application/rtf",
    "ODT": "application/vnd.oasis.opendocument.text",
    "ODS": "application/vnd.oasis.opendocument.spreadsheet",
    "ODP": "application/vnd.oasis.opendocument.presentation",
    **{name: container.content_type for name, container in CONTAINERS.items()},
}
_AUDIO_TYPES = {
    "mov": "audio/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "asf": "audio/x-ms-wma",
}
_FIXED = {"Cache-Control": "private, max-age=3600"}
_SANDBOXED = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, no-cache"}
_NOT_MODIFIED = {"description": "Not modified."}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "An image."}, 304: _NOT_MODIFIED}
_ANY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {}}, "description": "The file."},
    206: {"content": {"*/*": {}}, "description": "A range of the file."},
    304: _NOT_MODIFIED,
    416: {"content": {"text/plain": {}}, "description": "Range not satisfiable."},
}

Key = Annotated[str, PathParameter(pattern=KEY)]
ReasonerId = Annotated[str | None, Parameter(max_length=40)]
Side = Annotated[int, Parameter(ge=16, le=images.MAX_SIDE)]


def item_routes(service: Service) -> APIRouter:
    """Create the router of a service."""
    router = APIRouter(prefix="/api/items", tags=["items"], route_class=BoundedRoute)

    async def jpeg(request: Request, make: Callable[[], bytes]) -> Response:
        content = await service.work(make)
        return tagged(request, content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', "image/jpeg", _FIXED)

    @router.get("/{key}")
    async def item(key: Key, reasoner: ReasonerId = None) -> ItemShown:
        """Get an item."""
        library = service.library(reasoner)
        return await service.work(lambda: library.show_item(key))

    @router.get("/{key}/thumbnail", response_class=Response, responses=_JPEG)
    async def thumbnail(request: Request, key: Key) -> Response:
        """Thumbnail of an item, at most 256 pixels a side."""
        return await jpeg(request, lambda: _thumbnail(service, key))

    @router.get("/{key}/picture", response_class=Response, responses=_JPEG)
    async def picture(request: Request, key: Key, max_side: Side = 1280) -> Response:
        """Image of an item: the still, the rendered page, or the middle frame."""
        return await jpeg(request, lambda: images.item_image(service, service.library(), key, max_side))

    @router.get("/{key}/overlay", response_class=Response, responses=_JPEG)
    async def overlay(request: Request, key: Key, max_side: Side = 1280, reasoner: ReasonerId = None) -> Response:
        """Image of an item with the boxes of its T-CoT; unverified ones are dashed."""
        library = service.library(reasoner)
        return await jpeg(request, lambda: images.overlay(service, library, key, max_side))

    @router.get("/{key}/frames/{number}", response_class=Response, responses=_JPEG)
    async def frame(request: Request, key: Key, number: Annotated[int, PathParameter(ge=1, le=10_000)], max_side: Side = 640) -> Response:
        """Frame of a video, numbered as in the evidence (1-based)."""
        return await jpeg(request, lambda: images.frame(service, service.library(), key, number, max_side))

    @router.get("/{key}/crops")
    async def crops(key: Key, reasoner: ReasonerId = None) -> CropsChecked:
        """Compare the crop of each box of an item's T-CoT with the box's name."""
        library = service.library(reasoner)
        return await service.work(lambda: crop_checks.check(service, library, key))

    @router.get("/{key}/media", response_class=Response, responses=_ANY)
    async def media(key: Key) -> FileResponse:
        """The item's file; supports Range requests."""
        file, kind = await service.work(lambda: _file(service, key))
        return FileResponse(file, kind, _SANDBOXED)

    @router.post("", status_code=201)
    async def upload(
        file: Annotated[list[UploadFile], File(description="Images, videos, PDFs, texts.", max_length=MAX_FILES)],
        replaces: Annotated[str | None, Form(pattern=KEY, description="Key of an uploaded item that goes.")] = None,
    ) -> Uploaded:
        """Upload files: usable ones are durable and searchable when this returns, others are listed with the reason. T-CoTs follow."""
        return await add_uploads(service, file, replaces)

    @router.delete("/{key}")
    async def delete(key: Key) -> Removed:
        """Delete an uploaded item."""
        return Removed(removed=await asyncio.wrap_future(service.librarian.remove(key)))

    return router


def media_type(name: str, head: bytes) -> str:
    """Return the content type of a file by its first bytes: nothing that a browser would run."""
    if audio := audio_format(Path(name).suffix, head):
        return _AUDIO_TYPES[audio]
    medium = still_format(head) or container_format(head) or document_format(Path(name).suffix, head)
    if medium:
        by_name = mimetypes.guess_type(name)[0]
        return by_name if medium in ("mov", "matroska") and by_name in ("video/mp4", "video/webm", "video/quicktime") else _TYPES[medium]
    return "application/pdf" if b"%PDF-" in head else "text/plain; charset=utf-8"


def _file(service: Service, key: str) -> tuple[OpenFile, str]:
    _, file = service.library().file(key)
    try:
        return file, media_type(file.name, file.read(HEAD_BYTES))
    except OSError as error:
        file.close()
        raise Problem(404, "the file of this item cannot be read", "file_changed") from error


def _thumbnail(service: Service, key: str) -> bytes:
    if not (small := service.library().row(key).thumbnail):
        raise Problem(404, "a text has no image", "no_picture")
    return small
