"""Small pieces of HTML that lists and details show: states as pills, digests, lists of facts."""

from typing import Any

from django.utils.html import format_html, format_html_join

_GOOD = {"approved", "succeeded", "done", "passed", "active", "redacted"}
_BAD = {"failed", "rejected", "refused", "error", "cancelled", "denied", "destroyed", "revoked"}
_WAITING = {"awaiting", "requested", "imported"}


def pill(value: str, label: str) -> Any:
    """A state in its colour; the word says the same, so that colour is never needed."""
    kind = "good" if value in _GOOD else "bad" if value in _BAD else "warn" if value in _WAITING else "info"
    return format_html('<span class="c-pill c-{}">{}</span>', kind, label)


def digest(value: str) -> Any:
    """A digest in a fixed-width face that may break anywhere."""
    return format_html('<code class="c-digest">{}</code>', value or "–")


def facts(pairs: Any) -> Any:
    """Names and values, one under the other."""
    lines = format_html_join("", "<dt>{}</dt><dd>{}</dd>", ((name, value) for name, value in pairs))
    return format_html('<dl class="c-facts">{}</dl>', lines) if lines else "–"
