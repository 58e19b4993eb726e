"""Which identifiers a synthetic record holds: the answer sheet for a redaction.

Guarantees that every listed identifier stands in the record, as a whole word, in the spelling listed. Lists what
points to a person or to a proceeding about one (`IDENTIFIER_SLOTS`). Does not list companies, months, ages and ticket
numbers, which some profiles remove and others keep, so it measures what is missed, not what is masked for nothing.

Example:
    >>> planted_identifiers(["Ms. Kim, 585-555-0123"], {"last": "Kim", "titled": "Ms. Kim", "phone": "585-555-0123"})
    ['Ms. Kim', '585-555-0123']
    >>> still_present(["Ali", "585-555-0123"], "California, 585-555-0123")
    ['585-555-0123']
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

IDENTIFIER_SLOTS = (
    "first",
    "last",
    "name",
    "titled",
    "dob",
    "mrn",
    "member_id",
    "ssn",
    "phone",
    "email",
    "street",
    "city",
    "address",
    "account",
    "card",
    "iban",
    "routing",
    "date",
    "clinician",
    "relative",
    "other_name",
    "case_no",
    "docket",
)


def _spans(value: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if not (_continues(text[start - 1 : start]) or _continues(text[end : end + 1])):
            yield start, end
        start = text.find(value, start + 1)


def _continues(neighbour: str) -> bool:
    return neighbour.isalnum() or neighbour == "_"


def planted_identifiers(texts: Iterable[str], slots: Mapping[str, str]) -> list[str]:
    """The identifiers in the texts, longest reading only: a full name counts once, not as first and last name too.

    Args:
        texts: the record's fields.
        slots: the values of the slots that the record was made with.
    """
    found: dict[str, None] = {}
    for text in texts:
        spans = {span for name in IDENTIFIER_SLOTS if name in slots for span in _spans(slots[name], text)}
        for start, end in sorted(spans):
            if not any(low <= start and end <= high and (low, high) != (start, end) for low, high in spans):
                found[text[start:end]] = None
    return list(found)


def still_present(identifiers: Iterable[str], text: str) -> list[str]:
    """Those of the identifiers that stand in the text as whole words."""
    return [identifier for identifier in identifiers if any(True for _ in _spans(identifier, text))]
