"""The detector: every recogniser of a profile over one text.

Guarantees: either all recognisers have seen the whole text within the time budget, or ``RedactionError``; findings
are disjoint,
sorted, at or above the profile's thresholds, with offsets in the original text.
Does not: share anything between processes; each builds its own detector (cheap: the
tagger loads with the first text, once).

Example:
    >>> from compliance.redaction.profile import load_profile
    >>> detector = Detector(load_profile("finance"))
    >>> [f.type for f in detector.detect("Mail a.b@example.com, card 4111 1111 1111 1111")]
    ['EMAIL', 'CARD']
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from compliance.redaction.address_parts import complete_address
from compliance.redaction.addresses import ADDRESSES
from compliance.redaction.dates import AGES, AMOUNTS, DATES
from compliance.redaction.errors import RedactionError
from compliance.redaction.facilities import FACILITIES
from compliance.redaction.finding import Finding
from compliance.redaction.growing import grown
from compliance.redaction.identifiers import IDENTIFIERS, find_labelled
from compliance.redaction.judgement import Judge, without_public
from compliance.redaction.memory import recall
from compliance.redaction.merge import merge
from compliance.redaction.national import NationalNumbers
from compliance.redaction.passages import READ_CHARS, passages
from compliance.redaction.people import people_rules
from compliance.redaction.places import is_about_a_case
from compliance.redaction.profile import Profile
from compliance.redaction.rules import ProfilePatterns, Rule, words
from compliance.redaction.scan import RulePass
from compliance.redaction.tagger import kinds_of, process_tagger
from compliance.redaction.view import make_view

_CHARS_PER_SECOND = 5_000


class Detector:
    """Finds what ``profile`` asks for. Construction is cheap; the tagger loads with the first text."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        people = profile.entities.get("PERSON")
        include_title = people is not None and bool(people.options.get("include_title", False))
        wanted = {name for name, policy in profile.entities.items() if policy.on}
        everything: tuple[Rule, ...] = (
            IDENTIFIERS + FACILITIES + ADDRESSES + DATES + AGES + AMOUNTS + people_rules(include_title=include_title)
        )
        self._rules = RulePass([rule for rule in everything if rule.type in wanted])
        self._kinds = kinds_of(wanted)
        self._patterns = ProfilePatterns(profile.patterns)
        self._national = NationalNumbers(profile.presidio)
        self._judge = Judge(profile)
        self._yielding = frozenset(name for name, policy in profile.entities.items() if policy.operator == "keep")
        self._deny = {phrase.lower(): kind for phrase, kind in profile.deny.items()}
        self._deny_pattern = words(*map(re.escape, sorted(self._deny, key=len, reverse=True))) if self._deny else None

    def detect(self, text: str) -> list[Finding]:
        """Examine one document.

        Args:
            text: any Unicode text without lone surrogates, at most ``profile.max_chars`` code points.

        Returns:
            Disjoint findings, sorted by start.

        Raises:
            RedactionError: too long, refused characters, time budget spent, or a recogniser failed.
        """
        if len(text) > self.profile.max_chars:
            raise RedactionError(
                f"document of {len(text)} characters is longer than the limit of {self.profile.max_chars}"
            )
        if not text or text.isspace():
            return []
        deadline = time.monotonic() + self.profile.seconds_per_document + len(text) / _CHARS_PER_SECOND
        view = make_view(text)
        try:
            found = self._examine(view.text, deadline)
        except (RedactionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a recogniser raises, the document counts as not examined
            # The cause is dropped on purpose: a recogniser's own message may quote the document.
            raise RedactionError(
                f"a recogniser failed ({type(error).__name__}); the document is not redacted"
            ) from None
        if time.monotonic() > deadline:
            raise RedactionError("time budget spent; the document is not redacted")
        if view.starts is None:
            return found
        mapped = [Finding(*view.original(f.start, f.end), f.type, f.score, f.rule) for f in found]
        return merge(mapped, text, self._yielding)

    def _examine(self, text: str, deadline: float) -> list[Finding]:
        raw = self._rules.find(text, deadline)
        raw += find_labelled(text)
        raw += self._patterns.find(text, deadline)
        raw += self._denied(text)
        raw += self._judge.proper_nouns(text)
        if self.profile.presidio:
            covered = bytearray(len(text))
            for finding in self._judge.keep(raw, text):
                covered[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
            raw += self._national.find(text, covered, deadline)
        is_case = is_about_a_case(text)
        reads_context = self.profile.keep_public_bodies and is_case
        if self.profile.tagger:
            tagged, public = self._tagged(text, is_case, deadline)
            raw = without_public(raw, public) + tagged
        judged = self._judge.keep(raw, text, reads_context=reads_context)
        kept = merge(judged, text, self._yielding)
        if reads_context:
            kept = merge([grown(f, text) for f in kept], text, self._yielding)
        kept = self._completed(kept, text)
        if self.profile.memory:
            again = list(recall(kept, text))
            if again:
                kept = merge([*kept, *self._judge.keep(again, text)], text, self._yielding)
        return self._judge.finish(kept, text)

    def _tagged(self, text: str, is_case: bool, deadline: float) -> tuple[list[Finding], list[tuple[int, int]]]:
        """What the tagger finds, and the words that it holds to be public."""
        is_elsewhere = self.profile.tagger_least_elsewhere and not is_case
        least = self.profile.tagger_least_elsewhere if is_elsewhere else self.profile.tagger_least
        findings: list[Finding] = []
        public: list[tuple[int, int]] = []
        # One passage at a time, so that the budget is looked at in between.
        for start, end in passages(text, READ_CHARS):
            if time.monotonic() > deadline:
                raise RedactionError("time budget spent in the tagger; the document is not redacted")
            (tagged,) = process_tagger().find(
                [text[start:end]], in_context=self.profile.keep_public_bodies, least=least, kinds=self._kinds
            )
            findings += [Finding(f.start + start, f.end + start, f.type, f.score, f.rule) for f in tagged.findings]
            public += [(first + start, last + start) for first, last in tagged.public]
        return findings, public

    @staticmethod
    def _completed(findings: list[Finding], text: str) -> list[Finding]:
        """Addresses grow over what follows them; what they swallow becomes part of them."""
        if not any(f.type == "ADDRESS" for f in findings):
            return findings
        return merge([complete_address(f, text) if f.type == "ADDRESS" else f for f in findings], text)

    def _denied(self, text: str) -> Iterator[Finding]:
        if self._deny_pattern is not None:
            for match in self._deny_pattern.finditer(text):
                yield Finding(match.start(), match.end(), self._deny[match[0].lower()], 1.0, "profile.deny")
