"""Log lines carry no payload."""

import logging
import sys
from types import SimpleNamespace

from steward.embedded import EmbeddedDatabaseError
from steward.logs import PayloadFreeFormatter


def logged(error: Exception, cause: Exception | None = None) -> str:
    try:
        raise error from cause
    except type(error):
        record = logging.LogRecord("steward.runs", logging.ERROR, __file__, 1, "it failed", None, sys.exc_info())
    return PayloadFreeFormatter().format(record)


def test_what_a_library_says_about_a_value_is_not_logged() -> None:
    line = logged(ValueError("John Smith is no number"), KeyError("Jane Smith"))
    assert "Smith" not in line
    assert "ValueError at" in line
    assert "caused by KeyError" in line


def test_our_own_errors_keep_their_words() -> None:
    assert "port 5432 is taken" in logged(EmbeddedDatabaseError("port 5432 is taken"))


def test_a_failed_request_is_named_by_its_view_and_not_by_its_path() -> None:
    record = logging.LogRecord(
        "django.request", logging.WARNING, __file__, 1, "%s: %s", ("Not Found", "/a/secret"), None
    )
    record.status_code = 404
    record.request = SimpleNamespace(method="GET", resolver_match=SimpleNamespace(view_name="web:link"))
    line = PayloadFreeFormatter().format(record)
    assert "404 GET web:link" in line
    assert "secret" not in line
