"""Overlapping findings become disjoint ones.

Guarantees: every letter and digit that some finding covered is still covered; the result is sorted and disjoint;
where two
findings dispute a span the surer one, then the longer one, names it.
Does not: apply thresholds.

Example:
    >>> merge([Finding(0, 4, "PERSON", 0.6, "a"), Finding(2, 9, "EMAIL", 1.0, "b")], "ab.cdefgh")
    [Finding(start=0, end=2, type='PERSON', score=0.6, rule='a'), Finding(start=2, end=9, type='EMAIL', score=1.0,
    rule='b')]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from compliance.redaction.finding import Finding

# A span of one of these that lies inside an address is a part of it, whatever its score.
_PARTS = {
    "ADDRESS": {"LOCATION", "ZIP", "PERSON", "ORGANIZATION", "PHONE", "DATE"},
    "ORGANIZATION": {"LOCATION", "PERSON"},
}
_JOINED = {"PERSON": " .-'’", "ADDRESS": " ,\n"}


def merge(findings: Iterable[Finding], text: str, yielding: frozenset[str] = frozenset()) -> list[Finding]:
    """Resolve overlaps and trim blanks.

    Args:
        findings: in any order, offsets in ``text``.
        text: what they point into.
        yielding: types that the profile keeps; in a dispute they never win over one that is masked.

    Returns:
        Disjoint findings, sorted by start.
    """
    placed: list[Finding] = []
    for cluster in _clusters(sorted(findings, key=lambda f: (f.start, -f.end))):
        if len(cluster) == 1:
            placed.append(cluster[0])
        else:
            placed.extend(_resolve(cluster, yielding))
    trimmed = [t for f in placed if (t := _trim(f, text)) is not None]
    return _join(sorted(trimmed), text)


def _clusters(ordered: list[Finding]) -> list[list[Finding]]:
    clusters: list[list[Finding]] = []
    reach = -1
    for finding in ordered:
        if finding.start < reach:
            clusters[-1].append(finding)
        else:
            clusters.append([finding])
        reach = max(reach, finding.end)
    return clusters


def _resolve(cluster: list[Finding], yielding: frozenset[str]) -> list[Finding]:
    by_rank = sorted(cluster, key=lambda f: (-_rank(f, cluster, yielding), f.start - f.end, f.start))
    taken: list[Finding] = []
    for finding in by_rank:
        free = [(finding.start, finding.end)]
        for other in taken:
            free = [
                piece
                for start, end in free
                for piece in ((start, min(end, other.start)), (max(start, other.end), end))
                if piece[0] < piece[1]
            ]
        taken.extend(replace(finding, start=start, end=end) for start, end in free)
    return taken


def _rank(finding: Finding, cluster: list[Finding], yielding: frozenset[str]) -> float:
    if finding.type in yielding:
        return finding.score - 2.0
    for other in (o for o in cluster if o.type not in yielding):
        if finding.type in _PARTS.get(other.type, ()) and other.start <= finding.start and finding.end <= other.end:
            return finding.score - 1.0
    return finding.score


def _trim(finding: Finding, text: str) -> Finding | None:
    start, end = finding.start, finding.end
    while start < end and not text[start].isalnum() and text[start] not in "+([#@$€£":
        start += 1
    while end > start and not text[end - 1].isalnum() and text[end - 1] not in ").]%":
        end -= 1
    if end > start and text[end - 1] == ")" and "(" not in text[start:end]:
        end -= 1
    if not any(c.isalnum() for c in text[start:end]):
        return None
    return finding if (start, end) == (finding.start, finding.end) else replace(finding, start=start, end=end)


def _join(ordered: list[Finding], text: str) -> list[Finding]:
    """Join neighbours of one type that only blanks or the marks inside names and addresses part."""
    joined: list[Finding] = []
    for finding in ordered:
        last = joined[-1] if joined else None
        marks = _JOINED.get(finding.type)
        if last is not None and marks is not None and last.type == finding.type and finding.start - last.end <= 3:
            between = text[last.end : finding.start]
            if not between.strip(marks) and not (finding.type == "PERSON" and "\n" in between):
                better = max(last, finding, key=lambda f: f.score)
                joined[-1] = replace(better, start=last.start, end=finding.end)
                continue
        joined.append(finding)
    return joined
