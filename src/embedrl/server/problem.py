"""Error responses (problem details), without paths of this machine or stack traces."""

from typing import Any

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


class Problem(Exception):
    """A refused request. `status` is the HTTP status."""

    def __init__(self, status: int, message: str, code: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after_s = status, message, code, retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        """Response body, as JSON types."""
        detail = ProblemDetail(message=self.message, type=KINDS.get(self.status, "invalid_request"), code=self.code)
        return ProblemAnswer(error=detail).model_dump()

    @property
    def headers(self) -> dict[str, str]:
        """Response headers."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503, 507)
RESPONSES: dict[int | str, dict[str, Any]] = {status: {"model": ProblemAnswer} for status in STATUSES}
"""For the OpenAPI description: every route may answer with any of them."""
