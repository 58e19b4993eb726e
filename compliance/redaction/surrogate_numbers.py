# ruff: noqa: E501 - a table is read in one piece
"""Made-up numbers and codes in the form of the original.

Guarantees: lengths, separators and letter case stay; "123-45-6789" and "123456789" get the same figures; a value whose check digits hold
gets one whose check digits hold; telephone numbers, IP and hardware addresses come from ranges reserved for examples where the
country has one; social security numbers come from an area that is never issued.
Does not: promise that a made-up code belongs to nobody.

Source: RFC 5737 and 3849 (IP), RFC 9542 2.1.4 (hardware addresses); for telephone numbers see ``_EXAMPLES``.

Example:
    >>> from compliance.redaction.keyed import Keyed
    >>> check.card(make_code("CARD", "4111 1111 1111 1111", Keyed(bytes(32), None), 0))
    True
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from compliance.redaction import checksums as check
from compliance.redaction import country_checks as country
from compliance.redaction.keyed import Keyed

_D = "0123456789"
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_VIN = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
_MBI = "ACDEFGHJKMNPQRTUVWXY"
_MONTH = tuple(f"{n:02}" for n in range(1, 13))
_DAY = tuple(f"{n:02}" for n in range(1, 29))
_YY = tuple(f"{n:02}" for n in range(100))
_KEEP = ""
_Slot = Sequence[str]

# Check -> what stands at each place (_KEEP: as it is), and how many of the last characters are searched, and among which.
_FORMS: dict[str, tuple[tuple[check.Check, tuple[_Slot, ...], int, str], ...]] = {
    "NPI": ((check.npi, ("1", *[_D] * 8, "0"), 1, _D),),
    "DEA": ((check.dea, ("ABCDEFGHJKLMPRSTUX", "ABCDEFGHJKLMPRSTUX", *[_D] * 7), 1, _D),),
    "ROUTING": ((check.aba, ("0", "1", *[_D] * 7), 1, _D),),
    "BIC": ((check.bic, (*[_LETTERS] * 4, _KEEP, _KEEP, _LETTERS, _LETTERS), 0, ""),),
    "HEALTH_PLAN": (
        (check.mbi, (_D[1:], _MBI, _MBI, _D, _MBI, _MBI, _D, _MBI, _MBI, _D, _D), 0, ""),
        (country.medicare_au, ("23456", *[_D] * 7, _D), 1, _D),
    ),
    "MRN": ((check.nhs, ("9", "9", "9", *[_D] * 7), 1, _D),),
    "DEVICE": ((country.imei, ("0", "0", *[_D] * 13), 1, _D),),
    "TAX_ID": (
        (check.itin, ("9", _D, _D, tuple(f"{n}" for n in range(70, 89)), *[_D] * 4), 0, ""),
        (country.codice_fiscale, (*[_LETTERS] * 6, _YY, "ABCDEHLMPRST", _DAY, "ABCDEFGHIL", *[_D] * 3, "A"), 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ),
    "NATIONAL_ID": (
        (check.pesel, (_YY, _MONTH, _DAY, *[_D] * 5), 1, _D),
        (check.nif, (_KEEP, *[_D] * 7, "A"), 1, "ABCDEFGHJKLMNPQRSTVWXYZ"),
        (country.hetu, (_DAY, _MONTH, _YY, _D, _D, _D, "A"), 1, "0123456789ABCDEFHJKLMNPRSTUVWXY"),
        (country.nir, (_KEEP, _YY, _MONTH, *[_D] * 10), 2, _D),
        (country.nric, (_KEEP, *[_D] * 7, "A"), 1, "ABCDEFGHIJKLMNPQRTUWXZ"),
        (country.ahv, (_KEEP, _KEEP, _KEEP, *[_D] * 10), 1, _D),
        (country.cpf, (*[_D] * 11,), 2, _D),
        (country.tckn, (_D[1:], *[_D] * 10), 2, _D),
        (country.fodselsnummer, (_DAY, _MONTH, *[_D] * 7), 2, _D),
        (country.steuer_id, (_D[1:], *[_D] * 10), 1, _D),
        (country.rrn_be, (_YY, _MONTH, _DAY, *[_D] * 5), 2, _D),
        (country.said, (_YY, _MONTH, _DAY, *[_D] * 4, "0", "8", _D), 1, _D),
        (country.aadhaar, (_D[2:], *[_D] * 11), 1, _D),
        (country.personnummer, (_YY, _MONTH, _DAY, *[_D] * 4), 1, _D),
        (country.personnummer, ("1", "9", _YY, _MONTH, _DAY, *[_D] * 4), 1, _D),
        (country.cpr, (_DAY, _MONTH, *[_D] * 6), 0, ""),
        (country.sin, ("9", *[_D] * 8), 1, _D),
        (country.tfn, (*[_D] * 9,), 1, _D),
        (country.bsn, (_D[1:], *[_D] * 8), 1, _D),
    ),
}  # fmt: skip
# A check of two mod-11 digits has no answer for some numbers.
_TRIES = 60


def make_code(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    """A number or code for ``value``; another one for each ``turn``."""
    return _MAKERS.get(kind, _checked)(kind, value, keyed, turn)


def plain_code(value: str, keyed: Keyed, turn: int) -> str:
    """Digits for digits, letters for letters of the same case; all else stays and counts for nothing."""
    plain = _normal(value)
    stream = b"".join(keyed.digest("code", plain, turn * 64 + i) for i in range(1 + len(value) // 32))
    made, used = [], 0
    for char in value:
        if not char.isalnum():
            made.append(char)
            continue
        byte = stream[used]
        used += 1
        made.append(_cased(_LETTERS[byte % 24], char) if char.isalpha() else str(byte % 10))
    return "".join(made)


def _normal(value: str) -> str:
    return re.sub(r"[\W_]+", "", value).casefold()


def _cased(made: str, char: str) -> str:
    return made.lower() if char.islower() else made


def _fill(value: str, figures: str) -> str:
    """Put ``figures`` where ``value`` has letters and digits, in order."""
    supply = iter(figures)
    return "".join(_cased(next(supply, "0"), c) if c.isalnum() else c for c in value)


def _fill_digits(value: str, digits: str) -> str:
    """Put ``digits`` where ``value`` has digits, in order."""
    supply = iter(digits)
    return "".join(next(supply, "0") if c.isdecimal() else c for c in value)


def _checked(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    for holds, slots, searched, alphabet in _FORMS.get(kind, ()):
        if holds(value) and (made := _formed(value, (holds, slots, searched, alphabet), keyed, turn)):
            return made
    return plain_code(value, keyed, turn)


def _formed(value: str, form: tuple[check.Check, tuple[_Slot, ...], int, str], keyed: Keyed, turn: int) -> str | None:
    """A value of the form for which its check holds, or None where the original has another length."""
    holds, slots, searched, alphabet = form
    plain = [c for c in value if c.isalnum()]
    name = "form/" + _normal(value)
    for attempt in range(turn * _TRIES, (turn + 1) * _TRIES):
        body = ""
        for slot in slots:
            at = len(body)
            body += keyed.pick(name, f"{at}", slot, attempt) if slot else plain[at].upper() if at < len(plain) else ""
        # A hyphen of a code may be a letter as well ("A" for this century): it stays, as all beyond the form does.
        body += "".join(plain[len(body) :]).upper()
        if len(body) != len(plain):
            return None
        for end in _ends(alphabet, searched):
            made = _fill(value, body[: len(body) - searched] + end)
            if holds(made):
                return made
    return None


def _ends(alphabet: str, count: int) -> Sequence[str]:
    if count == 0:
        return [""]
    return alphabet if count == 1 else [a + b for a in alphabet for b in alphabet]


def _card(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    count = len(check.digits_of(value))
    body = ("400000" + keyed.digits("card", _normal(value), max(count - 7, 1), turn))[: max(count - 1, 0)]
    return next((made for d in _D if check.luhn(made := _fill_digits(value, body + d))), plain_code(value, keyed, turn))


def _ssn(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    plain = _normal(value)
    group = 1 + keyed.below("group", plain, 9, turn)
    made = f"9{keyed.digits('ssn', plain, 2, turn)}0{group}{keyed.digits('serial', plain, 4, turn)}"
    return _fill_digits(value, made[-len(check.digits_of(value)) :] if len(check.digits_of(value)) < 9 else made)


# Country code -> beginnings of its example numbers without the trunk 0; digits beyond them are free. Where the regulator names single
# numbers or a part of a hundred, they stand here whole. North America: 555-0100 to 555-0199 in every area (ATIS-0300048, 555 NXX).
# Source, each as others quote it (the regulators' own pages were not at hand): 33 ARCEP decision 2018-0881 as amended by 2022-1583, annex 1; 353 ComReg 15/136, numbers for drama use (020 91X XXXX);
# 44 Ofcom, Telephone numbers for use in TV and radio drama programmes; 46 PTS, telefonnummer i böcker och filmer (031-390 06 00 to 99,
# 040-628 04 00 to 99, 08-465 004 00 to 99, 070-174 06 05 to 99); 49 BNetzA, Mitteilung 148/2021, Amtsblatt 7/2021; 61 ACMA, Phone
# numbers for use in TV shows, films and creative works (5550 xxxx and 7010 xxxx of each region; single mobile numbers).
_EXAMPLES = {
    "33": ("19900", "26191", "35301", "46571", "53649", "63998"),
    "353": ("2091",),
    "44": ("7700900", "1632960", "2079460"),
    "46": ("3139006", "4062804", "8465004", *(f"7017406{n}" for n in range(10, 100))),
    "49": ("3023125", "6990009", "4066969", "2214710", "8999998", "17139200", "176040690"),
    "61": (
        "25550", "27010", "35550", "37010", "75550", "77010", "85550", "87010",
        "491570006", "491570110", "491570156", "491570157", "491570158", "491570159", "491570313", "491570737", "491571266",
        "491571491", "491571804", "491572549", "491572665", "491572983", "491573770",
    ),
}  # fmt: skip
_EXTENSION = re.compile(r"\s*(?:x|ext\.?|extension)\s*\d{1,6}$", re.I)


def _phone(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    if extension := _EXTENSION.search(value):
        main = value[: extension.start()]
        line = keyed.digits("extension", _normal(value), 6, turn)
        return _phone(kind, main, keyed, turn) + _fill_digits(extension[0], line)
    digits = "".join(c for c in value if c.isdecimal())
    return _fill_digits(value, _phone_digits(digits, value.lstrip("( ").startswith("+"), keyed, turn))


def _phone_digits(digits: str, is_international: bool, keyed: Keyed, turn: int) -> str:
    local = "55501" + keyed.digits("line", digits[-7:], 2, turn)
    area = str(200 + keyed.below("area", digits[-10:], 700, turn))
    count = len(digits)
    if count == 7:
        return local
    if (count == 10 and digits[0] not in "01") or (count == 11 and digits[0] == "1"):
        return ("1" if count == 11 else "") + area + local
    random = keyed.digits("phone", digits, count, turn)
    if digits.startswith("00") or is_international:
        lead = "" if is_international else "00"
        rest = digits[len(lead) :]
        code = next((c for c in _EXAMPLES if rest.startswith(c)), "")
        begin = lead + (code + keyed.pick("example", rest, _EXAMPLES[code], turn) if code else rest[:2])
        return (begin + random)[:count]
    if digits.startswith("0"):
        return ({11: "07700900", 10: "019900"}.get(count, "0") + random)[:count]
    return random


def _ip(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    host, slash, prefix = value.partition("/")
    number = keyed.below("ip", host.casefold(), 2**16, turn)
    if host.count(":") > 1:
        return f"2001:db8::{number:x}{slash}{prefix}"
    port = host[host.index(":") :] if ":" in host else ""
    network = ("192.0.2", "198.51.100", "203.0.113")[number % 3]
    return f"{network}.{1 + number // 3 % 254}{port}{slash}{prefix}"


def _mac(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    made = _fill(value, "00005E0053" + f"{keyed.below('mac', _normal(value), 256, turn):02X}")
    return made if value.isupper() else made.lower()


def _iban(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    made = list(value[:2] + plain_code(value[2:], keyed, turn))
    places = [i for i, c in enumerate(made) if c.isdecimal()][:2]
    for number in range(2, 99 if check.iban(value) else 0):
        for place, digit in zip(places, f"{number:02}", strict=True):
            made[place] = digit
        if check.iban("".join(made)):
            break
    return "".join(made)


def _vehicle(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    if not check.vin(value):
        return plain_code(value, keyed, turn)
    plain = _normal(value)
    made = "".join(keyed.pick("vin", f"{plain}/{i}", _VIN, turn) for i in range(17))
    return _fill(value, next(v for d in "0123456789X" if check.vin(v := made[:8] + d + made[9:])))


def _passport(kind: str, value: str, keyed: Keyed, turn: int) -> str:
    """The second line of a machine-readable zone gets new check digits; another passport number is a code."""
    if len(value) != 44 or not country.mrz(value):
        return plain_code(value, keyed, turn)
    pick = keyed.pick
    number = plain_code(value[:9], keyed, turn)
    birth, expiry = (
        "".join(pick("mrz/" + name, _normal(value), slot, turn) for slot in (_YY, _MONTH, _DAY)) for name in "be"
    )
    made = [
        *number,
        "0",
        *value[10:13],
        *birth,
        "0",
        value[20],
        *expiry,
        "0",
        *plain_code(value[28:42], keyed, turn),
        *value[42:],
    ]
    for part, place in ((slice(0, 9), 9), (slice(13, 19), 19), (slice(21, 27), 27), (slice(28, 42), 42)):
        made[place] = _mrz_digit("".join(made[part]))
    whole = "".join(made[0:10] + made[13:20] + made[21:43])
    made[43] = _mrz_digit(whole)
    return "".join(made)


def _mrz_digit(part: str) -> str:
    """Weights 7-3-1. Source: ICAO Doc 9303-3, 4.9."""
    return str(sum((7, 3, 1)[i % 3] * (0 if c == "<" else int(c, 36)) for i, c in enumerate(part)) % 10)


_MAKERS: dict[str, Callable[[str, str, Keyed, int], str]] = {
    "CARD": _card,
    "SSN": _ssn,
    "PHONE": _phone,
    "FAX": _phone,
    "IP": _ip,
    "MAC": _mac,
    "IBAN": _iban,
    "VEHICLE": _vehicle,
    "PASSPORT": _passport,
}
