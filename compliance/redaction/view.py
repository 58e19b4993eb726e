"""The text as recognisers see it, with an exact way back to the original.

Guarantees: every span of the view maps to a span of the original that holds every code point the view's span was made
from;
full-width digits, compatibility forms, decomposed accents, zero-width and bidirectional controls, non-breaking spaces
and
Latin look-alikes inside Latin words are folded, so that they cannot hide an identifier.
Does not: guess at text that Unicode does not define. Lone surrogates and too many private or unassigned code points
are refused.

Example:
    >>> view = make_view("S\\u200bSN \\uff11\\uff12")
    >>> view.text, view.original(4, 6)
    ('SSN 12', (5, 7))
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby

from compliance.redaction.errors import RedactionError

# Characters that any of the rules below would change; texts without one take the fast way.
_UNUSUAL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xa0\xaa\xad\xb2-\xb4\xb9\xba\u02b0-\u1bff\u1d00-\u1dff\u2000-\u2018\u201b\u2020-\u2025"
    "\u2028-\u20ab\u20ad-\u2121\u2123-\ufffd\U00010000-\U0010ffff]"
)
_UNUSUAL_RUN = re.compile(f"{_UNUSUAL.pattern}+")
_SPACES = re.compile(r"[\u0085\u2028\u2029]")
# Source: Unicode Technical Standard 39, confusables; only the letters that look the same as a Latin one in common
# fonts.
_LOOKALIKES = str.maketrans(
    "АВЕКМНОРСТУХЅІЈаеорсухѕіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧοναρι",
    "ABEKMHOPCTYXSIJaeopcyxsijABEZHIKMNOPTYXovapi",
)
_MAX_UNDEFINED_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class View:
    """Folded text; ``starts[i]`` and ``ends[i]`` bound the original code points behind character ``i`` (None:
    identity)."""

    text: str
    starts: list[int] | None = None
    ends: list[int] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Map a non-empty span of the view to the original.

        Args:
            start: first character in the view.
            end: one past the last, > start.

        Returns:
            Start and end in code points of the original text.
        """
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def make_view(text: str) -> View:
    """Fold ``text`` for detection.

    Raises:
        RedactionError: lone surrogates, or more than 2 % private or unassigned code points.
    """
    if text.isascii() and text.isprintable():
        return View(text)
    if not _UNUSUAL.search(text):
        return View(text)
    _refuse_undefined(text)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    read = 0
    for run in _UNUSUAL_RUN.finditer(text):
        # The character before the run belongs to it: a combining mark changes what stands before it.
        first = max(read, run.start() - 1)
        pieces.append(text[read:first])
        starts += range(read, first)
        ends += range(read + 1, first + 1)
        for start, end in _clusters(text, first, run.end()):
            folded = _fold(text[start:end])
            if not folded and starts:
                # An invisible character belongs to what stands before it, so that a span never leaves it behind.
                ends[-1] = end
            pieces.append(folded)
            starts += [start] * len(folded)
            ends += [end] * len(folded)
        read = run.end()
    pieces.append(text[read:])
    starts += range(read, len(text))
    ends += range(read + 1, len(text) + 1)
    return View(_unmix("".join(pieces)), starts, ends)


def _refuse_undefined(text: str) -> None:
    undefined = 0
    for position, char in enumerate(text):
        if char < "\u0370":
            continue
        category = unicodedata.category(char)
        if category == "Cs":
            raise RedactionError(f"refused: lone surrogate at character {position}")
        undefined += category in ("Co", "Cn")
    if undefined > max(2, len(text) * _MAX_UNDEFINED_SHARE):
        raise RedactionError(f"refused: {undefined} private or unassigned characters in {len(text)}")


def _clusters(text: str, first: int, last: int) -> list[tuple[int, int]]:
    """Bounds of each base character of ``text[first:last]`` together with the combining marks after it."""
    bounds: list[tuple[int, int]] = []
    for position in range(first, last):
        char = text[position]
        if bounds and char > "\u02ff" and unicodedata.category(char) in ("Mn", "Me"):
            bounds[-1] = (bounds[-1][0], position + 1)
        else:
            bounds.append((position, position + 1))
    return bounds


def _fold(cluster: str) -> str:
    if len(cluster) == 1 and ((cluster.isascii() and cluster.isprintable()) or cluster in "\n\t\r"):
        return cluster
    if _SPACES.match(cluster):
        return "\n"
    composed = unicodedata.normalize("NFKC", cluster)
    kept = [c for c in composed if unicodedata.category(c) not in ("Cf", "Mn", "Me")]
    folded = "".join(_plain(c) for c in kept)
    return folded if folded or kept == [] else cluster[:1]


def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Zs" or (category == "Cc" and char not in "\n\t\r"):
        return " "
    if category == "Pd" or char == "\u2212":
        return "-"
    return char


def _unmix(text: str) -> str:
    """Turn look-alikes into Latin letters in words that mix scripts; words of one script stay as they are."""
    pieces: list[str] = []
    for is_word, group in groupby(text, str.isalnum):
        word = "".join(group)
        if is_word and not word.isascii() and any("A" <= c <= "z" or "0" <= c <= "9" for c in word):
            word = word.translate(_LOOKALIKES)
        pieces.append(word)
    return "".join(pieces)
