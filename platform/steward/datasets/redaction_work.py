"""What a process does with the texts of a batch of records: detect, replace, screen, seal the originals it has to.

Guarantees that what one text of a person gives away is found in all texts of that person that come together,
and in those of a person with very many records by way of `Known`. Knows no database and no Django, so that a process of
its own starts quickly and holds no more keys than it was given. Keeps nothing between batches but the detector.

Example:
    >>> texts = RecordTexts("9f02", (Examined("Mr John Kowalski rang."),))
    >>> redact_batch(profile, bytes(32), [texts])[0].findings[0][0]["type"]
    'PERSON'
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compliance.redaction import (
    Detector,
    Finding,
    Passage,
    Profile,
    Seal,
    detect_subject,
    privileged_passages,
    real_names,
    redact,
)
from compliance.redaction.memory import Memory
from compliance.redaction.profile import parse_profile
from compliance.redaction.subjects import learned, recalled
from compliance.vault import RecordCipher

DOUBTFUL_MARGIN = 0.1
#: Words of real names that are kept of a person with very many records, as in `compliance.redaction.memory`.
MAX_NAMES = 4_000

# A profile as plain data: what crosses to other processes, over pipes like the texts.
Plain = dict[str, Any]

_detector: Detector | None = None
_loaded: Plain | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A text to examine.

    Attributes:
        text: as it stands in the record.
        is_label: whether it is a label that stays as it is.
        read_as: what detection reads in its place, which ends in as many characters: a key before a value, say. Empty
            for the text itself.
    """

    text: str
    is_label: bool = False
    read_as: str = ""

    @property
    def read(self) -> str:
        """What detection reads."""
        return self.read_as or self.text

    def own(self, findings: Iterable[Finding]) -> list[Finding]:
        """Findings in what was read, as far as they are in the text."""
        before = len(self.read) - len(self.text)
        if not before:
            return list(findings)
        return [
            replace(each, start=max(0, each.start - before), end=each.end - before)
            for each in findings
            if each.end > before
        ]


@dataclass(frozen=True, slots=True)
class RecordTexts:
    """A record's texts.

    `subject` is a keyed digest. `seal_key` and `place` are there for a profile that seals originals: the key of the
    person's originals, and what they are bound to.
    """

    subject: str
    texts: tuple[Examined, ...]
    seal_key: bytes | None = None
    place: bytes = b""


@dataclass(frozen=True, slots=True)
class RedactedTexts:
    """One record's texts after redaction, with the findings and the likely privileged passages of each.

    `originals` are the sealed ones: which text, which of its findings, and the ciphertext in base64.
    """

    texts: list[str]
    findings: list[list[dict[str, Any]]]
    is_doubtful: bool
    privileged: list[list[dict[str, Any]]]
    originals: list[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Known:
    """What all records of one person give away: the forms to look for again, and the words of real names."""

    terms: dict[str, tuple[str, float]]
    names: frozenset[str]


def load_detector(profile: Plain) -> Detector:
    """The detector of a profile, made once for as long as the profile stays the same."""
    global _detector, _loaded
    if _detector is None or _loaded != profile:
        _detector, _loaded = Detector(parse_profile(profile)), profile
    return _detector


def learn_batch(profile: Plain, batch: Sequence[RecordTexts]) -> Known:
    """What a part of one person's records gives away.

    Raises:
        RedactionError: a text cannot be examined.
    """
    detector = load_detector(profile)
    texts = [each.read for record in batch for each in record.texts if not each.is_label]
    found = [detector.detect(text) for text in texts]
    return Known(learned(detector, texts, found).terms, frozenset().union(*map(real_names, found, texts)))


def all_known(parts: Iterable[Known]) -> Known:
    """What the parts of one person's records know together: as much as fits, the first of it."""
    memory = Memory()
    names: dict[str, None] = {}
    for part in parts:
        memory.add(part.terms)
        names |= dict.fromkeys(sorted(part.names)[: MAX_NAMES - len(names)])
    return Known(memory.terms, frozenset(names))


def redact_batch(
    profile: Plain, key: bytes, batch: Sequence[RecordTexts], known: Known | None = None
) -> list[RedactedTexts]:
    """Redacts records.

    Args:
        key: of surrogates, hashes and date shifts.
        batch: all the records of some people; or, with `known`, some of one person's.
        known: what all the records of that one person give away.

    Raises:
        RedactionError: a text cannot be examined; none of the batch counts then.
    """
    detector = load_detector(profile)
    found: list[list[list[Finding]]] = [[[] for _ in record.texts] for record in batch]
    names = [frozenset[str]()] * len(batch)
    for places in _places_by_person(batch):
        texts = [batch[record].texts[slot].read for record, slot in places]
        if known is None:
            examined = detect_subject(detector, texts)
            own_names = frozenset[str]().union(*map(real_names, examined, texts))
        else:
            memory = Memory()
            memory.add(known.terms)
            examined = recalled(detector, texts, [detector.detect(text) for text in texts], memory)
            own_names = known.names
        for (record, slot), findings in zip(places, examined, strict=True):
            found[record][slot] = batch[record].texts[slot].own(findings)
            names[record] = own_names
    return [
        _redact_record(detector.profile, key, record, own, words)
        for record, own, words in zip(batch, found, names, strict=True)
    ]


def _places_by_person(batch: Sequence[RecordTexts]) -> Iterable[list[tuple[int, int]]]:
    """For each person the texts that are examined, as (which record, which text)."""
    places: dict[str, list[tuple[int, int]]] = {}
    for number, record in enumerate(batch):
        examined = [(number, slot) for slot, each in enumerate(record.texts) if not each.is_label]
        places.setdefault(record.subject, []).extend(examined)
    return [each for each in places.values() if each]


def _redact_record(
    profile: Profile, key: bytes, record: RecordTexts, found: list[list[Finding]], names: frozenset[str]
) -> RedactedTexts:
    outcomes = [
        redact(
            each.text,
            findings,
            profile=profile,
            key=key,
            subject=record.subject,
            names=names,
            seal=_seal(record, slot) if profile.is_reversible else None,
        )
        for slot, (each, findings) in enumerate(zip(record.texts, found, strict=True))
    ]
    findings = [[finding.to_json() for finding in outcome.findings] for outcome in outcomes]
    originals = [
        (slot, number, str(finding.pop("sealed")))
        for slot, each in enumerate(findings)
        for number, finding in enumerate(each)
        if "sealed" in finding
    ]
    is_doubtful = any(_is_close(finding, profile) for each in findings for finding in each)
    privileged = [
        [] if each.is_label else passages_of(privileged_passages(each.text, profile), own)
        for each, own in zip(record.texts, findings, strict=True)
    ]
    return RedactedTexts([outcome.text for outcome in outcomes], findings, is_doubtful, privileged, originals)


def _seal(record: RecordTexts, slot: int) -> Seal:
    assert record.seal_key is not None
    cipher = RecordCipher(record.seal_key)
    return lambda plain, finding: cipher.encrypt(plain, original_context(record.place, slot, finding.to_json()))


def original_context(place: bytes, slot: int, finding: dict[str, Any]) -> bytes:
    """Associated data that ties a sealed original to its record, its text and its span."""
    return b"%b/original/%d/%d-%d/%b" % (place, slot, finding["start"], finding["end"], finding["type"].encode())


def _is_close(finding: dict[str, Any], profile: Profile) -> bool:
    """Whether a finding only just reached the threshold of its type."""
    policy = profile.entities.get(finding["type"])
    return bool(finding["score"] < (policy.threshold if policy else 0.5) + DOUBTFUL_MARGIN)


def passages_of(passages: Iterable[Passage], findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Likely privileged passages as plain data, with where they stand in the redacted text.

    A passage covers, in the redacted text too, all that it covered in the raw one.

    Args:
        findings: of the same text, in order, with both of their spans; one that a passage cuts into goes with it whole.

    Example:
        >>> found = [{"start": 0, "end": 11, "replacement_start": 0, "replacement_end": 8}]
        >>> passages_of([Passage(4, 20, 0.9, ("marking.privileged",))], found)[0]["shown_start"]
        0
    """
    shown = [(passage, shown_place(findings, passage.start, passage.end)) for passage in passages]
    return [{**passage.to_json(), "shown_start": start, "shown_end": end} for passage, (start, end) in shown]


def shown_place(findings: Sequence[Mapping[str, Any]], start: int, end: int) -> tuple[int, int]:
    """Where a stretch of the raw text stands in the redacted one; a finding that it cuts into goes with it whole."""
    return _shown(findings, start, is_end=False), _shown(findings, end, is_end=True)


def _shown(findings: Sequence[Mapping[str, Any]], position: int, *, is_end: bool) -> int:
    shift = 0
    for found in findings:
        if not is_end and found["start"] <= position < found["end"]:
            return int(found["replacement_start"])
        if is_end and found["start"] < position <= found["end"]:
            return int(found["replacement_end"])
        if found["end"] <= position:
            shift = found["replacement_end"] - found["end"]
    return position + shift
