# ruff: noqa: E501 - a source note or a table is read in one piece
"""Fields of HL7 version 2 messages and their like: the place in the segment is the label.

Guarantees: names, numbers, dates of birth, addresses and telephones of the patient, next of kin, guarantor, insured and of the staff
are found by their field, whatever they look like.
Does not: read version 3, CDA or FHIR; those name their fields and the labelled rules read the names.

Source: HL7 version 2.5.1, chapter 3 (PID, NK1, PV1), chapter 4 (ORC, OBR), chapter 6 (GT1, IN1).

Example:
    >>> text = "PID|1||4829137^^^HOSP^MR||ROE^JANE^A||19560314|F"
    >>> [(text[f.start:f.end], f.type) for f in find_hl7(text)]
    [('4829137', 'MRN'), ('ROE', 'PERSON'), ('JANE', 'PERSON'), ('A', 'PERSON'), ('19560314', 'DATE')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compliance.redaction.finding import Finding

_ID, _NAME, _STAFF, _ADDRESS, _PHONE = "id", "name", "staff", "address", "phone"
# Segment -> field number -> what stands there and of which type it is.
_FIELDS: dict[str, dict[int, tuple[str, str]]] = {
    "PID": {
        2: (_ID, "MRN"), 3: (_ID, "MRN"), 4: (_ID, "MRN"), 5: (_NAME, "PERSON"), 6: (_NAME, "PERSON"), 7: (_ID, "DATE"), 9: (_NAME, "PERSON"),
        11: (_ADDRESS, "ADDRESS"), 12: (_ID, "LOCATION"), 13: (_PHONE, "PHONE"), 14: (_PHONE, "PHONE"), 18: (_ID, "ACCOUNT"), 19: (_ID, "SSN"),
        20: (_ID, "DRIVER_LICENSE"), 21: (_ID, "MRN"), 23: (_ADDRESS, "LOCATION"), 29: (_ID, "DATE"),
    },
    "NK1": {2: (_NAME, "PERSON"), 4: (_ADDRESS, "ADDRESS"), 5: (_PHONE, "PHONE"), 6: (_PHONE, "PHONE"), 12: (_ID, "OTHER_ID"), 16: (_ID, "DATE"), 37: (_ID, "SSN")},
    "PV1": {7: (_STAFF, "PERSON"), 8: (_STAFF, "PERSON"), 9: (_STAFF, "PERSON"), 17: (_STAFF, "PERSON"), 19: (_ID, "MRN"), 44: (_ID, "DATE"), 45: (_ID, "DATE"), 50: (_ID, "MRN")},
    "GT1": {2: (_ID, "ACCOUNT"), 3: (_NAME, "PERSON"), 5: (_ADDRESS, "ADDRESS"), 6: (_PHONE, "PHONE"), 7: (_PHONE, "PHONE"), 8: (_ID, "DATE"), 12: (_ID, "SSN"), 16: (_NAME, "PERSON")},
    "IN1": {2: (_ID, "HEALTH_PLAN"), 8: (_ID, "HEALTH_PLAN"), 16: (_NAME, "PERSON"), 18: (_ID, "DATE"), 19: (_ADDRESS, "ADDRESS"), 36: (_ID, "HEALTH_PLAN"), 49: (_ID, "HEALTH_PLAN")},
    "ORC": {2: (_ID, "OTHER_ID"), 3: (_ID, "OTHER_ID"), 10: (_STAFF, "PERSON"), 12: (_STAFF, "PERSON")},
    "OBR": {2: (_ID, "OTHER_ID"), 3: (_ID, "OTHER_ID"), 7: (_ID, "DATE"), 10: (_STAFF, "PERSON"), 16: (_STAFF, "PERSON"), 28: (_STAFF, "PERSON")},
    "TXA": {9: (_STAFF, "PERSON"), 10: (_STAFF, "PERSON"), 12: (_ID, "OTHER_ID")},
}  # fmt: skip
# A name field without components that is longer is running text behind a segment that ended early.
_MAX_PLAIN_NAME = 30
_SEGMENT = re.compile(rf"(?<![\w|])(?:{'|'.join(_FIELDS)})\|[^\n\r]{{3,4000}}")


def find_hl7(text: str) -> Iterator[Finding]:
    """Yield the fields of every segment in the text (score 0.9).

    Args:
        text: a folded view.
    """
    if "|" not in text:
        return
    for match in _SEGMENT.finditer(text):
        fields = _FIELDS[match[0][:3]]
        at = match.start()
        for number, content in enumerate(match[0].split("|")):
            if number in fields and content:
                yield from _field(text, at, at + len(content), *fields[number])
            at += len(content) + 1


def _field(text: str, start: int, end: int, form: str, kind: str) -> Iterator[Finding]:
    if form == _ADDRESS and any(c.isalnum() for c in text[start:end]):
        yield Finding(start, end, kind, 0.9, "hl7.field")
        return
    is_plain = "^" not in text[start:end]
    if (
        form in (_NAME, _STAFF)
        and is_plain
        and (end - start > _MAX_PLAIN_NAME or re.search(r"\d|[.;:] ?", text[start:end]))
    ):
        return
    position = start
    for repetition in text[start:end].split("~"):
        for component, value in enumerate(repetition.split("^")):
            if _counts(form, component, value):
                yield Finding(
                    position,
                    position + len(value),
                    "OTHER_ID" if form == _STAFF and component == 0 else kind,
                    0.9,
                    "hl7.field",
                )
            position += len(value) + 1


def _counts(form: str, component: int, value: str) -> bool:
    """Whether a component carries the value itself rather than its type, its assigner or its check digit scheme."""
    if not any(c.isalnum() for c in value):
        return False
    if form == _ID:
        return component == 0
    if form == _NAME:
        return component < 3
    if form == _STAFF:
        return component < 4
    return any(c.isdecimal() for c in value) or "@" in value
