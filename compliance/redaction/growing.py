"""Findings grown over the words that belong to them: an age with its years, an amount with its equivalent in brackets.

Guarantees: a finding never shrinks. Does not: decide whether a profile wants it; legal ones do, where "years old" would
tell that an age stood there.

Example:
    >>> text = "He was 63 years old."
    >>> grown(Finding(7, 9, "AGE", 0.9, "age.years"), text).end
    19
"""

from __future__ import annotations

import re
from dataclasses import replace

from compliance.redaction.finding import Finding

_AGE_AFTER = re.compile(r"[ -]years?(?:[ -]old|[ ]of[ ]age)?(?![\w])")
_AGE_BEFORE = re.compile(r"\bage[ ]of[ ]$")
# "PLN 192.5 [approx. EUR 48]", "5.61 liras (approximately 6,000 euros (EUR))"
_EQUIVALENT = re.compile(
    r"[ ]?(?:\w{1,8}[ ])?[\[(](?:approx(?:imately|\.)?|about|equivalent to|equal to|i\.e\.)[ ]"
    r"[^\[\]()\n]{2,40}(?:\([A-Z]{3}\))?[\])]?"
)


def grown(finding: Finding, text: str) -> Finding:
    """The finding with what belongs to it, or itself."""
    start, end = finding.start, finding.end
    if finding.type == "AGE":
        if after := _AGE_AFTER.match(text, end):
            end = after.end()
        if before := _AGE_BEFORE.search(text, max(0, start - 8), start):
            start = before.start()
    elif finding.type == "MONEY" and (equivalent := _EQUIVALENT.match(text, end)):
        end = equivalent.end()
    return finding if (start, end) == (finding.start, finding.end) else replace(finding, start=start, end=end)
