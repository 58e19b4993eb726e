"""The OpenAPI description and the page that shows it, under the same content policy as everything else."""

from typing import Any

from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_FIELD = {
    "type": "object",
    "required": ["field", "code", "message"],
    "properties": {"field": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"}},
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details: every error of this interface has this shape.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable and machine-readable."},
        "detail": {"type": "string", "description": "What is wrong and what to do."},
        "errors": {"type": "array", "items": _FIELD, "description": "Every field that is wrong."},
    },
}


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Adds the one error answer to every operation."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = {"description": "What went wrong.", "content": _CONTENT}
    return result


class Description(SpectacularJSONAPIView):
    """/api/v1/openapi.json"""


class DocsPage(SpectacularSwaggerSplitView):
    """/api/v1/docs: the page and, at the same address with `?script`, its script; nothing is inline."""

    template_name = "api/docs.html"
    url_name = "api:openapi"
