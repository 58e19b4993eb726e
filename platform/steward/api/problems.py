"""The one shape of every error: RFC 9457 problem details with a stable `code` and the list of all field errors.

Guarantees that whatever a request does wrong is answered with `application/problem+json` and a 4xx, and that no answer
repeats what was sent. Our own defects are left to Django, which answers 500 and logs without payload.

Source: RFC 9457 section 3.1; `code` and `errors` are extension members after section 3.2.
"""

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from compliance.vault import KeyDestroyed
from steward.audit.actor import UserError

MEDIA_TYPE = "application/problem+json"
_CODES = {
    400: "bad_request",
    401: "not_authenticated",
    403: "denied",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "throttled",
}


class FieldProblem(serializers.Serializer[Any]):
    """One field that is wrong: `field` is a path such as `columns.subject`, empty for the body as a whole."""

    field = serializers.CharField(allow_blank=True)
    code = serializers.CharField()
    message = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """RFC 9457 problem details."""

    type = serializers.CharField(help_text="`about:blank`: the title is that of the HTTP status.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Stable and machine-readable.")
    detail = serializers.CharField(help_text="What is wrong and what to do, for a person.")
    errors = FieldProblem(many=True, required=False)


def problem(status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """The body of an error answer."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return body | ({"errors": errors} if errors else {})


def as_problem(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: an answer for what the caller did wrong, None for what we did."""
    body = _describe(error)
    if body is None:
        return None
    headers = {}
    if isinstance(error, exceptions.APIException):
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        if (wait := getattr(error, "wait", None)) is not None:
            headers["Retry-After"] = str(int(wait) + 1)
    return Response(body, status=body["status"], headers=headers, content_type=MEDIA_TYPE)


def _describe(error: Exception) -> dict[str, Any] | None:
    if isinstance(error, UserError):
        return problem(error.status, error.code, str(error))
    if isinstance(error, exceptions.ValidationError):
        errors = _field_errors(error.get_full_details())
        return problem(400, "invalid", "The request is not valid; every field that is wrong is listed.", errors)
    if isinstance(error, Http404 | exceptions.NotFound):
        return problem(404, "not_found", "There is nothing at this address, or you may not see it.")
    if isinstance(error, RequestDataTooBig):
        return problem(413, "body_too_large", "The body is larger than this interface takes.")
    if isinstance(error, MultiPartParserError | SuspiciousOperation):
        return problem(400, "bad_request", "The request cannot be read. Check its headers and its body.")
    if isinstance(error, KeyDestroyed):
        return problem(410, "shredded", "The key of this data was destroyed; it cannot be read again.")
    if isinstance(error, RecursionError):
        return problem(400, "unreadable_body", "The JSON is nested too deeply.")
    if isinstance(error, PermissionDenied):
        return problem(403, "denied", "You may not do this.")
    if isinstance(error, exceptions.APIException):
        return _describe_api_exception(error)
    return None


def _describe_api_exception(error: exceptions.APIException) -> dict[str, Any]:
    status = error.status_code
    code = _CODES.get(status, "error")
    if isinstance(error, exceptions.PermissionDenied) and "CSRF" in str(error.detail):
        return problem(403, "csrf_failed", "A request with a session needs its CSRF token; programs use an API token.")
    if isinstance(error, exceptions.AuthenticationFailed):
        code = "token_invalid"
    if isinstance(error, exceptions.ParseError):
        code = "unreadable_body"
    return problem(status, code, str(error.detail))


def _field_errors(details: Any, path: str = "") -> list[dict[str, str]]:
    """DRF's nested details as a flat list, with the path of each field."""
    if isinstance(details, dict) and set(details) == {"message", "code"} and not isinstance(details["message"], dict):
        field = path.removesuffix("non_field_errors").removesuffix(".")
        return [{"field": field, "code": str(details["code"]), "message": str(details["message"])}]
    if isinstance(details, dict):
        return [found for key, value in details.items() for found in _field_errors(value, f"{path}.{key}".lstrip("."))]
    return [found for value in details for found in _field_errors(value, path)]


def not_found(request: HttpRequest, path: str = "") -> JsonResponse:
    """The answer for addresses under /api/v1 that are none."""
    body = problem(404, "not_found", "There is nothing at this address. /api/v1/docs lists all there is.")
    return JsonResponse(body, status=404, content_type=MEDIA_TYPE)
