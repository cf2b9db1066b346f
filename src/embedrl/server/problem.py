"""Error responses (problem details), without paths of this machine or stack traces."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

KINDS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media",
    429: "busy",
    500: "internal",
    503: "unavailable",
    507: "no_space",
}
"""Kind of a problem by its status; all others are `invalid_request`."""


class ProblemDetail(BaseModel):
    """Details of an error."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    """Human-readable message."""
    type: str
    """Machine-readable kind."""
    code: str | None = None


class ProblemAnswer(BaseModel):
    """Error response body, in the shape of OpenAI's API."""

    error: ProblemDetail

    @classmethod
    def of(cls, problem: "Problem") -> "ProblemAnswer":
        """Create the body of a problem."""
        detail = ProblemDetail(message=problem.message, type=KINDS.get(problem.status, "invalid_request"), code=problem.code)
        return cls(error=detail)


class CohereProblem(BaseModel):
    """Error response body, in the shape of Cohere's API."""

    message: str

    @classmethod
    def of(cls, problem: "Problem") -> "CohereProblem":
        """Create the body of a problem."""
        return cls(message=problem.message)


class TEIProblem(BaseModel):
    """Error response body, in the shape of text-embeddings-inference."""

    error: str
    error_type: Literal["Validation", "Overloaded", "Backend"]

    @classmethod
    def of(cls, problem: "Problem") -> "TEIProblem":
        """Create the body of a problem."""
        kind = "Overloaded" if problem.status in (429, 503) else "Backend" if problem.status >= 500 else "Validation"
        return cls(error=problem.message, error_type=kind)


Shape = type[ProblemAnswer] | type[CohereProblem] | type[TEIProblem]
SHAPES: tuple[tuple[str, Shape], ...] = (("/v2", CohereProblem), ("/rerank", TEIProblem), ("/embed", TEIProblem))
"""First steps of a path -> the shape of its errors; all others have OpenAI's."""


def shape_of(path: str) -> Shape:
    """Return the shape of a path's errors."""
    return next((shape for beginning, shape in SHAPES if f"{path}/".startswith(f"{beginning}/")), ProblemAnswer)


class Problem(Exception):
    """A refused request. `status` is the HTTP status."""

    def __init__(self, status: int, message: str, code: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after_s = status, message, code, retry_after_s

    def body(self, path: str) -> dict[str, Any]:
        """Response body at a path, as JSON types."""
        return shape_of(path).of(self).model_dump()

    @property
    def headers(self) -> dict[str, str]:
        """Response headers."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def internal_problem() -> Problem:
    """Return the Problem of a fault of the server, of which nothing may reach the client."""
    return Problem(500, "something went wrong here; the server's log says what")


STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503, 507)


def error_responses(path: str) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a path for the OpenAPI description: every route may answer with any of them."""
    return {status: {"model": shape_of(path)} for status in STATUSES}
