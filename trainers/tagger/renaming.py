"""The same document about other people and places: what is masked gets new names and numbers of the same form.

Guarantees: a word or number that comes again gets the same new one; spans move along; what is kept stays as it is.
Does not: rename ordinary words, or care whether a new date is later than another.

Example:
    >>> renamed(Document("Mr Pušaver came", ((3, 10, "PERSON_MASK"),), "t"), Random(1)).text != "Mr Pušaver came"
    True
"""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

from compliance.redaction.vocabulary import is_word
from trainers.tagger.casting import Cast
from trainers.tagger.documents import Document, Span

_PART = re.compile(r"[^\W\d_]+|\d+")
_NAMED = frozenset(["PERSON", "ORGANIZATION", "LOCATION", "ADDRESS"])
_PLACES = frozenset(["LOCATION", "ADDRESS"])
_SHORTEST_NAME = 3


def renamed(document: Document, random: Random) -> Document:
    """The document with a new cast."""
    cast, known = Cast(random), dict[str, str]()
    text, spans, last = "", list[Span](), 0
    for start, end, label in sorted(document.spans):
        if start < last:
            continue
        text += document.text[last:start]
        value = document.text[start:end]
        if label.endswith("_MASK"):
            kind = label.removesuffix("_MASK")
            value = _PART.sub(lambda part, kind=kind: _new(part[0], kind, cast, known), value)  # type: ignore[misc]
        spans.append((len(text), len(text) + len(value), label))
        text += value
        last = end
    return replace(document, text=text + document.text[last:], spans=tuple(spans))


def _new(part: str, kind: str, cast: Cast, known: dict[str, str]) -> str:
    if part.isdecimal():
        if part not in known:
            known[part] = _number(part, cast)
        return known[part]
    if kind not in _NAMED or len(part) < _SHORTEST_NAME or not part[0].isupper() or is_word(part):
        return part
    low = part.lower()
    if low not in known:
        maker = cast.maker
        name = maker.city() if kind in _PLACES else maker.last_name() if cast.chance(0.7) else maker.first_name()
        known[low] = name.split(" ")[0]
    return known[low].upper() if part.isupper() else known[low]


def _number(part: str, cast: Cast) -> str:
    """A number of as many digits that could stand in the same date or code."""
    if len(part) == 4 and part[:2] in ("19", "20"):
        return str(cast.random.randint(1950, 2012))
    if len(part) <= 2:
        return str(cast.random.randint(1, 28)) if int(part) <= 31 else str(cast.random.randint(32, 99))
    return cast.pick(tuple("123456789")) + cast.digits(len(part) - 1)
