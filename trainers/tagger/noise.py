"""Disturbances of real files: small letters, capitals, reading errors, broken lines.

Guarantees: the spans of the result cover what the spans of the source covered. Does not: change meaning.

Example:
    >>> lowered(Document("Dr Lee", ((3, 6, "PERSON_MASK"),), "t")).text
    'dr lee'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from trainers.tagger.documents import Document

# What optical readers and hasty typists confuse.
_CONFUSED = {"l": "1", "O": "0", "0": "O", "1": "l", "S": "5", "B": "8", "e": "c", "m": "rn", "i": "l", "rn": "m"}


def disturbed(document: Document, random: Random) -> Document:
    """The document itself in two cases of three, otherwise a disturbed one."""
    draw = random.random()
    if draw < 0.10:
        return lowered(document)
    if draw < 0.16:
        return rewritten(document, str.upper)
    if draw < 0.20:
        return rewritten(document, lambda letter: misread(letter, random))
    if draw < 0.27:
        return rewritten(document, lambda letter: "\n" if letter == " " and random.random() < 0.08 else letter)
    if draw < 0.32:
        return rewritten(document, lambda letter: "  " if letter == " " and random.random() < 0.1 else letter)
    if draw < 0.34:
        return rewritten(document, lambda letter: "" if letter.isalpha() and random.random() < 0.015 else letter)
    return document


def lowered(document: Document) -> Document:
    """Small letters throughout, as people type."""
    return rewritten(document, str.lower)


def misread(letter: str, random: Random) -> str:
    """One character as an optical reader might see it."""
    return _CONFUSED[letter] if letter in _CONFUSED and random.random() < 0.02 else letter


def rewritten(document: Document, change: Callable[[str], str]) -> Document:
    """Replace character by character; spans move along."""
    pieces = [change(letter) for letter in document.text]
    places = [0]
    for piece in pieces:
        places.append(places[-1] + len(piece))
    spans = tuple((places[s], places[e], label) for s, e, label in document.spans if places[s] < places[e])
    blind = tuple((places[s], places[e]) for s, e in document.blind)
    return replace(document, text="".join(pieces), spans=spans, blind=blind)
