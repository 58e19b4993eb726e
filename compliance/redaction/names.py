# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Bare names in running text: a frequent given name before another capitalised word, or words that no dictionary knows.

Guarantees: looks only at runs of capitalised words; a run that consists of ordinary words is never reported.
Does not: report a single unknown word; too many of them are brands, drugs and acronyms.

Example:
    >>> text = "Then Satu Elomo of Helsinki called Margaret S. Stouffer."
    >>> [text[f.start:f.end] for f in find_names(text)]
    ['Satu Elomo', 'Margaret S. Stouffer']
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compliance.redaction.finding import Finding
from compliance.redaction.gazetteers import phrases, word_set
from compliance.redaction.vocabulary import is_word

_C = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽȘȚ"
_LETTER = r"[^\W\d_]"
_PART = rf"[{_C}](?:{_LETTER}|['’‑-](?=[^\W\d_])){{1,24}}"
_RUN = re.compile(
    rf"(?<![\w@./’'-])(?P<first>{_PART})(?:[ ](?:[{_C}]\.?[ ]){{0,2}}(?:(?:van|von|de|del|della|der|den|di|da|do|dos|la|le|el|al|bin|ibn|af|av|zu)[ ]){{0,2}}{_PART}){{1,3}}(?![\w@])"
)
_WORD = re.compile(rf"{_LETTER}(?:{_LETTER}|['’‑-](?=[^\W\d_]))*")
_PARTICLES = frozenset(
    [
        "van", "von", "de", "del", "della", "der", "den", "di", "da", "do", "dos", "la", "le", "el", "al", "bin",
        "ibn", "af", "av", "zu",
    ]
)  # fmt: skip


def find_names(text: str) -> Iterator[Finding]:
    """Yield names of people with scores from 0.55 to 0.75.

    Args:
        text: a folded view; one mostly in capitals yields nothing.
    """
    letters = sum(map(str.isalpha, text))
    if letters == 0 or sum(map(str.isupper, text)) > letters / 2:
        return
    for match in _RUN.finditer(text):
        words = [(m.start(), m.end(), m[0]) for m in _WORD.finditer(text, match.start(), match.end())]
        full = [w for w in words if len(w[2]) > 1 and w[2] not in _PARTICLES]
        owner = max((i for i, w in enumerate(full[:-1]) if w[2].endswith(("'s", "’s"))), default=-1)
        full = full[owner + 1 :]
        # Drop words at the head that are ordinary ("Then", "Unlike", "The").
        while len(full) > 1 and _is_ordinary(full[0][2]) and full[0][2].lower() not in word_set("given_names"):
            full = full[1:]
        while len(full) > 1 and full[-1][2].lower() in _TAILS:
            full = full[:-1]
        if len(full) < 2:
            continue
        start, end = full[0][0], full[-1][1]
        score = _score([w[2] for w in full])
        if score:
            yield Finding(start, end, "PERSON", score, "name.given" if score > 0.6 else "name.unknown")


def _score(words: list[str]) -> float:
    lows = [w.lower().removesuffix("'s").removesuffix("’s") for w in words]
    if any(w.isupper() and len(w) > 3 for w in words) or " ".join(lows) in phrases("cities") | phrases(
        "places"
    ) | phrases("countries"):
        return 0.0
    if any(
        low in word_set("institutions")
        or low in word_set("nationalities")
        or low in phrases("countries")
        or low in _NOT_PEOPLE
        for low in lows
    ):
        return 0.0
    if lows[0] in word_set("given_names") and not (is_word(lows[-1]) and lows[-1] not in word_set("surnames")):
        return 0.75
    if lows[0] in word_set("given_names") and lows[0] not in _ALSO_WORDS:
        return 0.65
    if not any(is_word(low) for low in lows):
        return 0.55
    return 0.0


def _is_ordinary(word: str) -> bool:
    return is_word(word) or word.lower() in word_set("titles")


_TAILS = frozenset(["is", "was", "who", "said", "has", "had", "novel", "version", "told"])
_ALSO_WORDS = frozenset(
    [
        "may", "june", "april", "grace", "rose", "joy", "mark", "will", "bill", "art", "rich", "dawn", "hope",
        "faith", "christian", "jordan", "georgia", "virginia", "victoria", "charlotte", "austin", "paris", "dolores",
        "carol", "ruth",
    ]
)  # fmt: skip
_NOT_PEOPLE = frozenset(
    [
        "syndrome", "disease", "sign", "test", "scale", "score", "index", "criteria", "procedure", "maneuver",
        "reflex", "cell", "cells", "virus", "street", "road", "avenue", "hospital", "clinic", "university",
        "college", "school", "inc", "llc", "ltd", "corp", "group", "company", "bank", "center", "centre", "church",
        "hall", "day", "days", "foundation", "institute", "city", "county", "state", "park", "lake", "river",
        "mount", "saint", "st", "fort", "port", "san", "santa", "los", "las", "monday", "tuesday", "wednesday",
        "thursday", "friday", "saturday", "sunday", "january", "february", "march", "april", "may", "june", "july",
        "august", "september", "october", "november", "december", "health", "medical", "medicine", "surgery", "care",
        "plus", "pro", "tablet", "capsule", "mg", "vitamin",
    ]
)  # fmt: skip
