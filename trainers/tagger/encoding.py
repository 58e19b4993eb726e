"""Documents as the network reads them: passages of word pieces, a shape and a label for each word.

Guarantees: a passage is cut where ``compliance.redaction.passages`` cuts it, so that training and use see the same.
Does not: truncate silently; a passage of more than ``MAX_PIECES`` pieces raises.

Example:
    >>> [p.labels.tolist() for p in encode(Document("Dr Lee left", ((3, 6, "PERSON_MASK"),), "t"), tokenizer)]
    [[-100, 0, 2, 0, -100]]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compliance.redaction.kinds import SHAPES, word_shape
from compliance.redaction.passages import passages
from trainers.tagger.documents import Document
from trainers.tagger.labels import LABEL_INDEX

MAX_PIECES = 512
IGNORED = -100
"""Label of a piece that is no word's first, or about which nothing is known."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Passage:
    """Piece ids, shapes, labels and whether a piece begins a word, each (T,); ``starts`` and ``ends`` are its place."""

    ids: Array
    shapes: Array
    labels: Array
    is_first: Array
    starts: Array
    ends: Array


def encode(document: Document, tokenizer: Any) -> Iterator[Passage]:
    """The passages of one document.

    Args:
        document: labelled text.
        tokenizer: a ``tokenizers.Tokenizer`` without padding and truncation.

    Raises:
        ValueError: a passage of more than ``MAX_PIECES`` pieces.
    """
    labels = np.zeros(len(document.text), np.int64)
    for start, end, label in document.spans:
        labels[start:end] = LABEL_INDEX[label]
    for start, end in document.blind:
        labels[start:end] = IGNORED
    for start, end in passages(document.text):
        encoding = tokenizer.encode(document.text[start:end])
        if len(encoding.ids) > MAX_PIECES:
            raise ValueError(f"a passage of {end - start} characters has {len(encoding.ids)} pieces")
        offsets = np.asarray(encoding.offsets, np.int64) + start
        first = word_starts(encoding.word_ids)
        wanted = np.full(len(encoding.ids), IGNORED, np.int64)
        for index in np.flatnonzero(first):
            inside = labels[offsets[index, 0] : offsets[index, 1]]
            wanted[index] = IGNORED if (inside == IGNORED).any() else inside.max(initial=0)
        yield Passage(
            np.asarray(encoding.ids, np.int64),
            piece_shapes(document.text[start:end], encoding.word_ids, encoding.offsets),
            wanted,
            first,
            offsets[:, 0],
            offsets[:, 1],
        )


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
