"""Word pieces back to words: which piece begins a word, and the shape of the word each piece belongs to.

Guarantees: a word is what the tokenizer's own pre-tokenizer says; marks around a passage get a shape of their own.
Does not: keep text.

Example:
    >>> word_starts([None, 0, 0, 1, None]).tolist()
    [False, True, False, True, False]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compliance.redaction.kinds import SHAPES, word_shape

Array = np.ndarray[Any, Any]


def word_starts(word_ids: Sequence[int | None]) -> Array:
    """For each piece whether it is the first of a word; (T,) of bool."""
    words = np.array([-1 if word is None else word for word in word_ids])
    starts: Array = (words >= 0) & (words != np.concatenate(([-1], words[:-1])))
    return starts


def piece_shapes(passage: str, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> Array:
    """For each piece the shape of its word; (T,) of int64.

    Args:
        passage: the text that was cut into pieces.
        word_ids: word of each piece, None for marks around the passage.
        offsets: start and end of each piece in ``passage``.
    """
    bounds: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(word_ids, offsets, strict=True):
        if word is not None:
            bounds[word] = (bounds[word][0] if word in bounds else start, end)
    shapes = {word: word_shape(passage[start:end]) for word, (start, end) in bounds.items()}
    return np.array([SHAPES - 1 if word is None else shapes[word] for word in word_ids], np.int64)
