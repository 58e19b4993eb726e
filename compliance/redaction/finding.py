"""What a detector found.

Guarantees: offsets count Unicode code points of the original text, half open, never empty.
Does not: hold the text itself, so that a finding may be logged or stored in clear.

Example:
    >>> Finding(start=3, end=9, type="PERSON", score=0.9, rule="person.title").to_json()["end"]
    9
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One span of one document.

    Attributes:
        start: first code point, 0-based.
        end: one past the last code point, > start.
        type: entity type as the profile names it, such as ``PERSON``.
        score: confidence in [0, 1].
        rule: what found it, such as ``person.title`` or ``tagger.given_name``.
    """

    start: int
    end: int
    type: str
    score: float
    rule: str

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a finding must not be empty: {self.start}..{self.end}")

    def to_json(self) -> dict[str, int | float | str]:
        """The finding as plain data; the score is rounded to four digits."""
        return {
            "start": self.start,
            "end": self.end,
            "type": self.type,
            "score": round(self.score, 4),
            "rule": self.rule,
        }
