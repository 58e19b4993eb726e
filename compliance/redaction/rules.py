# ruff: noqa: E501 - an attribute is explained in one line
"""Pattern rules and the pass that applies them.

Guarantees: a rule's pattern uses bounded repetition, so that its cost grows linearly with the text; a deadline is
checked
between rules and while a rule yields matches; profile patterns run on an engine that stops inside a match as well.
Does not: resolve overlaps (see ``merge``) or apply thresholds (see ``detector``).

Example:
    >>> rule = Rule("ssn", "SSN", re.compile(r"\\d{3}-\\d{2}-\\d{4}"), 0.8)
    >>> [f.type for f in apply_rules([rule], "Her SSN is 123-45-6789.", deadline=float("inf"))]
    ['SSN']
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

from compliance.redaction.checksums import CHECKS, Check
from compliance.redaction.errors import RedactionError
from compliance.redaction.finding import Finding
from compliance.redaction.profile import PatternSpec

# How far context words are looked for, in characters before and after a match.
_BEFORE = 56
_AFTER = 24


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern.

    Attributes:
        name: shown as the finding's rule.
        type: entity type.
        pattern: compiled; group ``v`` is the span if there is one, otherwise the whole match.
        score: confidence without context.
        check: must hold for the matched text.
        context: if it matches near the span, ``raised`` is the score.
        against: if it matches near the span, the match is dropped.
        needs: a character that must occur in the text, or ``0`` for any digit, before the pattern is tried.
        gate: a cheaper pattern that must match somewhere before this one is tried.
        any_of: small-letter literals of which one must stand somewhere in the text before the pattern is tried.
        near: a pattern, or literals that begin a word, of which every match holds one at most ``reach`` characters behind its start
            (literals in small letters are found in any letter case).
        endings: small-letter endings of which one stands right before a blank and a number at most ``reach`` characters behind the start.
        starts: ``code``: every match begins with a word that holds a digit; ``run``: with the first digit of a number, wherever it stands.
    """

    name: str
    type: str
    pattern: re.Pattern[str]
    score: float
    check: Check | None = None
    context: re.Pattern[str] | None = None
    raised: float = 0.9
    against: re.Pattern[str] | None = None
    needs: str = ""
    gate: re.Pattern[str] | None = None
    any_of: tuple[str, ...] = ()
    near: re.Pattern[str] | tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    reach: int = 0
    starts: str = ""


def words(*alternatives: str) -> re.Pattern[str]:
    """A case-blind pattern for whole words or phrases; the alternatives may be regular expressions."""
    return re.compile(r"(?<!\w)(?:" + "|".join(alternatives) + r")(?!\w)", re.IGNORECASE)


def apply_rules(rules: Iterable[Rule], text: str, deadline: float) -> Iterator[Finding]:
    """Yield every match of every rule, in no particular order.

    Args:
        rules: what to try.
        text: a folded view.
        deadline: ``time.monotonic()`` value after which the document is given up.

    Raises:
        RedactionError: the deadline has passed.
    """
    has_digit = any(c in text for c in "0123456789")
    for rule in rules:
        if rule.needs and not (has_digit if rule.needs == "0" else rule.needs in text):
            continue
        if rule.gate is not None and not rule.gate.search(text):
            continue
        still_time(deadline, rule.name)
        named = "v" in rule.pattern.groupindex
        for match in rule.pattern.finditer(text):
            start, end = match.span("v") if named else match.span()
            if start < end and (score := score_of(rule, text, start, end)) > 0:
                yield Finding(start, end, rule.type, score, rule.name)


def score_of(rule: Rule, text: str, start: int, end: int) -> float:
    """The score of a span that the rule's pattern matched; 0 where its check or its surroundings speak against it."""
    if rule.check is not None and not rule.check(text[start:end]):
        return 0.0
    if rule.context is None and rule.against is None:
        return rule.score
    before = text[max(0, start - _BEFORE) : start]
    after = text[end : end + _AFTER]
    if rule.against is not None and (rule.against.search(before) or rule.against.search(after)):
        return 0.0
    if rule.context is not None and (rule.context.search(before) or rule.context.search(after)):
        return max(rule.raised, rule.score)
    return rule.score


def still_time(deadline: float, rule: str) -> None:
    """Raise ``RedactionError`` if the deadline has passed; the message names the rule."""
    if time.monotonic() > deadline:
        raise RedactionError(f"time budget spent before rule {rule!r}; the document is not redacted")


class ProfilePatterns:
    """The profile's own recognisers, compiled once, matched under a time limit of the engine itself."""

    def __init__(self, specs: Iterable[PatternSpec]) -> None:
        self._compiled = [
            (spec, regex.compile(spec.regex), _any_of(spec.context), _any_of(spec.against), CHECKS.get(spec.check))
            for spec in specs
        ]

    def find(self, text: str, deadline: float) -> Iterator[Finding]:
        """Yield matches in a folded view.

        Raises:
            RedactionError: the deadline passed before or inside a match.
        """
        for spec, pattern, context, against, check in self._compiled:
            remaining = deadline - time.monotonic()
            try:
                if remaining <= 0:
                    raise TimeoutError
                for match in pattern.finditer(text, timeout=remaining):
                    start, end = match.span("v") if "v" in pattern.groupindex else match.span()
                    if start == end or (check is not None and not check(text[start:end])):
                        continue
                    near = text[max(0, start - _BEFORE) : start] + "\n" + text[end : end + _AFTER]
                    if against is not None and against.search(near):
                        continue
                    raised = context is not None and context.search(near) is not None
                    yield Finding(start, end, spec.type, min(1.0, spec.score + 0.45 * raised), f"profile.{spec.name}")
            except TimeoutError:
                raise RedactionError(
                    f"time budget spent in profile pattern {spec.name!r}; the document is not redacted"
                ) from None


def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str] | None:
    return words(*map(re.escape, phrases)) if phrases else None
