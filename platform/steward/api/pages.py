"""Cursor pages: `{"data": […], "has_more": …, "next": …}`, stable while rows come and go.

Guarantees that going on from `next` neither repeats nor skips a row that was there all the time: a page goes on after
the sort key of the last row, not at an offset. Does not show rows that sort before where the reader already is.

Example:
    GET /api/v1/datasets?limit=20  →  {"data": […], "has_more": true, "next": "/api/v1/datasets?limit=20&cursor=…"}
"""

import base64
import binascii
import json
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import ValidationError as InvalidValue
from django.db.models import Model, Q, QuerySet
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

PAGE_PARAMETERS = [
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    OpenApiParameter("cursor", str, description="From `next` of the page before. Opaque."),
]


def page_of(item: Any, name: str) -> Any:
    """How the OpenAPI description shows a page of `item`."""
    return inline_serializer(
        name=f"{name}Page",
        fields={
            "data": item(many=True),
            "has_more": serializers.BooleanField(),
            "next": serializers.CharField(allow_null=True, help_text="Address of the next page; null on the last."),
        },
    )


def page(request: Request, rows: QuerySet[Any], serializer: Any, order: tuple[str, ...], **context: Any) -> Response:
    """Answers with one page of `rows`.

    Args:
        serializer: class that turns a row into JSON.
        order: field names, `-` for descending, the last one unique; e.g. ("-created_at", "-id").

    Raises:
        ValidationError: `limit` is out of range or `cursor` is not one of ours.
    """
    limit = _limit(request.query_params.get("limit"))
    cursor = request.query_params.get("cursor")
    if cursor is not None:
        rows = rows.filter(_after(order, _decode(cursor, rows.model, order)))
    found = list(rows.order_by(*order)[: limit + 1])
    has_more = len(found) > limit
    found = found[:limit]
    following = None
    if has_more:
        kept = [(key, value) for key, value in request.query_params.items() if key != "cursor"]
        following = f"{request.path}?{urlencode([*kept, ('cursor', _encode(found[-1], order))])}"
    data = serializer(found, many=True, context={"request": request, **context}).data
    return Response({"data": data, "has_more": has_more, "next": following})


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise ValidationError({"limit": f"Give a whole number from 1 to {MAX_LIMIT}."}, code="out_of_range")
    return int(text)


def _encode(row: Model, order: tuple[str, ...]) -> str:
    values = [row._meta.get_field(name.lstrip("-")).value_to_string(row) for name in order]
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _decode(cursor: str, model: type[Model], order: tuple[str, ...]) -> list[Any]:
    try:
        values = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(order) or not all(isinstance(v, str) for v in values):
            raise ValueError
        fields = [model._meta.get_field(name.lstrip("-")) for name in order]
        return [field.clean(value, None) for field, value in zip(fields, values, strict=True)]
    except (ValueError, RecursionError, binascii.Error, InvalidValue):
        raise ValidationError(
            {"cursor": "Not a cursor of this list. Start again without one."}, code="invalid"
        ) from None


def _after(order: tuple[str, ...], values: list[Any]) -> Q:
    """The rows that sort after the given key: a lexicographic comparison, field by field."""
    condition = Q()
    equal = Q()
    for name, value in zip(order, values, strict=True):
        field = name.lstrip("-")
        comparison = "lt" if name.startswith("-") else "gt"
        condition |= equal & Q(**{f"{field}__{comparison}": value})
        equal &= Q(**{field: value})
    return condition
