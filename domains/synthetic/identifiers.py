"""Identifiers that look real and belong to nobody.

Guarantees that every identifier comes from a range that is reserved for fiction, testing or documentation, or is not
assigned, and that those with a check digit carry a right one, so that recognisers which verify it have work to do.
Does not guarantee that a made-up name and address in combination are nobody's: see `domains.synthetic.people`.

| identifier | range | Source |
|---|---|---|
| telephone | any area code, 555-0100 to 555-0199 | North American Numbering Plan, 555 line number guidelines |
| e-mail | example.com, example.org, example.net | RFC 2606 |
| social security number | area 900-999, group 10-49: neither SSN nor ITIN | SSA numbering since 2011; IRS on ITIN |
| payment card | the test numbers that card networks and processors publish | Luhn, ISO/IEC 7812-1 |
| IBAN | GB, bank code TEST | check digits by ISO 13616 |
| routing number | first two digits 50-59, not assigned | ABA routing number policy; checksum 3-7-1 |
| ZIP | first three digits not in use | USPS Publication 65 as listed in 2024 |
| record and member numbers | ours, Luhn check digit | - |

Example:
    >>> is_luhn("4111111111111111"), has_routing_checksum("111000025"), is_iban("GB82WEST12345698765432")
    (True, True, True)
"""

from __future__ import annotations

from random import Random

TEST_CARDS = (
    "4111111111111111",
    "4012888888881881",
    "4242424242424242",
    "5555555555554444",
    "5105105105105100",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
)
UNUSED_ZIP3 = ("213", "269", "343", "345", "353", "419", "428", "517", "519", "533", "552", "568", "589", "621", "642")
_ROUTING_WEIGHTS = (3, 7, 1, 3, 7, 1, 3, 7, 1)


def _digits(source: Random, count: int) -> str:
    return "".join(source.choice("0123456789") for _ in range(count))


def luhn_digit(payload: str) -> str:
    """The check digit that makes payload + digit pass Luhn."""
    total = 0
    for position, digit in enumerate(reversed(payload)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def is_luhn(number: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    return number.isdigit() and len(number) > 1 and luhn_digit(number[:-1]) == number[-1]


def has_routing_checksum(number: str) -> bool:
    """Whether nine digits satisfy the ABA checksum."""
    if len(number) != 9 or not number.isdigit():
        return False
    return sum(weight * int(digit) for weight, digit in zip(_ROUTING_WEIGHTS, number, strict=True)) % 10 == 0


def _iban_remainder(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97


def is_iban(text: str) -> bool:
    """Whether the check digits of an IBAN (blanks ignored) are right."""
    compact = text.replace(" ", "")
    return len(compact) > 14 and compact.isalnum() and _iban_remainder(compact) == 1


def telephone(source: Random) -> str:
    """A telephone number of the 555-01xx block, in one of four usual spellings."""
    area, line = source.choice("23456789") + _digits(source, 2), "01" + _digits(source, 2)
    style = source.choice(("({}) 555-{}", "{}-555-{}", "{}.555.{}", "+1 {} 555 {}"))
    return style.format(area, line)


def social_security(source: Random) -> str:
    """A number in the form of an SSN that can be neither an SSN nor an ITIN."""
    return f"9{_digits(source, 2)}-{source.randint(10, 49)}-{_digits(source, 4)}"


def payment_card(source: Random) -> str:
    """A published test card number, plain, in groups of four or with hyphens."""
    number = source.choice(TEST_CARDS)
    joiner = source.choice(("", " ", "-"))
    return joiner.join(number[start : start + 4] for start in range(0, len(number), 4))


def routing(source: Random) -> str:
    """Nine digits with a right ABA checksum and an unassigned prefix."""
    payload = "5" + _digits(source, 7)
    total = sum(weight * int(digit) for weight, digit in zip(_ROUTING_WEIGHTS, payload, strict=False))
    return payload + str(-total % 10)


def iban(source: Random) -> str:
    """A GB IBAN of the bank TEST with right check digits, in groups of four."""
    body = "TEST" + _digits(source, 14)
    check = 98 - _iban_remainder("GB00" + body)
    compact = f"GB{check:02d}{body}"
    return " ".join(compact[start : start + 4] for start in range(0, len(compact), 4))


def numbered(source: Random, prefix: str, length: int) -> str:
    """A prefix and `length` digits of which the last is the Luhn digit of the rest."""
    payload = source.choice("123456789") + _digits(source, length - 2)
    return f"{prefix}{payload}{luhn_digit(payload)}"


def postcode(source: Random) -> str:
    """A five-digit ZIP code that is not in use."""
    return source.choice(UNUSED_ZIP3) + _digits(source, 2)
