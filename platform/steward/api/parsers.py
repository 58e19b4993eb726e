"""Reading request bodies with a bound on their size and depth.

Guarantees that a JSON body is refused, with a 4xx, before it can take more than `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes or
exhaust the stack. Files take another way: see `steward.datasets.uploads`.
"""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from steward.audit.actor import UserError


class BodyTooLarge(UserError):
    """The body is larger than this interface takes."""

    status = 413


class BoundedJSONParser(JSONParser):
    """JSON without NaN and Infinity, in UTF-8, of bounded size and depth."""

    def parse(
        self, stream: BinaryIO, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise BodyTooLarge(f"The body is larger than {limit:,} bytes.", code="body_too_large")
        try:
            return super().parse(io.BytesIO(body), media_type, {**(parser_context or {}), "encoding": "utf-8"})
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
