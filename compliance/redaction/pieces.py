# ruff: noqa: E501 - a guarantee is read in one piece
"""Texts as the network reads them: word pieces, the shape of the word each belongs to, and where the words stand.

Guarantees: pieces and places are those of the tokenizer itself; words that were cut before are remembered, at most ``_MOST_WORDS`` of them,
so that a common word costs one look into a table. A word is what the tokenizer's own pre-tokenizer says.
Does not: keep text beyond those words.

Example:
    >>> cut = Cutter(tokenizer).cut("Dr Lee left")
    >>> cut.firsts, cut.starts, cut.ends
    ([1, 2, 3], [0, 3, 7], [2, 6, 11])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate, chain, compress
from typing import Any

from compliance.redaction.kinds import SHAPES, word_shape

_MARKS = "!-/:-@\\[-`{-~‘’“”„«»–—…•§"
_LETTERS = "0-9A-Za-zÀ-ɏ£€"
# Texts of these characters are cut at blanks and marks, and nowhere else; others are left to the tokenizer as a whole.
_PLAIN = re.compile(f"[ \\t\\n\\r{_MARKS}{_LETTERS}]*")
_PARTS = re.compile(f"[ \\t\\n\\r]+|[{_MARKS}]|[{_LETTERS}]+")
_SPECIAL = re.compile(r"\[[A-Z]+\]")
_MOST_WORDS = 50_000
_EDGE = SHAPES - 1

# Pieces of one word, its shape once for each, and how many there are; nothing for a blank.
_Word = tuple[tuple[int, ...], tuple[int, ...], int]


@dataclass(frozen=True, slots=True)
class Cut:
    """A text in pieces.

    Attributes:
        ids: of each piece, with a mark at both ends.
        shapes: of the word of each piece.
        firsts: for each word the index of its first piece.
        starts: for each word its first character.
        ends: for each word one past its last character.
    """

    ids: list[int]
    shapes: list[int]
    firsts: list[int]
    starts: list[int]
    ends: list[int]


class Cutter:
    """Cuts texts with one tokenizer.

    Args:
        tokenizer: a ``tokenizers.Tokenizer`` of BERT's kind without padding and truncation.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, _Word] = {}
        first, *_, last = tokenizer.encode("a").ids
        self._begin, self._end = first, last

    def cut(self, text: str) -> Cut:
        """The pieces of a text."""
        if _PLAIN.fullmatch(text) is None or _SPECIAL.search(text) is not None:
            return self._cut_as_a_whole(text)
        parts = _PARTS.findall(text)
        known = self._known
        try:
            words = [known[part] for part in parts]
        except KeyError:
            words = [self._word(part) for part in parts]
        ids = [self._begin, *chain.from_iterable([word[0] for word in words]), self._end]
        shapes = [_EDGE, *chain.from_iterable([word[1] for word in words]), _EDGE]
        counts = [word[2] for word in words]
        bounds = list(accumulate(map(len, parts), initial=0))
        # A blank has no pieces and is no word.
        return Cut(
            ids,
            shapes,
            firsts=list(compress(accumulate(counts, initial=1), counts)),
            starts=list(compress(bounds, counts)),
            ends=list(compress(bounds[1:], counts)),
        )

    def _word(self, part: str) -> _Word:
        word = self._known.get(part)
        if word is None:
            ids = () if part.isspace() else tuple(self._tokenizer.encode(part, add_special_tokens=False).ids)
            word = (ids, (word_shape(part),) * len(ids), len(ids))
            if len(self._known) < _MOST_WORDS:
                self._known[part] = word
        return word

    def _cut_as_a_whole(self, text: str) -> Cut:
        encoding = self._tokenizer.encode(text)
        word_ids = encoding.word_ids
        firsts: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        shapes = [_EDGE] * len(word_ids)
        before = None
        for place, (word, (start, end)) in enumerate(zip(word_ids, encoding.offsets, strict=True)):
            if word is None:
                continue
            if word == before:
                ends[-1] = end
            else:
                firsts.append(place)
                starts.append(start)
                ends.append(end)
            before = word
        bounds = [*firsts, len(word_ids)]
        for first, next_first, start, end in zip(firsts, bounds[1:], starts, ends, strict=True):
            shape = word_shape(text[start:end])
            for place in range(first, next_first):
                if word_ids[place] is not None:
                    shapes[place] = shape
        return Cut(list(encoding.ids), shapes, firsts, starts, ends)
