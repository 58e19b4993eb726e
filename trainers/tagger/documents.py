"""Labelled documents: text with spans, read from gold files or made by ``templates``.

Guarantees: spans lie inside the text and do not overlap; documents of one group (a court case, a template) share their
``group``, so that a split by group keeps development text unseen.
Does not: judge the annotation.

Example:
    >>> Document("Call Ann.", ((5, 8, "PERSON_MASK"),), "t1").spans[0][2]
    'PERSON_MASK'
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

# Types of the gold files -> kinds of the tagger.
# Source: Pilán et al., Computational Linguistics 48 (2022), section 3 (TAB); presidio-research, data generator.
_KINDS = {
    "DATETIME": "DATE", "LOC": "LOCATION", "ORG": "ORGANIZATION", "QUANTITY": "QUANTITY", "CODE": "CODE",
    "DEM": "DEMOGRAPHIC", "MISC": "MISC", "PERSON": "PERSON", "GPE": "LOCATION", "STREET_ADDRESS": "ADDRESS",
    "ZIP_CODE": "ADDRESS", "ORGANIZATION": "ORGANIZATION", "DATE_TIME": "DATE", "AGE": "AGE", "NRP": "DEMOGRAPHIC",
    "CREDIT_CARD": "CODE", "US_SSN": "CODE", "US_DRIVER_LICENSE": "CODE", "IBAN_CODE": "CODE",
    "PHONE_NUMBER": "CONTACT", "EMAIL_ADDRESS": "CONTACT", "DOMAIN_NAME": "CONTACT", "IP_ADDRESS": "CONTACT",
}  # fmt: skip

Span = tuple[int, int, str]
"""Start, end (code points) and label."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text; ``blind`` are stretches about which the labels say nothing (neither learnt nor scored)."""

    text: str
    spans: tuple[Span, ...]
    group: str
    blind: tuple[tuple[int, int], ...] = ()


def read_gold(path: Path) -> Iterator[Document]:
    """Documents of a gold file (one JSON object a line: id, group, text, gold).

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not such an object.
    """
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            spans = tuple(
                (span["start"], span["end"], f"{_KINDS[span['type']]}_{'MASK' if span['must_mask'] else 'KEEP'}")
                for span in row["gold"]
                if span["type"] in _KINDS
            )
            yield Document(row["text"], spans, str(row.get("group", row["id"])))


def split_groups(documents: Iterable[Document], share: float, seed: int) -> tuple[list[Document], list[Document]]:
    """Two lists; the second holds ``share`` of the groups, whole ones, chosen by ``seed``."""
    listed = list(documents)
    groups: Sequence[str] = sorted({document.group for document in listed})
    held = set(Random(seed).sample(groups, round(len(groups) * share)))  # noqa: S311 - not a secret
    return [d for d in listed if d.group not in held], [d for d in listed if d.group in held]
