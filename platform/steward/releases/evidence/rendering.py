"""How documents of a bundle are written down: the same values give the same bytes.

Guarantees JSON with sorted keys, UTF-8 and no number that JSON lacks, and Markdown tables that no value can break.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any


def json_document(value: dict[str, Any]) -> bytes:
    """Indented JSON with sorted keys.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def timestamp(value: datetime | None) -> str | None:
    """UTC to the second, `2026-07-01T12:00:00Z`; None stays None."""
    return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def figure(value: float | int | None) -> str:
    """A number for people: four significant digits, whole ones with thousands separators."""
    if value is None:
        return "not known"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def interval(score: float | None, low: float | None, high: float | None) -> str:
    """`0.350 (0.241 to 0.472)`."""
    if score is None or low is None or high is None:
        return "not measured"
    return f"{score:.3f} ({low:.3f} to {high:.3f})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. A bar or a line break in a value cannot end its cell, and nothing in it becomes markup."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def plain(value: object) -> str:
    """A value as Markdown text: one line, with the signs escaped that would start markup."""
    if value is None:
        return "–"
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\|`*<>[]" else sign for sign in text)
