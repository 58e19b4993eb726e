# ruff: noqa: E501 - a guarantee is read in one piece
"""The documents of one person, examined together.

Guarantees: what one document gives away is found in all of them, in whatever order they come; each document's findings are disjoint, with
offsets in the original.
Does not: keep anything by itself; documents that are not passed together know of each other only where the caller hands
``learned`` of the ones to ``recalled`` for the others.

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
    if len(texts) < 2:
        return found
    return recalled(detector, texts, found, learned(detector, texts, found))


def learned(detector: Detector, texts: Sequence[str], found: Sequence[Sequence[Finding]]) -> Memory:
    """What some documents of a subject give away: the first half of ``detect_subject``, for one with very many documents.

    Args:
        detector: of the profile to apply; where its memory is off, nothing is learned.
        texts: the documents.
        found: findings of each.
    """
    memory = Memory()
    if not detector.profile.memory:
        return memory
    for text, findings in zip(texts, found, strict=True):
        # A value is remembered in its folded form, as the views of ``recalled`` show it.
        for finding in findings:
            value = make_view(text[finding.start : finding.end]).text
            if value:
                memory.learn([Finding(0, len(value), finding.type, finding.score, finding.rule)], value)
    return memory


def recalled(
    detector: Detector, texts: Sequence[str], found: Sequence[list[Finding]], memory: Memory
) -> list[list[Finding]]:
    """The findings of documents with those that a memory of their subject adds: the second half of ``detect_subject``.

    Args:
        detector: of the profile to apply; where its memory is off, nothing is added.
        texts: the documents.
        found: findings of each.
        memory: what is known of the subject.
    """
    if not detector.profile.memory:
        return list(found)
    judge = Judge(detector.profile)
    yielding = frozenset(name for name, policy in detector.profile.entities.items() if policy.operator == "keep")
    results = []
    for text, findings in zip(texts, found, strict=True):
        view = make_view(text)
        again = judge.finish(judge.keep(memory.recall((), view.text), view.text), view.text)
        more = [Finding(*view.original(f.start, f.end), f.type, f.score, f.rule) for f in again]
        fresh = [f for f in more if not any(k.start <= f.start and f.end <= k.end for k in findings)]
        results.append(merge([*findings, *fresh], text, yielding) if fresh else findings)
    return results
