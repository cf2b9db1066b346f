"""Request bodies, limited by bytes and by parsed size, and parsed in a thread."""

import difflib
import json
import re
from collections.abc import Callable, Coroutine, Iterable, Set
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.params import Form
from fastapi.routing import APIRoute
from pydantic import BaseModel

from embedrl.server.problem import Problem

MAX_JSON_BYTES = 1024**2
"""Of a JSON body without what its data URLs hold, and of a form that is sent as one string."""
MAX_DATA_URLS = 64
MAX_KEYS = 1_000
"""Of one object; more would each be an error of its own."""
MAX_OBJECTS = 20_000

_MAGIC = rb"iVBORw0KGgo|(?:\\?/|_)9j(?:\\?/|_)|R0lGOD|UklGR|Qk|AAAA|SUkq|TU0A|GkXf|R[wx01]|AAAB[sB]|MCay|RkxW|T2dn|HwcA|Bg4r|LlJN"
"""How files that we read begin, in base64: PNG, JPEG, GIF, WEBP and AVI, BMP, AVIF and HEIF and MP4, TIFF, Matroska; MPEG-TS, MPEG, ASF,
FLV, Ogg, DV, MXF, RM."""
_DATA = re.compile(rb'"(?:data:[^"]*|(?:' + _MAGIC + rb')[A-Za-z0-9+/_=\\-]{4096,})"')
"""A data URL, or a file in base64 without one."""


class _ParsedRequest(Request):
    """A request whose JSON body was read and parsed."""

    content: bytes
    parsed: Any

    async def body(self) -> bytes:
        """Return the raw body."""
        return self.content

    async def json(self) -> Any:
        """Return the parsed body."""
        return self.parsed


class BoundedRoute(APIRoute):
    """A route that parses its body within limits, and refuses a body of another type than it takes.

    Routes of `/api` refuse parameters and form fields that they do not have; those in the shape of other servers ignore them, as those
    servers do.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the request handler."""
        handle = super().get_route_handler()
        dependants = list(_walk(self.dependant))
        parameters = _names(field for dependant in dependants for field in dependant.query_params)
        fields = [field for dependant in dependants for field in dependant.body_params]
        takes_form = any(isinstance(field.field_info, Form) for field in fields)
        names = _names(fields)
        is_own = self.path.startswith("/api/")

        async def bounded(request: Request) -> Response:
            if is_own:
                _check_known(request.query_params, parameters, "parameter")
            subtype = _subtype(request)
            if fields:
                await _check_type(request, subtype, takes_form=takes_form)
            if subtype == "json":
                parsed = _ParsedRequest(request.scope, request.receive)
                parsed.content = await request.body()
                parsed.parsed = await run_in_threadpool(parse_json, parsed.content) if parsed.content else None
                return await handle(parsed)
            if subtype == "x-www-form-urlencoded" and len(await request.body()) > MAX_JSON_BYTES:
                raise Problem(413, f"the form has more than {MAX_JSON_BYTES} bytes: send it as multipart/form-data", "too_large")
            if is_own and takes_form:
                return await _form_checked(request, names, handle)
            return await handle(request)

        return bounded


def _walk(dependant: Dependant) -> Iterable[Dependant]:
    yield dependant
    for part in dependant.dependencies:
        yield from _walk(part)


def _names(fields: Iterable[Any]) -> set[str]:
    """Return the names under which values are sent; a model that stands for several has one for each of its fields."""
    names = set()
    for field in fields:
        kind = field.field_info.annotation
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        names |= {part.alias or name for name, part in kind.model_fields.items()} if is_model else {field.alias}
    return names


def _subtype(request: Request) -> str:
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "")
    subtype = kind.get_content_subtype()
    return "json" if subtype.endswith("+json") else subtype


async def _check_type(request: Request, subtype: str, *, takes_form: bool) -> None:
    """Check that a body is of the type that a route takes. Raises Problem 415, or 422 where JSON is wanted and there is none."""
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise Problem(415, f"Content-Encoding: {encoding[:40]} is not read here: send the body as it is", "wrong_content_type")
    wanted = ("form-data", "x-www-form-urlencoded") if takes_form else ("json",)
    if subtype in wanted:
        return
    content_type = request.headers.get("content-type", "")[:80]
    if takes_form and not content_type:
        return  # an empty form, of which the fields that are missing are named
    if not takes_form and not await request.body():
        raise Problem(422, "the body is empty: send JSON, with Content-Type: application/json", "malformed")
    how = (
        "a form: Content-Type: multipart/form-data or application/x-www-form-urlencoded"
        if takes_form
        else "JSON: Content-Type: application/json"
    )
    raise Problem(
        415, f"send the body as {how}; it came {f'as {content_type}' if content_type else 'without a type'}", "wrong_content_type"
    )


async def _form_checked(request: Request, names: Set[str], handle: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
    async with request.form() as form:
        _check_known(form, names, "field")
        return await handle(request)


def _check_known(sent: Iterable[str], known: Set[str], noun: str) -> None:
    """Raises Problem 422 for a name that is not known."""
    for name in sent:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}" if known else "there is none"
            raise Problem(422, f"{name[:64]!r}: no such {noun}; {hint}", "malformed")


def parse_json(body: bytes) -> Any:
    """Parse a JSON body. Raises Problem 413 if it is too large, 422 if it is not JSON."""
    if len(body) > MAX_JSON_BYTES and _size_without_data(body) > MAX_JSON_BYTES:
        raise Problem(413, f"the JSON has more than {MAX_JSON_BYTES} bytes beside its data URLs", "too_large")
    num_objects = 0

    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal num_objects
        num_objects += 1
        if len(pairs) > MAX_KEYS or num_objects > MAX_OBJECTS:
            raise Problem(413, f"the JSON has more than {MAX_KEYS} keys in an object, or {MAX_OBJECTS} objects", "too_large")
        return dict(pairs)

    try:
        return json.loads(body, object_pairs_hook=read)
    except (ValueError, RecursionError) as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(422, f"the body is no JSON that can be read{place}", "malformed") from error


def _size_without_data(body: bytes) -> int:
    """Return the size of a body in bytes, not counting data URLs and strings of base64."""
    size = len(body)
    for number, match in enumerate(_DATA.finditer(body)):
        if number == MAX_DATA_URLS:
            raise Problem(413, f"the JSON has more than {MAX_DATA_URLS} data URLs", "too_large")
        size -= match.end() - match.start()
    return size
