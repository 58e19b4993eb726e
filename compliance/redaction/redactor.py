"""Applying a profile to a text.

Guarantees: exactly the found spans are replaced, all else stays as it was; the result says where each replacement
stands; a span
that does not fit the text is an error, never skipped; where the profile is reversible, each original of such a type
comes back sealed by the caller's function, never in the clear.
Does not: find anything; findings come from the detector or from a reviewer.

Example:
    >>> from compliance.redaction.profile import load_profile
    >>> found = [Finding(0, 11, "PERSON", 0.9, "person.title")]
    >>> redact("Ms. Ada Wu.", found, profile=load_profile("legal"), key=bytes(32), subject=None).text
    '[PERSON_1]'
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from compliance.redaction.detector import Detector
from compliance.redaction.errors import RedactionError
from compliance.redaction.finding import Finding
from compliance.redaction.keyed import Keyed
from compliance.redaction.operators import Operators
from compliance.redaction.privilege import Passage, screen
from compliance.redaction.profile import Profile
from compliance.redaction.reversal import Seal, Unseal, restored, sealed_original
from compliance.redaction.subjects import detect_subject
from compliance.redaction.surrogate_names import name_words
from compliance.redaction.written_dates import day_first_hint


@dataclass(frozen=True, slots=True)
class Applied:
    """A finding, the operator that was applied, and where its replacement stands in the redacted text.

    Attributes:
        sealed: the original as the caller's function sealed it, for types that the profile makes reversible.
    """

    finding: Finding
    operator: str
    replacement_start: int
    replacement_end: int
    sealed: bytes | None = None

    def to_json(self) -> dict[str, int | float | str]:
        """As plain data; ``start`` and ``end`` point into the original, the other two into the redacted text; a sealed
        original is added as ``sealed`` in base64."""
        table: dict[str, int | float | str] = {
            **self.finding.to_json(),
            "operator": self.operator,
            "replacement_start": self.replacement_start,
            "replacement_end": self.replacement_end,
        }
        return table if self.sealed is None else table | {"sealed": b64encode(self.sealed).decode()}


@dataclass(frozen=True, slots=True)
class Redacted:
    """The redacted text and what was done, in order.

    Attributes:
        text: with the replacements.
        findings: what was replaced.
        privileged: passages of the original that are likely privileged; where there is one, the text must not be used
            before an attorney has released it. Filled by ``Redactor`` for profiles whose type ``PRIVILEGE`` is on.
    """

    text: str
    findings: tuple[Applied, ...]
    privileged: tuple[Passage, ...] = ()

    def restored(self, unseal: Unseal) -> str:
        """The text with the originals that were sealed; see ``reversal.restored``."""
        sealed = (
            (a.replacement_start, a.replacement_end, a.sealed, a.finding) for a in self.findings if a.sealed is not None
        )
        return restored(self.text, sealed, unseal)


def redact(
    text: str,
    findings: Iterable[Finding],
    *,
    profile: Profile,
    key: bytes,
    subject: str | None,
    names: frozenset[str] = frozenset(),
    seal: Seal | None = None,
) -> Redacted:
    """Replace the findings by the profile's operators.

    Args:
        text: the original.
        findings: disjoint, offsets in ``text``, in any order.
        profile: names the operator of each type.
        key: at least 16 bytes, of one dataset; surrogates, hashes and date shifts depend on it.
        subject: opaque id of the person the record is about; None makes choices per dataset.
        names: ``real_names`` of the subject's other texts; with them a surrogate that must give way to a real name does
            so in all texts alike.
        seal: seals the originals of reversible types; a profile with such a type needs it, others ignore it.

    Raises:
        RedactionError: findings overlap or reach beyond the text; the profile is reversible and ``seal`` is missing or
            shows an original.
        ValueError: the key is too short.
    """
    if profile.is_reversible and seal is None:
        raise RedactionError(
            f"the profile {profile.name!r} is reversible: it needs a function that seals the originals"
        )
    ordered = sorted(findings)
    _fitting(ordered, len(text))
    dates = [text[f.start : f.end] for f in ordered if f.type == "DATE"]
    operators = Operators(
        profile, Keyed(key, subject), names | real_names(ordered, text), is_day_first=day_first_hint(dates)
    )
    pieces: list[str] = []
    applied: list[Applied] = []
    read = written = 0
    for finding in ordered:
        value = text[finding.start : finding.end]
        made = operators.replacement(finding.type, value)
        policy = profile.entities.get(finding.type)
        pieces += [text[read : finding.start], made]
        written += finding.start - read
        sealed = sealed_original(seal, value, finding) if seal and policy and policy.is_reversible else None
        operator = policy.operator if policy else "placeholder"
        applied.append(Applied(finding, operator, written, written + len(made), sealed))
        written += len(made)
        read = finding.end
    pieces.append(text[read:])
    return Redacted("".join(pieces), tuple(applied))


class Redactor:
    """Detector and operators of one profile, for many documents of one dataset."""

    def __init__(self, profile: Profile, key: bytes, subject: str | None = None, seal: Seal | None = None) -> None:
        self.detector = Detector(profile)
        self._seal = seal
        self._profile = profile
        self._key = key
        self._subject = subject

    def __call__(self, text: str, subject: str | None = None) -> Redacted:
        """Detect and replace; ``subject`` overrides the one given at construction. Errors as ``Detector.detect`` and
        ``redact``."""
        return self._redacted(text, self.detector.detect(text), subject)

    def redact_subject(self, texts: Sequence[str], subject: str) -> list[Redacted]:
        """Redact all documents of one subject together: what one gives away is replaced in all, by the same surrogates.

        Args:
            texts: the documents.
            subject: opaque id of the person.

        Raises:
            RedactionError: as ``Detector.detect``; none of the documents counts then.
        """
        found = detect_subject(self.detector, texts)
        names = frozenset[str]().union(*map(real_names, found, texts))
        return [self._redacted(text, findings, subject, names) for text, findings in zip(texts, found, strict=True)]

    def _redacted(
        self, text: str, found: list[Finding], subject: str | None, names: frozenset[str] = frozenset()
    ) -> Redacted:
        made = redact(
            text,
            found,
            profile=self._profile,
            key=self._key,
            subject=subject or self._subject,
            names=names,
            seal=self._seal,
        )
        return replace(made, privileged=tuple(privileged_passages(text, self._profile)))


def privileged_passages(text: str, profile: Profile) -> list[Passage]:
    """Likely privileged passages at or above the profile's threshold; none for a profile that does not ask for them."""
    policy = profile.entities.get("PRIVILEGE")
    return screen(text, policy.threshold) if policy is not None and policy.on else []


def _fitting(ordered: Sequence[Finding], length: int) -> None:
    end = 0
    for finding in ordered:
        if finding.start < end:
            raise RedactionError(f"findings overlap at character {finding.start}")
        end = finding.end
    if end > length:
        raise RedactionError(f"a finding ends at {end}, beyond the text of {length} characters")


def real_names(findings: Iterable[Finding], text: str) -> frozenset[str]:
    """The words of people's names and the places among the findings, in lower case: what a surrogate must not be."""
    spans = [(f.type, text[f.start : f.end]) for f in findings if f.type in ("PERSON", "LOCATION")]
    places = (" ".join(value.casefold().split()) for kind, value in spans if kind == "LOCATION")
    return name_words(value for kind, value in spans if kind == "PERSON").union(places)
