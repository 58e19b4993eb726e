"""Dates as people write them: read, shifted by days, written back in the same form.

Guarantees: a shifted date keeps its form (order, separators, month name or number, padding), and two dates of one
subject keep
their distance in days when both name a full date.
Does not: understand every date; for what it cannot read the answer is None, and the caller must not leave the original.

Example:
    >>> shift("3 May 2001", 30), shift("05/03/2001", 30), shift("sometime", 30)
    ('2 June 2001', '06/02/2001', None)
"""

from __future__ import annotations

import re
from datetime import date, timedelta

from compliance.redaction.quantities import spelled_year

_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
]  # fmt: skip
_NAME = "|".join(f"{m[:3]}(?:{m[3:]}|t|\\.)?" if len(m) > 3 else m for m in _MONTHS)
_FORMS = (
    re.compile(r"(?P<y>(?:18|19|20)\d\d)(?P<s1>[-/.])(?P<m>\d{1,2})(?P<s2>[-/.])(?P<d>\d{1,2})"),
    re.compile(r"(?P<a>\d{1,2})(?P<s1>[-/.])(?P<b>\d{1,2})(?P<s2>[-/.])(?P<y>\d{4}|\d{2})"),
    re.compile(
        rf"(?P<d>\d{{1,2}})(?P<o>st|nd|rd|th)?(?P<s1>[\s-](?:of\s)?)(?P<n>{_NAME})(?:(?P<s2>,?[\s-])(?P<y>\d{{4}}))?",
        re.I,
    ),
    re.compile(
        rf"(?P<n>{_NAME})(?P<s1>\s(?:the\s)?)(?P<d>\d{{1,2}})(?!\d)(?P<o>st|nd|rd|th)?(?:(?P<s2>,?\s)(?P<y>\d{{4}}))?",
        re.I,
    ),
    re.compile(rf"(?P<n>{_NAME})(?P<s2>(?:\sof|,)?[\s-])(?P<y>\d{{4}})", re.I),
)
_YEAR = re.compile(r"(?<!\d)(?:18|19|20)\d\d(?!\d)")
# A date without a year is placed in one that has no 29 February.
_NO_YEAR = 2001


def year_of(text: str) -> int | None:
    """The year in ``text``, in four digits or in words, or None."""
    found = _YEAR.search(text)
    return int(found[0]) if found else spelled_year(text)


def shift(text: str, days: int) -> str | None:
    """Move the first date in ``text`` by ``days``; weekday names and times of day around it are dropped.

    Args:
        text: one date, perhaps with a time.
        days: may be negative.

    Returns:
        The shifted date in the same form, or None if it cannot be read.
    """
    for form in _FORMS:
        match = form.search(text)
        if match is None:
            continue
        parts = match.groupdict()
        try:
            return _shifted(form, match[0], parts, days)
        except (ValueError, OverflowError):
            return None
    return None


def _shifted(form: re.Pattern[str], original: str, parts: dict[str, str | None], days: int) -> str:
    if parts.get("a"):
        # Month first, as in the US, unless the number rules it out.
        first, second = int(parts["a"] or 0), int(parts["b"] or 0)
        is_day_first = first > 12 or parts["s1"] == "."
        day, month = (first, second) if is_day_first else (second, first)
        year_text = parts["y"] or ""
        year = int(year_text) + (0 if len(year_text) == 4 else 1900 if int(year_text) > 30 else 2000)
        moved = date(year, month, day) + timedelta(days)
        a, b = (moved.day, moved.month) if is_day_first else (moved.month, moved.day)
        pad = original[0] == "0" or len(parts["a"] or "") == 2
        shown = f"{moved.year}" if len(year_text) == 4 else f"{moved.year % 100:02}"
        return (f"{a:02}{parts['s1']}{b:02}" if pad else f"{a}{parts['s1']}{b}") + f"{parts['s2']}{shown}"
    if parts.get("m"):
        moved = date(int(parts["y"] or 0), int(parts["m"] or 0), int(parts["d"] or 0)) + timedelta(days)
        return f"{moved.year}{parts['s1']}{moved.month:02}{parts['s2']}{moved.day:02}"
    name = parts["n"] or ""
    month = next(i for i, m in enumerate(_MONTHS, 1) if m.startswith(name.lower()[:3]))
    year = int(parts.get("y") or _NO_YEAR)
    moved = date(year, month, int(parts.get("d") or 15)) + timedelta(days)
    shown = _month_like(name, moved.month)
    tail = f"{parts['s2']}{moved.year}" if parts.get("y") else ""
    if not parts.get("d"):
        return f"{shown}{tail}"
    ordinal = _ordinal(moved.day) if parts.get("o") else ""
    if original[0].isdigit():
        return f"{moved.day}{ordinal}{parts['s1']}{shown}{tail}"
    return f"{shown}{parts['s1']}{moved.day}{ordinal}{tail}"


def _month_like(name: str, month: int) -> str:
    full = _MONTHS[month - 1]
    made = full[:3] if len(name.rstrip(".")) <= 4 and name.lower() not in _MONTHS else full
    made = made.upper() if name.isupper() else made if name.islower() else made.capitalize()
    return made + ("." if name.endswith(".") else "")


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
