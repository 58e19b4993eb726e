"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`.

Guarantees that whatever a request does wrong is answered in that shape, with the status by which the official client
chooses its exception, and that no answer repeats what was sent.

Source: the error object of OpenAI's API reference; `openai/_exceptions.py` and `_make_status_error` of the client.
"""

from typing import Any

from django.http import HttpRequest, JsonResponse

from steward.audit.actor import UserError

_TYPES = {401: "invalid_request_error", 429: "requests", 500: "server_error", 503: "server_error"}
#: What a serving process refuses a request for, and the status, code and parameter under which clients know it.
_SERVING: dict[str, tuple[int, str, str | None]] = {
    "serve.long": (400, "context_length_exceeded", "messages"),
    "serve.large": (400, "context_length_exceeded", "messages"),
    "serve.request": (400, "invalid_value", None),
    "model.template": (400, "invalid_value", "messages"),
    "serve.tools": (400, "unsupported_parameter", "tools"),
    "model.tools": (400, "unsupported_parameter", "tools"),
    "serve.busy": (503, "overloaded", None),
    "adapter.room": (503, "overloaded", None),
}


class RequestError(UserError):
    """A request that cannot be carried out; `param` names the part that is wrong."""

    def __init__(self, message: str, *, code: str | None, status: int = 400, param: str | None = None) -> None:
        super().__init__(message, code=code or "invalid")
        self.status = status
        self.param = param
        self.retry_seconds: int | None = None
        self.shown_code = code


class TooMany(RequestError):
    """A bound of the token, or of the house, is reached for now."""

    def __init__(self, message: str, *, retry_seconds: int, status: int = 429) -> None:
        code = "rate_limit_exceeded" if status == 429 else "overloaded"
        super().__init__(message, code=code, status=status)
        self.retry_seconds = retry_seconds


def body_of(error: UserError) -> tuple[int, dict[str, Any]]:
    """HTTP status and error object."""
    status, code, param = error.status, error.code, None
    if isinstance(error, RequestError):
        code, param = error.shown_code or "", error.param
    elif error.code in _SERVING:
        status, code, param = _SERVING[error.code]
    kind = _TYPES.get(status, "invalid_request_error")
    return status, {"error": {"message": str(error), "type": kind, "param": param, "code": code or None}}


def answer_of(error: UserError) -> JsonResponse:
    """The answer for what the caller did wrong, or has to wait for."""
    status, body = body_of(error)
    response = JsonResponse(body, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    wait = error.retry_seconds if isinstance(error, RequestError) else None
    if wait is None and status == 503:
        wait = 2
    if wait is not None:
        response["Retry-After"] = str(wait)
    return response


def not_found(request: HttpRequest) -> JsonResponse:
    """The answer for addresses under /v1 that are none."""
    message = f"Unknown address for {request.method}. There are /v1/models and /v1/chat/completions."
    return answer_of(RequestError(message, code=None, status=404))
