# ruff: noqa: E501 - a word list is read in one piece
"""Surrogates: made-up values of the same kind and form.

Guarantees: never the original, nor another real name or place of the same document; names agree in all their forms (``surrogate_names``),
numbers keep form and check digits (``surrogate_numbers``); e-mail domains are reserved for examples, and an address made of a name gets
that name's surrogate.
Does not: promise that two people get two names, nor that a made-up code belongs to nobody.

Source: RFC 2606 (example domains).

Example:
    >>> make_surrogate("EMAIL", "jane@corp.test", Keyed(bytes(32), None)).partition("@")[2] in EXAMPLE_DOMAINS
    True
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from compliance.redaction.gazetteers import given_names, phrases, single_words, word_set
from compliance.redaction.keyed import Keyed
from compliance.redaction.surrogate_names import folded, make_name, make_person
from compliance.redaction.surrogate_numbers import make_code, plain_code

EXAMPLE_DOMAINS = ("example.org", "example.com", "example.net")
_STREETS = [
    "Alder", "Aspen", "Birch", "Cedar", "Chestnut", "Cypress", "Elm", "Fir", "Hazel", "Hickory", "Juniper", "Larch",
    "Laurel", "Linden", "Maple", "Oak", "Olive", "Pine", "Poplar", "Rowan", "Spruce", "Sycamore", "Walnut", "Willow",
]  # fmt: skip
_ENDINGS = ["Street", "Avenue", "Road", "Lane", "Drive", "Court", "Place", "Way"]
_TRADES = ["Holdings", "Partners", "Services", "Industries", "Supply", "Logistics", "Consulting", "Works"]
_TURNS = 8


def make_surrogate(kind: str, value: str, keyed: Keyed, avoid: frozenset[str] = frozenset()) -> str:
    """A made-up value.

    Args:
        kind: entity type.
        value: what is replaced; not empty.
        keyed: choices of the subject.
        avoid: lower-case names and places of the document, which no surrogate may be.
    """
    if kind == "PERSON":
        made = make_person(value, keyed, avoid)
        return made if made.casefold() != value.casefold() else f"[{kind}]"
    if kind == "EMAIL":
        return _email(value, keyed, avoid)
    make = _MAKERS.get(kind)
    for turn in range(_TURNS):
        made = make(value, keyed, turn) if make else make_code(kind, value, keyed, turn)
        low = made.casefold()
        if low != value.casefold() and not (make and avoid.intersection([low, *low.split(", "), *low.split()])):
            return made
    return f"[{kind}]"


def _place(value: str, keyed: Keyed, turn: int) -> str:
    made = keyed.pick("place", value.casefold(), _cities(), turn)
    return made if value.islower() else made.upper() if value.isupper() else made.title()


def _address(value: str, keyed: Keyed, turn: int) -> str:
    low = " ".join(value.casefold().split())
    number = 1 + keyed.below("number", low, 999, turn)
    street = f"{keyed.pick('street', low, _STREETS, turn)} {keyed.pick('ending', low, _ENDINGS, turn)}"
    if len(low) < 8 and low.replace(" ", "").isalnum() and any(c.isdigit() for c in low):
        return plain_code(value, keyed, turn)
    town = f", {_place(value.title(), keyed, turn)}" if "," in value or "\n" in value else ""
    return f"{number} {street}{town}"


def _organisation(value: str, keyed: Keyed, turn: int) -> str:
    low = value.casefold()
    return f"{keyed.pick('organisation', low, single_words('surnames'), turn).title()} {keyed.pick('trade', low, _TRADES, turn)}"


def _email(value: str, keyed: Keyed, avoid: frozenset[str]) -> str:
    """The words of a name in the local part get the surrogates that they have in the text."""
    local, _, host = value.casefold().partition("@")
    words = re.findall(r"[^\W\d_]{2,}", local)
    female, male = given_names()
    known = word_set("surnames").union(female, male)
    if len(words) > 1 or any(w in known for w in words):
        made = re.sub(r"[^\W\d_]{2,}", lambda m: make_name(m[0], keyed, avoid), local)
        made = re.sub(r"\d", lambda m: keyed.digits("mailbox", local, 9)[m.start() % 9], made)
    else:
        made = f"{make_name(local or host, keyed, avoid)}{keyed.below('mailbox', local, 90) + 10}"
    mailbox = folded(made).encode("ascii", "ignore").decode() or "mail"
    # A value that is of this form already gets the domain that it does not have.
    turns = (f"{mailbox}@{keyed.pick('domain', host, EXAMPLE_DOMAINS, turn)}" for turn in range(_TURNS))
    return next((address for address in turns if address != value.casefold()), "[EMAIL]")


def _url(value: str, keyed: Keyed, turn: int) -> str:
    return f"https://example.org/{keyed.digest('url', value, turn).hex()[:8]}"


@cache
def _cities() -> tuple[str, ...]:
    return tuple(sorted(phrases("cities")))


_MAKERS: dict[str, Callable[[str, Keyed, int], str]] = {
    "LOCATION": _place,
    "ADDRESS": _address,
    "ORGANIZATION": _organisation,
    "URL": _url,
}
