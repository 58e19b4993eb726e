# ruff: noqa: E501 - a guarantee is read in one piece
"""The documents of one person, examined together.

Guarantees: what one document gives away is found in all of them, in whatever order they come; each document's findings are disjoint, with
offsets in the original.
Does not: keep anything after it returns; documents that are not passed together do not know of each other.

Example:
    >>> from compliance.redaction.profile import load_profile
    >>> detector = Detector(load_profile("finance"))
    >>> texts = ["kowalski rang again", "Mr John Kowalski rang."]
    >>> [texts[0][f.start : f.end] for f in detect_subject(detector, texts)[0]]
    ['kowalski']
"""

from __future__ import annotations

from collections.abc import Sequence

from compliance.redaction.detector import Detector
from compliance.redaction.finding import Finding
from compliance.redaction.judgement import Judge
from compliance.redaction.memory import Memory
from compliance.redaction.merge import merge
from compliance.redaction.view import make_view


def detect_subject(detector: Detector, texts: Sequence[str]) -> list[list[Finding]]:
    """Examine the documents of one subject: each by itself, then each for what the others gave away.

    Args:
        detector: of the profile to apply; where its memory is off, documents are examined one by one.
        texts: at least one document.

    Returns:
        Findings of each document, disjoint and sorted.

    Raises:
        RedactionError: one of them cannot be examined; none counts then.
    """
    found = [detector.detect(text) for text in texts]
    if not detector.profile.memory or len(texts) < 2:
        return found
    memory = Memory()
    views = [make_view(text) for text in texts]
    for text, findings in zip(texts, found, strict=True):
        # A value is remembered in its folded form, as the views below show it.
        for finding in findings:
            value = make_view(text[finding.start : finding.end]).text
            if value:
                memory.learn([Finding(0, len(value), finding.type, finding.score, finding.rule)], value)
    judge = Judge(detector.profile)
    yielding = frozenset(name for name, policy in detector.profile.entities.items() if policy.operator == "keep")
    results = []
    for text, view, findings in zip(texts, views, found, strict=True):
        again = judge.finish(judge.keep(memory.recall((), view.text), view.text), view.text)
        more = [Finding(*view.original(f.start, f.end), f.type, f.score, f.rule) for f in again]
        fresh = [f for f in more if not any(k.start <= f.start and f.end <= k.end for k in findings)]
        results.append(merge([*findings, *fresh], text, yielding) if fresh else findings)
    return results
