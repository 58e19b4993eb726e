"""Log lines without payload.

Guarantees: a logged exception leaves its type, the file and line where it arose and the chain of its causes, but not
its message, since messages of libraries repeat the value they stumbled on. Messages of Steward's own errors (`steward`,
`compliance`, `domains`, `trainers`) are kept: the house rules forbid payload in them. Does not: censor what a caller
writes into a log message; that is for the reviewer.

Example line:
    2026-05-07T10:00:00Z ERROR steward.runs the worker lost its trainer  DataError at psycopg/cursor.py:97 in execute
"""

import logging
import time
import traceback
from types import TracebackType
from typing import ClassVar

_OWN_PACKAGES = frozenset({"steward", "compliance", "domains", "trainers"})


class PayloadFreeFormatter(logging.Formatter):
    """One line per event in UTC; exceptions without their messages."""

    converter = time.gmtime
    default_time_format: ClassVar[str] = "%Y-%m-%dT%H:%M:%SZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", self.default_time_format)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line; of a failed request the view's name and not its path, which may carry a one-time token."""
        request = getattr(record, "request", None)
        if request is not None:
            match = getattr(request, "resolver_match", None)
            place = match.view_name or "unnamed view" if match else "no view"
            record.message = f"{getattr(record, 'status_code', '')} {request.method} {place}".strip()
        return super().formatMessage(record)

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Return the exception and its causes, outermost first, each as its type and place."""
        parts: list[str] = []
        error = ei[1]
        while error is not None and len(parts) < 8:
            parts.append(_describe(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return " caused by ".join(parts)


def _describe(error: BaseException) -> str:
    kind = type(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = ""
    if frames:
        last = frames[-1]
        place = f" at {'/'.join(last.filename.split('/')[-2:])}:{last.lineno} in {last.name}"
    message = f": {error}" if kind.__module__.split(".")[0] in _OWN_PACKAGES else ""
    return f"{kind.__name__}{place}{message}"
