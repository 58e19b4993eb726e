"""A record's text cut into pieces, so that a page can mark what redaction found and what it put there.

Guarantees that the pieces put together are the text, whatever the findings say: a finding that does not fit the text
is left out of the marking. Does not decrypt anything.

Example:
    >>> found = {"start": 0, "end": 7, "replacement_start": 0, "replacement_end": 5, "type": "PERSON", ...}
    >>> [piece.text for piece in pieces("Mr. X came", [found], "redacted")]
    ['Mr. X', ' came']
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compliance.redaction import EntityPolicy
from steward.datasets.texts import Payload, slots, texts

Side = Literal["raw", "redacted"]
_BOUNDS = {"raw": ("start", "end"), "redacted": ("replacement_start", "replacement_end")}
# Colour alone must not carry the meaning (WCAG 1.4.1), so that each kind has a symbol as well.
_SYMBOLS = {
    "person": "●",
    "place": "▲",
    "time": "◆",
    "contact": "■",
    "number": "#",
    "group": "▣",
    "other": "○",
}
_KINDS = {
    "person": {"PERSON", "AGE", "FAMILY", "NATIONALITY", "PROFESSION", "BIOMETRIC", "PHOTO", "USERNAME"},
    "place": {"ADDRESS", "LOCATION", "ZIP"},
    "time": {"DATE", "TIME"},
    "contact": {"PHONE", "FAX", "EMAIL", "URL", "IP", "MAC"},
    "group": {"ORGANIZATION", "HEALTH_PLAN", "CASE_NUMBER", "BATES", "MONEY"},
    "other": {"SECRET", "OTHER_ID"},
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


def kind_of(entity_type: str) -> str:
    """The kind a type of identifier belongs to; numbers of all sorts unless it is known as something else."""
    return _KIND_OF.get(entity_type, "number")


def symbol_of(entity_type: str) -> str:
    """The symbol that stands beside the colour of a type."""
    return _SYMBOLS[kind_of(entity_type)]


@dataclass(frozen=True, slots=True)
class Mark:
    """Why a piece is marked: what it was taken for, by which rule, how sure (0 to 1), and what was done to it."""

    type: str
    rule: str
    score: float
    operator: str
    policy: EntityPolicy | None = None

    @property
    def kind(self) -> str:
        return kind_of(self.type)

    @property
    def symbol(self) -> str:
        return symbol_of(self.type)

    @property
    def label(self) -> str:
        return self.type.replace("_", " ").lower()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text, marked or not. `other` is what stands in its place on the other side, `start` its offset."""

    text: str
    mark: Mark | None = None
    other: str = ""
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Slot:
    """One text of a record: its field or role, its pieces, its place among the texts from 0.

    `is_aside` ones belong to the definitions of tools or are names, much the same in all records, and stand last.
    """

    name: str
    pieces: list[Piece]
    number: int = 0
    is_aside: bool = False

    @property
    def has_marks(self) -> bool:
        return any(piece.mark for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A stretch of a text that a label stands for."""

    label: str
    text: str
    start: int
    end: int


def labelled(payload: Payload) -> list[Labelled] | None:
    """The labelled stretches of a payload; None where it has none to speak of, or was set aside."""
    if payload.get("spans") is None:
        return None
    text, labels = payload["text"], payload["labels"]
    return [Labelled(labels[label], text[start:end], start, end) for start, end, label in payload["spans"]]


def pieces(
    text: str,
    findings: Iterable[dict[str, Any]],
    side: Side,
    other: str = "",
    policies: Mapping[str, EntityPolicy] | None = None,
) -> list[Piece]:
    """The text cut at its findings.

    Args:
        side: which of the findings' two spans points into `text`.
        other: the text of the other side, from which each marked piece gets its counterpart.
        policies: of the profile, to say why each finding is there.
    """
    begin, end = _BOUNDS[side]
    other_begin, other_end = _BOUNDS["redacted" if side == "raw" else "raw"]
    cut: list[Piece] = []
    position = 0
    for found in sorted(findings, key=lambda each: int(each[begin])):
        if not position <= found[begin] <= found[end] <= len(text):
            continue
        if found[begin] > position:
            cut.append(Piece(text[position : found[begin]], start=position))
        policy = (policies or {}).get(found["type"])
        mark = Mark(found["type"], found["rule"], found["score"], found["operator"], policy)
        counterpart = other[found[other_begin] : found[other_end]]
        cut.append(Piece(text[found[begin] : found[end]], mark, counterpart, found[begin]))
        position = found[end]
    if position < len(text):
        cut.append(Piece(text[position:], start=position))
    return cut


def marked(
    payload: Payload,
    findings: list[list[dict[str, Any]]],
    side: Side,
    other: Payload | None = None,
    policies: Mapping[str, EntityPolicy] | None = None,
) -> list[Slot]:
    """All texts of a record, marked. `other` is the same record on the other side, where it is at hand."""
    own = texts(payload)
    others = slots(other) if other is not None else [""] * len(own)
    return [
        Slot(text.name, pieces(text.value, found, side, opposite, policies), number, text.is_aside)
        for number, (text, found, opposite) in enumerate(zip(own, findings, others, strict=True))
    ]
