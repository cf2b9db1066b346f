"""The FastAPI application: routes, error handlers, page."""

import hashlib
import hmac
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

import embedrl
from embedrl import log
from embedrl.errors import NO_SPACE, ConfigError, EmbedRLError, MediaError, StoreError
from embedrl.index.failures import list_failures
from embedrl.server.ask_routes import MAX_QUESTION_CHARS, ask_routes
from embedrl.server.bodies import BoundedRoute
from embedrl.server.dialects import dialect_routes
from embedrl.server.file_response import tagged
from embedrl.server.item_routes import item_routes
from embedrl.server.malformed import say_malformed
from embedrl.server.metrics import MEDIA_TYPE
from embedrl.server.openai import compatible_routes
from embedrl.server.problem import Problem, error_responses
from embedrl.server.schemas import Failures, FailureShown, Login, RequestLimits, ServedReasoner, Status
from embedrl.server.search_routes import search_routes
from embedrl.server.security import COOKIE, SecurityMiddleware, cookie_value
from embedrl.server.service import Service

PAGE = Path(__file__).parent / "page"
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}
MAX_FAILURES = 20


class Health(BaseModel):
    """Liveness or readiness of the server."""

    status: str


def make_app(service: Service) -> FastAPI:
    """Create the application; its lifespan starts and stops the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="embedrl",
        version=embedrl.__version__,
        description="Search that reasons before it embeds, and shows its evidence.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=error_responses("/"),
    )
    app.router.route_class = BoundedRoute
    app.add_middleware(
        SecurityMiddleware,
        settings=service.settings,
        metrics=service.metrics,
        pixels=service.pixels,
        wrong_tokens=service.wrong_tokens,
    )
    _add_errors(app, service)
    for routes in (search_routes, ask_routes, item_routes, compatible_routes, dialect_routes):
        app.include_router(routes(service))
    _add_status(app, service)
    _add_page(app)
    return app


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["status"])
    async def health() -> Health:
        """Liveness probe."""
        return Health(status="ok")

    @app.get("/ready", tags=["status"])
    async def ready() -> Health:
        """Readiness probe: searches are answered."""
        if not service.is_ready:
            raise Problem(503, "starting", "starting", retry_after_s=1)
        if not service.libraries[0].index.directory.is_dir():
            raise Problem(503, "the index is gone: make it again with `embedrl index`", "no_index", retry_after_s=5)
        return Health(status="ready")

    @app.get("/metrics", tags=["status"], response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Prometheus metrics."""
        return PlainTextResponse(service.metrics.text(), media_type=MEDIA_TYPE)

    @app.get("/api/status", tags=["status"])
    async def status() -> Status:
        """Contents of the index, models and progress of indexing."""
        return await service.work(lambda: _status(service))

    @app.post("/api/login", status_code=204, tags=["status"])
    async def login(credentials: Login) -> Response:
        """Store the token in an HttpOnly cookie."""
        token = service.settings.token
        if token is None:
            return Response(status_code=204)
        if not hmac.compare_digest(credentials.token.encode("utf-8", "replace"), token.encode()):
            await service.wrong_tokens.wait()
            raise Problem(401, "this is not the server's token", "wrong_token")
        response = Response(status_code=204)
        response.set_cookie(COOKIE, cookie_value(token), httponly=True, samesite="strict", path="/", max_age=30 * 86_400)
        return response


def _status(service: Service) -> Status:
    library = service.libraries[0]
    failures = list_failures(library.index) if library.index.directory.is_dir() else []
    stats = library.stats
    return Status(
        title=service.roots.folders[0].name,
        num_items=len(library.catalogue.places),
        num_places=sum(map(len, library.catalogue.places.values())),
        modalities=stats.modalities if stats else {},
        num_without_tcot=stats.num_without_tcot if stats else 0,
        # The page offers them in this order, and takes the last: before RL, then after.
        reasoners=tuple(ServedReasoner(id=served.id, name=served.label) for served in reversed(service.libraries) if served.reasoner),
        embedder=service.embedder_label,
        think=library.reasoner is not None,
        gate=service.gate is not None,
        gated=service.is_gated,
        indexing=service.librarian.state,
        failures=Failures(
            count=len(failures),
            first=tuple(
                FailureShown(
                    path=library.shown(failure.path),
                    page=failure.page,
                    reason=service.roots.without_paths(failure.reason),
                )
                for failure in failures[:MAX_FAILURES]
            ),
        ),
        version=library.index.version,
        uploads=service.librarian.is_writable,
        blind=service.is_blind,
        limits=RequestLimits(max_upload_bytes=service.settings.max_upload_bytes, max_question_chars=MAX_QUESTION_CHARS),
    )


def _add_page(app: FastAPI) -> None:
    pages = {path.name: path for path in PAGE.iterdir() if path.suffix in PAGE_TYPES} if PAGE.is_dir() else {}

    def send(request: Request, name: str) -> Response:
        if name not in pages:
            raise Problem(404, "there is no such file", "no_such_file")
        content = pages[name].read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return tagged(request, content, etag, PAGE_TYPES[pages[name].suffix], {"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        return send(request, "index.html")

    @app.get("/page/{name}", include_in_schema=False)
    def static(request: Request, name: str) -> Response:
        return send(request, name)


def _add_errors(app: FastAPI, service: Service) -> None:
    def answer(request: Request, problem: Problem) -> JSONResponse:
        return JSONResponse(problem.body(request.url.path), problem.status, headers=problem.headers)

    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> JSONResponse:
        return answer(request, problem)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, Problem(422, say_malformed(error).encode("utf-8", "replace").decode(), "malformed"))

    @app.exception_handler(HTTPException)
    async def wrong(request: Request, error: HTTPException) -> JSONResponse:
        allowed = (error.headers or {}).get("Allow", "")
        said = {404: "there is no such path; /openapi.json lists those that there are", 405: f"{request.method}: use {allowed}"}
        problem = Problem(error.status_code, said.get(error.status_code, str(error.detail)))
        return JSONResponse(problem.body(request.url.path), problem.status, headers={**problem.headers, **(error.headers or {})})

    @app.exception_handler(OSError)
    async def unwritten(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in NO_SPACE:
            raise error
        return answer(request, Problem(507, "there is no space left where the server writes", "no_space"))

    @app.exception_handler(EmbedRLError)
    async def failed(request: Request, error: EmbedRLError) -> JSONResponse:
        message = service.roots.without_paths(str(error))
        if isinstance(error, ConfigError):
            return answer(request, Problem(422, message, "wrong_use"))
        if isinstance(error, MediaError):
            return answer(request, Problem(415, message, "bad_file"))
        log.error(f"{request.method} {request.url.path}: {error}")
        if isinstance(error, StoreError) and error.errno in NO_SPACE:
            return await unwritten(request, error)
        kind: dict[str, Any] = {"code": "failed", "retry_after_s": 5}
        return answer(request, Problem(503, "a model or the index does not answer now; the server's log says why", **kind))
