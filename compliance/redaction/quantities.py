"""Numbers as people write them.

Guarantees: understands digits and English number words from one to one hundred and ten, and writes those
below a hundred.
Does not: parse larger numbers in words.

Example:
    >>> spelled_number("ninety-two"), spelled_number("45"), spelled_number("nineties")
    (92, 45, 90)
"""

from __future__ import annotations

import re

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * i for i, word in enumerate(_TENS) if word != "_"
}
_VALUES |= {
    "hundred": 100,
    "nineties": 90,
    "hundreds": 100,
    "nonagenarian": 90,
    "centenarian": 100,
    "supercentenarian": 110,
}


def spelled_number(text: str) -> int | None:
    """The first number in ``text``, or None.

    Args:
        text: such as ``"76"``, ``"seventy six"``, ``"one hundred and two"``.
    """
    if digits := re.search(r"\d{1,4}", text):
        return int(digits[0])
    values = [_VALUES[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _VALUES]
    if not values:
        return None
    if 100 in values:
        return 100 + sum(v for v in values[values.index(100) + 1 :] if v < 100)
    return sum(values[:2]) if values[0] >= 20 and len(values) > 1 and values[1] < 10 else values[0]


def number_in_words(number: int, join: str = "-") -> str:
    """``number``, from 0 to 99, in words; ``join`` stands between tens and ones."""
    if number < len(_ONES):
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (join + _ONES[ones] if ones else "")


def spelled_year(text: str) -> int | None:
    """The year that ``text`` spells, or None; "oh six" alone is none.

    Args:
        text: such as ``"nineteen ninety five"``, ``"two thousand and seven"``, ``"March of twenty thirteen"``.
    """
    words = re.findall(r"[a-z]+", text.lower())
    for i, word in enumerate(words):
        rest = [w for w in words[i + 1 :] if w not in ("and", "oh", "o")]
        below = spelled_number(" ".join(rest)) or 0
        if word == "two" and rest[:1] == ["thousand"]:
            below = spelled_number(" ".join(rest[1:])) or 0
            return 2000 + below if below < 100 else None
        if word in ("nineteen", "twenty") and rest and rest[0] in _VALUES:
            is_century = below >= 10 or "oh" in words[i + 1 : i + 2] or "o" in words[i + 1 : i + 2]
            if is_century and below < 100:
                return (1900 if word == "nineteen" else 2000) + below
    return None
