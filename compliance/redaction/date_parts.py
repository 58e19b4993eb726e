"""The parts of a written date: day, month, year and weekday, read and written back in the form that they had.

Guarantees: what ``*_like`` writes has the letter case, abbreviation, ordinal ending and digits of its model.
Does not: know what belongs together; ``written_dates`` does.

Example:
    >>> day_like("third", 21), month_like("Sept.", 1), year_like("'99", 2004), year_of_token("twenty nineteen")
    ('twenty-first', 'Jan.', "'04", 2019)
"""

from __future__ import annotations

import re

from compliance.redaction.quantities import number_in_words, spelled_year

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SEASONS = ("winter", "spring", "summer", "autumn")
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth", *(f"twenty-{n}" for n in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh",
    "eighth", "ninth")), "thirtieth", "thirty-first",
)  # fmt: skip
# A two-digit year above this one belongs to the last century.
_PIVOT = 30

_NUMBER_WORD = (
    "(?:ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty"
    "|one|two|three|four|five|six|seven|eight|nine)"
)
_SPOKEN_YEAR = (
    rf"(?:nineteen|twenty)[ -](?:oh[ -]|o[ -])?{_NUMBER_WORD}(?:[ -]{_NUMBER_WORD})?"
    rf"|two thousand(?:(?: and)?[ -]{_NUMBER_WORD}(?:[ -]{_NUMBER_WORD})?)?"
)
DAY = r"(?:\d{1,2}(?:st|nd|rd|th)?(?!\w)|" + "|".join(o.replace("-", "[ -]") for o in reversed(_ORDINALS)) + r")"
MONTH = (
    r"(?:"
    + "|".join(f"{m[:3]}(?:{m[3:]}|t?\\.)?" if m != "september" else "sept?(?:ember|\\.)?" for m in MONTHS)
    + r")(?![a-z])"
)
YEAR = rf"(?:(?:18|19|20)\d\d(?!\d)|{_SPOKEN_YEAR})"
SHORT_YEAR = r"'?\d\d(?!\d)"


def day_of_token(token: str) -> int:
    """The day that ``token`` (a match of ``DAY``) names; 0 if there is none."""
    digits = "".join(c for c in token if c.isdecimal())
    return int(digits) if digits else _ORDINALS.index(token.lower().replace(" ", "-")) + 1


def day_like(token: str, day: int) -> str:
    """``day`` written like ``token``."""
    if not token[0].isdecimal():
        word = _ORDINALS[day - 1]
        return cased(word.replace("-", " ") if " " in token else word, token)
    ending = token.lstrip("0123456789")
    number = f"{day:02}" if token.startswith("0") else f"{day}"
    return number + (cased(_ending(day), ending) if ending else "")


def month_of_token(token: str) -> int:
    """The month, 1 to 12, that ``token`` (a match of ``MONTH``) names."""
    return next(i for i, m in enumerate(MONTHS, 1) if m.startswith(token.lower()[:3]))


def month_like(token: str, month: int, *, is_short: bool = False) -> str:
    """``month`` written like ``token``; ``is_short`` says that "May" stands for an abbreviation."""
    full = MONTHS[month - 1]
    is_abbreviated = is_short or token.lower() not in MONTHS
    made = full[:3] if is_abbreviated else full
    return cased(made, token) + ("." if token.endswith(".") and made != full else "")


def year_of_token(token: str) -> int:
    """The year that ``token`` (a match of ``YEAR`` or ``SHORT_YEAR``) names.

    Raises:
        ValueError: it names none.
    """
    digits = token.lstrip("'")
    if digits.isdecimal():
        number = int(digits)
        return number if len(digits) == 4 else number + (1900 if number > _PIVOT else 2000)
    if (spelled := spelled_year(token)) is None and token.lower() != "two thousand":
        raise ValueError("no year")
    return spelled or 2000


def year_like(token: str, year: int) -> str:
    """``year`` written like ``token``."""
    digits = token.lstrip("'")
    if digits.isdecimal():
        return token[: len(token) - len(digits)] + (f"{year}" if len(digits) == 4 else f"{year % 100:02}")
    century, below = divmod(year, 100)
    join = "-" if re.search(r"(?i)ty-(?!oh?\b)", token[3:]) else " "
    first_join = "-" if re.match(r"(?i)(?:nineteen|twenty)-", token) else " "
    if century == 20 and (below == 0 or "thousand" in token.lower()):
        link = " and " if " and " in token.lower() else " "
        made = "two thousand" + (link + number_in_words(below, join) if below else "")
    else:
        tail = "hundred" if below == 0 else f"oh{first_join}{number_in_words(below)}" if below < 10 else ""
        made = number_in_words(century) + first_join + (tail or number_in_words(below, join))
    return cased(made, token)


def weekday_like(token: str, days: int) -> str:
    """The weekday ``days`` after the one that ``token`` names, written like it."""
    plain = token.rstrip(".")
    index = next(i for i, w in enumerate(WEEKDAYS) if w.startswith(plain.lower()[:3]))
    made = WEEKDAYS[(index + days) % 7]
    return cased(made if plain.lower() in WEEKDAYS else made[:3], plain) + token[len(plain) :]


def cased(made: str, model: str) -> str:
    """``made`` in the letter case of ``model``."""
    if model.isupper() and len(model) > 1:
        return made.upper()
    return made if model.islower() else made[0].upper() + made[1:]


def _ending(day: int) -> str:
    return "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
