"""Errors that a client sees, in OpenAI's form: {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """A refused request."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})


KINDS = {404: "not_found_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


def body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, object]:
    kind = KINDS.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def answer(error: ApiError) -> Response:
    content = body(error.status, error.message, error.param, error.code)
    return JSONResponse(content, error.status, headers=error.headers)


async def on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return answer(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Unknown path or method, in the same form."""
    assert isinstance(error, HTTPException)
    words = {
        404: f"there is no {request.url.path[:100]} here; see /v1/models",
        405: f"{request.method} is not a method of {request.url.path[:100]}",
    }
    message = words.get(error.status_code, error.detail)
    return answer(ApiError(error.status_code, message, headers=error.headers))


def invalid(error: ValidationError) -> ApiError:
    """The first fault of a request body, named by field; what the client sent is not repeated."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "this server does not know the field: leave it out"
    return ApiError(400, f"{path[:200] or 'body'}: {message}", param=path[:200] or None)
