# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Surrogates: made-up values of the same kind and form.

Guarantees: never the original; the same person's name parts get the same surrogate parts; lengths, separators and letter case of
codes stay; check digits stay valid; telephone numbers, addresses of machines and e-mail domains come from ranges that are
reserved for examples, and social security numbers from an area that is never issued.
Does not: promise that two people get two names, nor that a made-up code belongs to nobody.

Source: RFC 2606 (example domains), RFC 5737 and 3849 (example addresses), NANP 555-0100 to 555-0199 (fictional use).

Example:
    >>> make_surrogate("EMAIL", "jane@corp.test", Keyed(bytes(32), None)).endswith("@example.org")
    True
"""

from __future__ import annotations

import re
from collections.abc import Callable

from compliance.redaction import checksums as check
from compliance.redaction.gazetteers import given_names, phrases, single_words, word_set
from compliance.redaction.keyed import Keyed

_STREETS = [
    "Alder", "Aspen", "Birch", "Cedar", "Chestnut", "Cypress", "Elm", "Fir", "Hazel", "Hickory", "Juniper", "Larch",
    "Laurel", "Linden", "Maple", "Oak", "Olive", "Pine", "Poplar", "Rowan", "Spruce", "Sycamore", "Walnut", "Willow",
]  # fmt: skip
_ENDINGS = ["Street", "Avenue", "Road", "Lane", "Drive", "Court", "Place", "Way"]
_TRADES = ["Holdings", "Partners", "Services", "Industries", "Supply", "Logistics", "Consulting", "Works"]
_WORD = re.compile(r"[^\W\d_][\w’'‑]*\.?")
_TURNS = 8


def make_surrogate(kind: str, value: str, keyed: Keyed, given: frozenset[str] = frozenset()) -> str:
    """A made-up value.

    Args:
        kind: entity type.
        value: what is replaced; not empty.
        keyed: choices of the subject.
        given: lower-case words that are known to be given names in this document.
    """
    make = _MAKERS.get(kind, _code)
    for turn in range(_TURNS):
        made = _person(value, keyed, turn, given) if kind == "PERSON" else make(value, keyed, turn)
        if made.casefold() != value.casefold():
            return made
    return f"[{kind}]"


def _person(value: str, keyed: Keyed, turn: int, given: frozenset[str]) -> str:
    female, male = given_names()
    words = [w for w in _WORD.findall(value) if w.lower().rstrip(".") not in word_set("titles")]

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        low = word.lower().rstrip(".")
        if low in word_set("titles"):
            return word
        if len(low) == 1:
            return keyed.pick("initial", low, "ABCDEFGHJKLMNPRSTVW", turn) + ("." if word.endswith(".") else "")
        if low in {"van", "von", "de", "del", "della", "der", "la", "le", "al", "bin", "di", "da", "do", "dos", "el"}:
            return word
        is_given = low in given or low in female or low in male or (len(words) > 1 and word == words[0])
        low = low.removesuffix("'s").removesuffix("’s")
        if is_given:
            choices = female if low in female else male if low in male else female + male
        else:
            choices = single_words("surnames")
        made = keyed.pick("given" if is_given else "surname", low, [c for c in choices if c != low], turn)
        return _like(made, word) + word[len(word.rstrip(".")) :]

    return _WORD.sub(replace, value)


def _like(made: str, word: str) -> str:
    if word.isupper() and len(word) > 1:
        return made.upper()
    return made if word.islower() else made.title()


def _place(value: str, keyed: Keyed, turn: int) -> str:
    made = keyed.pick("place", value.casefold(), sorted(phrases("cities")), turn)
    return made if value.islower() else made.upper() if value.isupper() else made.title()


def _address(value: str, keyed: Keyed, turn: int) -> str:
    low = " ".join(value.casefold().split())
    number = 1 + keyed.below("number", low, 999, turn)
    street = f"{keyed.pick('street', low, _STREETS, turn)} {keyed.pick('ending', low, _ENDINGS, turn)}"
    if len(low) < 8 and low.replace(" ", "").isalnum() and any(c.isdigit() for c in low):
        return _code(value, keyed, turn)
    town = f", {_place(value.title(), keyed, turn)}" if "," in value or "\n" in value else ""
    return f"{number} {street}{town}"


def _organisation(value: str, keyed: Keyed, turn: int) -> str:
    low = value.casefold()
    return f"{keyed.pick('organisation', low, single_words('surnames'), turn).title()} {keyed.pick('trade', low, _TRADES, turn)}"


def _code(value: str, keyed: Keyed, turn: int) -> str:
    """Digits for digits, letters for letters of the same case; all else stays."""
    stream = b"".join(keyed.digest("code", value.casefold(), turn * 64 + i) for i in range(1 + len(value) // 32))
    made = []
    for char, byte in zip(value, stream, strict=False):
        if char.isdecimal():
            made.append(str(byte % 10))
        elif char.isalpha():
            letter = "ABCDEFGHJKLMNPQRSTUVWXYZ"[byte % 24]
            made.append(letter if char.isupper() else letter.lower())
        else:
            made.append(char)
    return "".join(made)


def _fill(value: str, digits: str) -> str:
    """Put ``digits`` where ``value`` has digits, in order; what is left over keeps its place as 0."""
    supply = iter(digits)
    return "".join(next(supply, "0") if c.isdecimal() else c for c in value)


def _checked(holds: check.Check, lead: str = "") -> Callable[[str, Keyed, int], str]:
    """A maker of codes that begin with the digits ``lead`` and whose last digit is chosen so that the check holds."""

    def make(value: str, keyed: Keyed, turn: int) -> str:
        made = list(_code(value, keyed, turn))
        places = [i for i, c in enumerate(made) if c.isdecimal()]
        if len(places) <= len(lead) or not holds(value):
            return "".join(made)
        for place, digit in zip(places, lead, strict=False):
            made[place] = digit
        for digit in "0123456789":
            made[places[-1]] = digit
            if holds("".join(made)):
                break
        return "".join(made)

    return make


def _card(value: str, keyed: Keyed, turn: int) -> str:
    count = len(check.digits_of(value))
    body = ("400000" + keyed.digits("card", value, max(count - 7, 1), turn))[: count - 1]
    return next((made for d in "0123456789" if check.luhn(made := _fill(value, body + d))), value)


def _ssn(value: str, keyed: Keyed, turn: int) -> str:
    return _fill(
        value,
        "9"
        + keyed.digits("ssn", value, 2, turn)
        + "0"
        + str(1 + keyed.below("group", value, 9, turn))
        + keyed.digits("serial", value, 4, turn),
    )


def _phone(value: str, keyed: Keyed, turn: int) -> str:
    count = len(check.digits_of(value))
    area = str(200 + keyed.below("area", value, 700, turn))
    local = "55501" + keyed.digits("line", value, 2, turn)
    if count == 10:
        return _fill(value, area + local)
    if count == 11 and value.lstrip("+( ").startswith("1"):
        return _fill(value, "1" + area + local)
    if count == 7:
        return _fill(value, local)
    kept = re.match(r"\+\d{1,2}", value)
    digits = keyed.digits("phone", value, count, turn)
    return _fill(value, (kept[0][1:] + digits if kept else digits)[:count])


def _email(value: str, keyed: Keyed, turn: int) -> str:
    female, male = given_names()
    low = value.casefold()
    given = keyed.pick("given", low, [n for n in female + male if n.isascii()], turn)
    surname = keyed.pick("surname", low, [n for n in single_words("surnames") if n.isascii()], turn)
    return f"{given}.{surname}{keyed.below('mailbox', low, 90, turn) + 10}@example.org"


def _ip(value: str, keyed: Keyed, turn: int) -> str:
    number = keyed.below("ip", value, 2**16, turn)
    if ":" in value:
        return f"2001:db8::{number:x}"
    return f"{('192.0.2', '198.51.100', '203.0.113')[number % 3]}.{1 + number // 3 % 254}"


def _iban(value: str, keyed: Keyed, turn: int) -> str:
    made = list(value[:2] + _code(value[2:], keyed, turn))
    places = [i for i, c in enumerate(made) if c.isdecimal()][:2]
    for number in range(2, 99 if check.iban(value) else 0):
        for place, digit in zip(places, f"{number:02}", strict=True):
            made[place] = digit
        if check.iban("".join(made)):
            break
    return "".join(made)


def _vin(value: str, keyed: Keyed, turn: int) -> str:
    made = _code(value.upper(), keyed, turn).translate(str.maketrans("IOQ", "HPR"))
    return next((v for d in "0123456789X" if check.vin(v := made[:8] + d + made[9:])), made)


def _url(value: str, keyed: Keyed, turn: int) -> str:
    return f"https://example.org/{keyed.digest('url', value, turn).hex()[:8]}"


_MAKERS: dict[str, Callable[[str, Keyed, int], str]] = {
    "LOCATION": _place,
    "ADDRESS": _address,
    "ORGANIZATION": _organisation,
    "CARD": _card,
    "SSN": _ssn,
    "PHONE": _phone,
    "FAX": _phone,
    "EMAIL": _email,
    "IP": _ip,
    "IBAN": _iban,
    "VEHICLE": _vin,
    "URL": _url,
    "NPI": _checked(check.npi, "1"),
    "DEA": _checked(check.dea),
    "ROUTING": _checked(check.aba, "01"),
}
