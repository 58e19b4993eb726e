# ruff: noqa: E501 - a word list is read in one piece
"""Made-up names of people, word by word, so that all forms of one name agree.

Guarantees: a word of a name gets the same surrogate wherever it stands ("Smith", "Dr. Smith", "SMITH", "John Smith's"); initials agree
with the names that they stand for, without knowing them, because each first letter has its keyed substitute; letter case, the number of
words, possessives, titles and particles stay; a listed given name keeps its gender, a name of a listed origin gets one of the same
origin as far as there are two; no surrogate is a word in ``avoid``.
Does not: promise two people two names. A surname of a rare origin keeps the origin before its initial, a given name the initial before
the origin. Where ``avoid`` forbids the first choice, one document has another surrogate than those that were redacted without it.

Example:
    >>> from compliance.redaction.keyed import Keyed
    >>> whole, short = (make_person(v, Keyed(bytes(32), "s")) for v in ("John Smith", "Dr. J. SMITH's"))
    >>> short == f"Dr. {whole[0]}. {whole.split()[1].upper()}'s"
    True
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from compliance.redaction.gazetteers import given_names, names_by_locale, single_words, word_set
from compliance.redaction.keyed import Keyed

_WORD = re.compile(r"[^\W\d_][\w’'‑]*\.?")
_POSSESSIVE = re.compile(r"['’]s$", re.I)
_PARTICLES = frozenset(
    "van von de del della der den la le el al bin ibn ben bint di da do dos das du af av ten ter zu y e and und et".split()  # noqa: SIM905
)
_SUFFIXES = frozenset("jr sr ii iii iv md phd esq rn np jd cpa dds".split())  # noqa: SIM905
# Letters that one origin alone, or one more than others, writes; the first that fits counts.
_LETTERS = (
    ("polish", "ąćęłńśźż"), ("turkish", "ğışİ"), ("nordic", "åæø"), ("czech", "řůěčšžý"), ("german", "ßäüö"),
    ("portuguese", "ãõ"), ("spanish", "ñ"), ("french", "èêëàâîïôûçœ"), ("spanish", "áéíóú"),
)  # fmt: skip
_BASE = str.maketrans("łøıđßæœ", "loidsao")
# A letter stands for another only where so many names of each part begin with it.
_ENOUGH = 5


def make_person(value: str, keyed: Keyed, avoid: frozenset[str] = frozenset()) -> str:
    """A surrogate for a name in any of its forms.

    Args:
        value: the name, perhaps with title, initials, possessive.
        keyed: choices of the subject.
        avoid: lower-case words that no surrogate may be: the real names of the document.
    """

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        plain = word.rstrip(".")
        low = plain.lower()
        # "E." is an initial, "Silva e Costa" has none.
        is_particle = low in _PARTICLES and not (len(word) > len(low) or (len(low) == 1 and plain.isupper()))
        if low in word_set("titles") or is_particle or (match.start() and low in _SUFFIXES):
            return word
        owner = _POSSESSIVE.search(plain)
        tail = (owner[0] if owner else "") + word[len(plain) :]
        stem = plain[: owner.start()] if owner else plain
        if len(stem) == 1:
            return _like(initial_of(stem, keyed), stem) + tail
        return _like(make_name(stem, keyed, avoid), stem) + tail

    return _WORD.sub(replace, value)


def name_words(values: Iterable[str]) -> frozenset[str]:
    """The words of names in lower case, with and without accents; no titles, particles and initials: what ``avoid`` wants."""
    words = (_POSSESSIVE.sub("", w.rstrip(".")).lower() for value in values for w in _WORD.findall(value))
    names = [w for w in words if len(w) > 1 and w not in word_set("titles") and w not in _PARTICLES]
    return frozenset([*names, *map(folded, names)])


def make_name(word: str, keyed: Keyed, avoid: frozenset[str] = frozenset()) -> str:
    """The surrogate, in lower case, of one word of a name in any letter case."""
    low = word.lower()
    part, locale = _traits(low)
    letter = initial_of(low, keyed).lower()
    # "García" is no surrogate for "Garcia".
    taken = avoid | {low, folded(low)}
    for pool in _pools(part, locale, letter):
        made = keyed.pick("name/" + part, low, pool)
        if made not in taken and folded(made) not in taken:
            return made
        if left := [name for name in pool if name not in taken and folded(name) not in taken]:
            return keyed.pick("name/" + part, low, left, turn=1)
    # Every listed name occurs in the document; a made-up word is still better than the name.
    return letter + "".join(keyed.pick("syllable", low, ("ara", "elo", "ima", "oru"), turn) for turn in range(3))


@lru_cache(maxsize=65_536)
def folded(low: str) -> str:
    """A lower-case word without its accents."""
    return "".join(c for c in unicodedata.normalize("NFD", low.translate(_BASE)) if not unicodedata.combining(c))


def initial_of(word: str, keyed: Keyed) -> str:
    """The keyed substitute, a capital, of the first letter of ``word``; never that letter itself."""
    base = folded(word[0].lower())[:1]
    letters = keyed.order("initial", _letters())
    if base in letters:
        return letters[(letters.index(base) + 1) % len(letters)].upper()
    return keyed.pick("initial", base, letters).upper()


@lru_cache(maxsize=65_536)
def _traits(low: str) -> tuple[str, str]:
    """The part of a name that ``low`` is (``f``, ``m``, ``fm`` or ``s``), and its origin ('' for none)."""
    female, male = given_names()
    homes = [(locale, part) for (locale, part), names in names_by_locale().items() if low in names]
    is_female = low in female or any(part == "f" for _, part in homes)
    is_male = low in male or any(part == "m" for _, part in homes)
    part = "f" * is_female + "m" * is_male or "s"
    own = [locale for locale, home in homes if home in part]
    is_plain = low.isascii() and not own
    return part, own[0] if own else "" if is_plain else next((n for n, marks in _LETTERS if set(low) & set(marks)), "")


def _pools(part: str, locale: str, letter: str) -> list[Sequence[str]]:
    """Names to choose from, the likest first."""
    near = [name for p in part for name in names_by_locale().get((locale, p), ())] if locale else []
    exact = [name for name in near if name[0] == letter]
    common = _common(part, letter)
    pools = [exact if len(exact) > 1 else [], near if part == "s" else [], common, near, _common(part, "")]
    return [pool for pool in pools if pool]


@cache
def _common(part: str, letter: str) -> tuple[str, ...]:
    """Names of no listed origin that begin with ``letter``."""
    female, male = given_names()
    names = {"f": female, "m": male, "fm": female + male, "s": single_words("surnames")}[part]
    elsewhere = {name for each in names_by_locale().values() for name in each}
    return tuple(
        n for n in dict.fromkeys(names) if n.isascii() and "-" not in n and n not in elsewhere and n.startswith(letter)
    )


@cache
def _letters() -> tuple[str, ...]:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return tuple(c for c in alphabet if all(len(_common(part, c)) >= _ENOUGH for part in ("f", "m", "s")))


def _like(made: str, word: str) -> str:
    if word.isupper() and len(word) > 1:
        return made.upper()
    if word.islower():
        return made.lower()
    return "Mc" + made[2:].capitalize() if made.startswith("mc") else made.title()
