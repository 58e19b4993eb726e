"""Cutting a text into passages for the tagger.

Guarantees: every character that is not blank lies in a passage; none is longer than it may be.
Does not: find true sentences; a cut falls at a line or sentence end where there is one, at a blank otherwise.

Example:
    >>> passages("One line.\\nAnother line.")
    [(0, 23)]
"""

from __future__ import annotations

import re

MAX_CHARS = 480
"""What the encoder reads at once that teaches the tagger."""
READ_CHARS = 1920
"""What the tagger reads at once; its cost does not depend on it."""
_CUT = re.compile(r"\n+|(?<=[.!?;])\s+(?=[A-Z\"“(\d])")


def passages(text: str, most: int = MAX_CHARS) -> list[tuple[int, int]]:
    """Start and end of each passage, in order, disjoint, without blank ones, each of at most ``most`` characters."""
    bounds: list[tuple[int, int]] = []
    start = end = 0
    for cut in [*(m.end() for m in _CUT.finditer(text)), len(text)]:
        if cut - start > most and end > start:
            bounds.append((start, end))
            start = end
        while cut - start > most:
            blank = text.rfind(" ", start + most // 2, start + most)
            middle = blank + 1 if blank > 0 else start + most
            bounds.append((start, middle))
            start = middle
        end = cut
    if end > start:
        bounds.append((start, end))
    return [(s, e) for s, e in bounds if not text[s:e].isspace()]
