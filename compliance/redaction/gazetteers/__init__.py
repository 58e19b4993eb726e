"""Word lists that rules and surrogates share.

Guarantees: read once from the files of this folder; blank lines and lines that start with ``#`` are skipped.
Does not: claim to be complete; a name that is not listed is the tagger's part.

Example:
    >>> "norway" in phrases("countries")
    True
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def phrases(name: str) -> frozenset[str]:
    """Phrases of a list that has one a line, in lower case."""
    return frozenset(_lines(name))


@cache
def single_words(name: str) -> tuple[str, ...]:
    """Words of a list that has many a line, in file order, in lower case; separators are left out."""
    return tuple(word for line in _lines(name) for word in line.split() if word != "-")


@cache
def word_set(name: str) -> frozenset[str]:
    """``single_words`` as a set."""
    return frozenset(single_words(name))


@cache
def given_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Mostly female and mostly male given names, in lower case, in file order."""
    female, _, male = " ".join(_lines("given_names")).partition(" - ")
    return tuple(female.split()), tuple(male.split())


@cache
def names_by_locale() -> dict[tuple[str, str], tuple[str, ...]]:
    """(locale, part) -> names in lower case; the parts are ``f``, ``m`` (given names) and ``s`` (surnames)."""
    rows = [line.split() for line in _lines("names_by_locale")]
    return {(locale, part): tuple(names) for locale, part, *names in rows}


def _lines(name: str) -> list[str]:
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
