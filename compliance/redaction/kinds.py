"""Kinds of identifier that the learned tagger knows, and the shape of a word, which it sees beside the word itself.

Guarantees: the order is that of the shipped weights. Does not: name entity types of a profile; ``tagger`` does.

Example:
    >>> word_shape("Ward"), word_shape("WARD"), word_shape("ward"), word_shape("B12")
    (1, 2, 0, 4)
"""

from __future__ import annotations

KINDS = (
    "PERSON",
    "LOCATION",
    "ADDRESS",
    "ORGANIZATION",
    "DATE",
    "AGE",
    "QUANTITY",
    "CODE",
    "DEMOGRAPHIC",
    "MISC",
    "CONTACT",
)

SHAPES = 8
"""How many shapes there are; the last is that of the marks around a passage."""


def word_shape(word: str) -> int:
    """The shape of a word: 0 small, 1 Capitalised, 2 CAPITALS, 3 mIxed, 4 with digits, 5 marks, 6 one capital."""
    if word.islower() and word.isalpha():
        return 0
    if any(map(str.isdigit, word)):
        return 4
    if not any(map(str.isalpha, word)):
        return 5
    if word.islower():
        return 0
    if word.isupper():
        return 2 if len(word) > 1 else 6
    return 1 if word[0].isupper() and word[1:].islower() else 3
