"""The phrases of training records that always had one label, looked up in other texts: what a tagger must beat.

Whoever can only look things up finds these. A tagger that is no better has learnt nothing that a list would not do.

Guarantees that of several phrases that begin at a word the longest is found, and none within another. Case counts.
Does not: hold a phrase that had two labels, or know how often one stood in the text without a label.

Source: Tjong Kim Sang and De Meulder 2003, CoNLL-2003 shared task, section 3: the baseline system.

Example:
    >>> book = PhraseBook([("aspirin daily", [(0, 7, "DRUG")])])
    >>> book.spans_in("no aspirin")
    [(3, 10, 'DRUG')]
"""

import re
from collections.abc import Iterable, Sequence

Span = tuple[int, int, str]
_PIECE = re.compile(r"\w+|[^\w\s]")


class PhraseBook:
    """Phrases by their first word."""

    def __init__(self, records: Iterable[tuple[str, Sequence[Span]]]) -> None:
        """Args: records: texts with their spans."""
        labels: dict[tuple[str, ...], set[str]] = {}
        for text, spans in records:
            for start, end, label in spans:
                labels.setdefault(tuple(_PIECE.findall(text[start:end])), set()).add(label)
        self._label_of = {phrase: min(said) for phrase, said in labels.items() if phrase and len(said) == 1}
        lengths: dict[str, set[int]] = {}
        for phrase in self._label_of:
            lengths.setdefault(phrase[0], set()).add(len(phrase))
        self._lengths = {first: sorted(each, reverse=True) for first, each in lengths.items()}

    def __len__(self) -> int:
        return len(self._label_of)

    def spans_in(self, text: str) -> list[Span]:
        """What of the book stands in a text."""
        pieces = list(_PIECE.finditer(text))
        words = [piece.group() for piece in pieces]
        found, at = [], 0
        while at < len(words):
            length = self._longest(words, at)
            if length:
                label = self._label_of[tuple(words[at : at + length])]
                found.append((pieces[at].start(), pieces[at + length - 1].end(), label))
            at += length or 1
        return found

    def _longest(self, words: list[str], at: int) -> int:
        """Words of the longest phrase that begins here; 0 where none does."""
        lengths = self._lengths.get(words[at], ())
        return next((each for each in lengths if tuple(words[at : at + each]) in self._label_of), 0)
