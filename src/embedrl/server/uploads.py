"""Uploads: staged, decoded in full, and handed to the index's writer."""

import asyncio
import secrets
import shutil
from pathlib import Path

from fastapi import UploadFile

from embedrl.server.problem import Problem
from embedrl.server.query import clean
from embedrl.server.sandbox import Decoded
from embedrl.server.schemas import Added, Refused, Uploaded
from embedrl.server.service import Service


async def add_uploads(service: Service, files: list[UploadFile], replaces: str | None) -> Uploaded:
    """Add uploaded files; `replaces` is the key of an uploaded item that the one file takes the place of.

    Raises Problem if none can be used, else unusable ones are returned with the reason.
    """
    if replaces and len(files) != 1:
        raise Problem(422, "replaces: give one file in the place of one item", "bad_replaces")

    async def add(path: Path, name: str, decoded: Decoded | Problem) -> Added | Problem:
        if isinstance(decoded, Problem):
            return decoded
        try:
            return await asyncio.wrap_future(service.librarian.add(path, name, decoded, replaces))
        except Problem as problem:
            path.unlink(missing_ok=True)
            return problem

    staged = await service.work(lambda: _stage(service, files))
    results = await asyncio.gather(*(add(*file) for file in staged))
    items = tuple(result for result in results if isinstance(result, Added))
    problems = [(name, result) for (_, name, _), result in zip(staged, results, strict=True) if isinstance(result, Problem)]
    if not items:
        (_, first), message = problems[0], "; ".join(f"{name}: {problem.message}" for name, problem in problems)
        raise Problem(first.status, message, first.code, retry_after_s=first.retry_after_s)
    return Uploaded(items=items, refused=tuple(Refused(name=name, reason=problem.message) for name, problem in problems))


def _stage(service: Service, files: list[UploadFile]) -> list[tuple[Path, str, Decoded | Problem]]:
    """Stage uploads and decode each in full; unusable files are dropped and returned with their Problem."""
    incoming = service.librarian.prepare()
    staged = [(incoming / secrets.token_hex(16), clean(upload.filename) or "file") for upload in files]

    def decode(path: Path) -> Decoded | Problem:
        try:
            return service.decode_file(path, num_frames=service.library().num_frames, keep=False)
        except Problem as problem:
            path.unlink(missing_ok=True)
            return problem

    try:
        for (path, _), upload in zip(staged, files, strict=True):
            with path.open("wb") as target:
                shutil.copyfileobj(upload.file, target)
        return [(path, name, decode(path)) for path, name in staged]
    except BaseException:
        for path, _ in staged:
            path.unlink(missing_ok=True)
        raise
