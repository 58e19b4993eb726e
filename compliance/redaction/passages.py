"""Cutting a text into passages for the tagger.

Guarantees: every character that is not blank lies in a passage; none is longer than ``MAX_CHARS``.
Does not: find true sentences; a cut falls at a line or sentence end where there is one, at a blank otherwise.

Example:
    >>> passages("One line.\\nAnother line.")
    [(0, 23)]
"""

from __future__ import annotations

import re

MAX_CHARS = 480
_CUT = re.compile(r"\n+|(?<=[.!?;])\s+(?=[A-Z\"“(\d])")


def passages(text: str) -> list[tuple[int, int]]:
    """Start and end of each passage, in order, disjoint, without blank ones."""
    bounds: list[tuple[int, int]] = []
    start = end = 0
    for cut in [*(m.end() for m in _CUT.finditer(text)), len(text)]:
        if cut - start > MAX_CHARS and end > start:
            bounds.append((start, end))
            start = end
        while cut - start > MAX_CHARS:
            blank = text.rfind(" ", start + MAX_CHARS // 2, start + MAX_CHARS)
            middle = blank + 1 if blank > 0 else start + MAX_CHARS
            bounds.append((start, middle))
            start = middle
        end = cut
    if end > start:
        bounds.append((start, end))
    return [(s, e) for s, e in bounds if not text[s:e].isspace()]
