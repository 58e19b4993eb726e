# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Completing an address: the pieces before and after a street that belong to it.

Guarantees: a found address only grows, over numbers, units, towns, regions, postcodes and countries that follow one another across
commas and line breaks (also quoted lines), and only up to a piece that is plainly part of an address.
Does not: start an address of its own.

Example:
    >>> text = "6750 Koskikatu 25 Apt. 864\\nArtilleros\\n, CO\\n Uruguay 64677"
    >>> complete_address(Finding(5, 17, "ADDRESS", 0.8, "x"), text).end == len(text)
    True
"""

from __future__ import annotations

import re
from dataclasses import replace

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import phrases

_MAX_PIECES = 8
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*(?:\n[ \t>?|*]*)?|\n[ \t>?|*]*\n?[ \t>?|*]*(?:,[ \t]*)?|[ \t])")
_UNIT = re.compile(
    r"(?:apt|apartment|suite|ste|unit|room|floor|flat|bldg|building|box|po box)\b\.?[ ]?#?[a-z]?-?\d{0,5}[a-z]?\b", re.I
)
_POST = re.compile(
    r"(?:\d{5}(?:-\d{3,4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{3} \d{2}|\d{4}(?: [A-Z]{2})?|[A-Z]{1,2}-\d{4,5}|\d{2}-\d{3})(?![\w-]|[ ]?\d)"
)
_REGION = re.compile(r"[A-Z]{2,3}(?![\w.'’-])")
_TOWN = re.compile(
    r"[^\W\d_][\w.'’/-]*(?:[ -](?:[^\W\d_a-zß-ÿ]|(?:u|v|de|la|le|del|do|da|di|am|an|der|el|y|les|sur|upon|ob|pod|nad|auf|den|van|het)[ ])[\w.'’/-]*(?:[ ][^\W\d_a-zß-ÿ][\w.'’/-]*)?){0,4}(?:[ ]\([^()\n]{2,30}\))?"
)
_LOWER_TOWN = re.compile(r"[^\W\d_][\w.'’/-]*(?:[ -][^\W\d_][\w.'’/-]*){0,3}")
_NUMBER_BEFORE = re.compile(r"(?<![\w.,$€£/-])\d{1,6}[A-Za-z]?,?[ ]$")


def complete_address(finding: Finding, text: str) -> Finding:
    """Extend an address finding to its last plain piece, and over a house number before it."""
    start = finding.start
    if before := _NUMBER_BEFORE.search(text, max(0, start - 10), start):
        start = before.start()
    end = position = finding.end
    is_lower = text[finding.start : finding.end].islower()
    for _ in range(_MAX_PIECES):
        gap = _SEPARATOR.match(text, position)
        if gap is None:
            break
        found = _piece(text, gap.end(), is_tight="," not in gap[0] and "\n" not in gap[0], is_lower=is_lower)
        if found is None:
            break
        position, is_plain = found
        if is_plain:
            end = position
    return finding if (start, end) == (finding.start, finding.end) else replace(finding, start=start, end=end)


def _piece(text: str, at: int, *, is_tight: bool, is_lower: bool) -> tuple[int, bool] | None:
    """End of the piece at ``at`` and whether it is plainly part of an address; None if nothing fits."""
    for pattern in (_UNIT, _POST):
        if match := pattern.match(text, at):
            return match.end(), True
    if (match := _REGION.match(text, at)) and (match.end() == len(text) or text[match.end()] in " ,\n.?;"):
        return match.end(), not is_tight or (match[0].lower() not in ("i", "and") and _follows(text, match.end()))
    pattern = _LOWER_TOWN if is_lower else _TOWN
    match = pattern.match(text, at)
    if match is None or (not is_lower and not text[at].isupper()):
        return None
    end = match.end()
    while text[end - 1] in ".,'’-/":
        end -= 1
    if text[end : end + 1] == ":":
        return None
    value = text[at:end].lower()
    if value in phrases("countries") or re.sub(r"\s*\(.*\)$", "", value) in phrases("countries"):
        return end, True
    if is_tight and not _follows(text, end):
        return None
    return end, False


def _follows(text: str, end: int) -> bool:
    """Whether an address could go on here: a comma, a line end, a number, or the end of the text."""
    return end == len(text) or re.match(r"\s*(?:[,\n.;?!)]|\d|$)", text[end:]) is not None
