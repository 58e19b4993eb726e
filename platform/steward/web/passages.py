"""A redacted record cut at its likely privileged passages, with why each was found.

Guarantees, as `marking` does, that the pieces put together are the text. Does not decrypt anything.

Example:
    >>> shown = in_passages(opened)
    >>> shown.passages[0].cues[0].name
    'marking.privileged'
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from compliance.redaction.privilege import CUES
from steward.datasets.reading import OpenRedacted
from steward.web.marking import Piece, marked


@dataclass(frozen=True, slots=True)
class Cue:
    """What spoke for privilege, and with which weight; None where the screen no longer knows the cue."""

    name: str
    weight: float | None


@dataclass(frozen=True, slots=True)
class ShownPassage:
    """A passage: its number on the page from 1, the text it stands in, its score (0 to 1), its cues."""

    number: int
    slot: str
    score: float
    cues: list[Cue]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a text, within a passage or outside of all."""

    pieces: list[Piece]
    passage: ShownPassage | None


@dataclass(frozen=True, slots=True)
class InPassages:
    """A record as a page shows it: the blocks of each text by its name, and all passages in order."""

    slots: list[tuple[str, list[Block]]]
    passages: list[ShownPassage]


def in_passages(opened: OpenRedacted) -> InPassages:
    """The record's texts as blocks."""
    passages: list[ShownPassage] = []
    slots = []
    texts = marked(opened.payload, opened.findings, "redacted")
    for slot, places in zip(texts, opened.privileged, strict=True):
        blocks: list[Block] = []
        position = 0
        for place in places:
            cues = [Cue(name, CUES[name][0] if name in CUES else None) for name in place["reasons"]]
            passage = ShownPassage(len(passages) + 1, slot.name, place["score"], cues)
            passages.append(passage)
            blocks.append(Block(list(_within(slot.pieces, position, place["shown_start"])), None))
            start, position = max(position, place["shown_start"]), max(position, place["shown_end"])
            blocks.append(Block(list(_within(slot.pieces, start, position)), passage))
        blocks.append(Block(list(_within(slot.pieces, position, _end(slot.pieces))), None))
        slots.append((slot.name, [block for block in blocks if block.pieces]))
    return InPassages(slots, passages)


def strongest(privileged: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The passage with the highest score of all texts of a record."""
    return max((each for passages in privileged for each in passages), key=lambda each: float(each["score"]))


def _end(pieces: list[Piece]) -> int:
    return pieces[-1].end if pieces else 0


def _within(pieces: list[Piece], start: int, end: int) -> Iterator[Piece]:
    """The pieces from `start` to `end`; one that reaches over a bound is cut there."""
    for piece in pieces:
        low, high = max(piece.start, start), min(piece.end, end)
        if low < high:
            yield replace(piece, text=piece.text[low - piece.start : high - piece.start], start=low)
