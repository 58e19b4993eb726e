"""Which records a person wants to see: those with a finding of a type, of a rule, or within a range of confidence.

Guarantees that all conditions hold for one and the same finding. Example: `SpanFilter("DATE", "", 0.0, 0.6)` takes
records with a date that was found with a score of at most 0.6.
"""

from dataclasses import dataclass

from django.http import Http404, HttpRequest

from steward.datasets.reading import OpenRedacted


@dataclass(frozen=True, slots=True)
class SpanFilter:
    """`rule` is the beginning of a rule's name; `low` and `high` are scores, 0 to 1."""

    type: str = ""
    rule: str = ""
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, request: HttpRequest) -> "SpanFilter":
        """From the query string. Raises Http404 for a score that is no number from 0 to 1."""
        given = request.GET
        try:
            low, high = float(given.get("low") or 0), float(given.get("high") or 1)
        except ValueError:
            raise Http404 from None
        if not (0 <= low <= 1 and 0 <= high <= 1):
            raise Http404
        return cls(given.get("type", "")[:24], given.get("rule", "").strip()[:40], low, high)

    @property
    def is_on(self) -> bool:
        return self != SpanFilter()

    def takes(self, record: OpenRedacted) -> bool:
        return not self.is_on or any(
            (not self.type or found["type"] == self.type)
            and found["rule"].startswith(self.rule)
            and self.low <= found["score"] <= self.high
            for findings in record.findings
            for found in findings
        )

    def as_query(self) -> dict[str, str]:
        """The conditions that are on, for a link."""
        plain = SpanFilter()
        names = ("type", "rule", "low", "high")
        return {name: str(getattr(self, name)) for name in names if getattr(self, name) != getattr(plain, name)}
