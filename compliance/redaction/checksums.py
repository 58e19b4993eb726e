"""Check digits and plausibility of identifiers; a registry from which rules and profiles name a check.

Guarantees: each check takes the matched text with its separators, never raises, and is linear in its length.
Does not: say that an identifier was ever issued.

Example:
    >>> CHECKS["luhn"]("4111 1111 1111 1111"), CHECKS["luhn"]("4111 1111 1111 1112")
    (True, False)
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

Check = Callable[[str], bool]


def digits_of(text: str) -> list[int]:
    """The decimal digits of ``text`` in order; all else is skipped."""
    return [int(c) for c in text if c.isdecimal()]


def luhn(text: str) -> bool:
    """Mod-10 check digit. Source: ISO/IEC 7812-1, annex B."""
    digits = digits_of(text)
    if len(set(digits)) < 2:
        return False
    total = sum(digits[-1::-2]) + sum(d * 2 - 9 * (d > 4) for d in digits[-2::-2])
    return total % 10 == 0


def card(text: str) -> bool:
    """A payment card number: 12 to 19 digits, a known first digit, mod-10. Source: ISO/IEC 7812-1."""
    digits = digits_of(text)
    return 12 <= len(digits) <= 19 and digits[0] in (2, 3, 4, 5, 6, 1) and luhn(text)


def ssn(text: str) -> bool:
    """A social security number that could be issued. Source: SSA, RM 10201.035 (areas 000, 666, 900-999; group 00;
    serial 0000)."""
    digits = "".join(map(str, digits_of(text)))
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return len(digits) == 9 and area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def itin(text: str) -> bool:
    """Individual taxpayer number. Source: IRS Publication 1915 (9xx; group 50-65, 70-88, 90-92, 94-99)."""
    digits = "".join(map(str, digits_of(text)))
    if len(digits) != 9 or digits[0] != "9":
        return False
    group = int(digits[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99


def npi(text: str) -> bool:
    """National provider identifier: mod-10 over the prefix 80840. Source: 45 CFR 162.406; CMS check digit note."""
    digits = digits_of(text)
    return len(digits) == 10 and digits[0] in (1, 2) and luhn("80840" + "".join(map(str, digits)))


def dea(text: str) -> bool:
    """DEA registration: d1+d3+d5+2(d2+d4+d6) ends in d7. Source: 21 CFR 1301, DEA check digit rule."""
    d = digits_of(text)
    return len(d) == 7 and (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]


def mbi(text: str) -> bool:
    """Medicare beneficiary identifier. Source: CMS, MBI format (11 positions, letters without S L O I B Z)."""
    letters = "AC-HJKMNP-RT-Y"
    form = rf"[1-9][{letters}][{letters}0-9]\d[{letters}][{letters}0-9]\d[{letters}]{{2}}\d\d"
    return re.fullmatch(form, text.replace("-", "").replace(" ", "").upper()) is not None


def iban(text: str) -> bool:
    """International bank account number, mod 97. Source: ISO 13616-1."""
    compact = re.sub(r"[\s-]", "", text).upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", compact):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def bic(text: str) -> bool:
    """Business identifier code shape with a country in positions 5 and 6. Source: ISO 9362."""
    return len(text) in (8, 11) and text[4:6].upper() in COUNTRIES


def aba(text: str) -> bool:
    """Routing transit number: weights 3-7-1 and a federal prefix. Source: ABA routing number policy."""
    d = digits_of(text)
    if len(d) != 9:
        return False
    prefix = d[0] * 10 + d[1]
    known = prefix <= 12 or 21 <= prefix <= 32 or 61 <= prefix <= 72 or prefix == 80
    return known and sum(d) > 0 and (3 * (d[0] + d[3] + d[6]) + 7 * (d[1] + d[4] + d[7]) + d[2] + d[5] + d[8]) % 10 == 0


def vin(text: str) -> bool:
    """Vehicle identification number with its check digit. Source: 49 CFR 565.15."""
    value = text.upper()
    if not re.fullmatch(r"[A-HJ-NPR-Z0-9]{17}", value):
        return False
    letters = dict(
        zip(
            "ABCDEFGHJKLMNPRSTUVWXYZ",
            (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9),
            strict=True,
        )
    )
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    total = sum(w * (int(c) if c.isdigit() else letters[c]) for w, c in zip(weights, value, strict=True))
    return value[8] == "0123456789X"[total % 11]


def pesel(text: str) -> bool:
    """Polish personal number: weights 1-3-7-9, a month that encodes the century. Source: Act of 24 September 2010,
    art. 15."""
    d = digits_of(text)
    if len(d) != 11 or not 1 <= (d[2] * 10 + d[3]) % 20 <= 12 or not 1 <= d[4] * 10 + d[5] <= 31:
        return False
    return sum(w * x for w, x in zip((1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), d, strict=True)) % 10 == 0


def nif(text: str) -> bool:
    """Spanish NIF or NIE: the number modulo 23 chooses the letter. Source: Royal Decree 1553/2005, art. 11."""
    value = text.upper().replace("-", "").replace(" ", "")
    number = value[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdecimal() and value[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def nhs(text: str) -> bool:
    """NHS number, mod 11. Source: NHS data dictionary."""
    d = digits_of(text)
    return len(d) == 10 and 11 - sum(w * x for w, x in zip(range(10, 1, -1), d[:9], strict=True)) % 11 == (d[9] or 11)


def phone(text: str) -> bool:
    """Seven to fifteen digits that are not all the same. Source: ITU-T E.164, 6.2."""
    count = len(digits_of(re.sub(r"(?:x|ext\.?)\s*\d+$", "", text, flags=re.I)))
    return 7 <= count <= 15 and len(set(digits_of(text))) > 1


def ip(text: str) -> bool:
    """An IPv4 or IPv6 address, perhaps with a prefix length or an IPv4 port. Source: RFC 4291, RFC 791."""
    host = text.split("/")[0]
    if "." in host:
        host = host.split(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_unspecified


COUNTRIES = frozenset(
    [
        "AD", "AE", "AL", "AR", "AT", "AU", "AZ", "BA", "BE", "BG", "BH", "BR", "BY", "CA", "CH", "CL", "CN", "CO",
        "CR", "CY", "CZ", "DE", "DK", "DO", "EE", "EG", "ES", "FI", "FO", "FR", "GB", "GE", "GI", "GL", "GR", "GT",
        "HK", "HR", "HU", "ID", "IE", "IL", "IN", "IQ", "IS", "IT", "JO", "JP", "KR", "KW", "KZ", "LB", "LC", "LI",
        "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME", "MK", "MR", "MT", "MU", "MX", "MY", "NG", "NL", "NO", "NZ",
        "PE", "PH", "PK", "PL", "PS", "PT", "QA", "RO", "RS", "RU", "SA", "SC", "SD", "SE", "SG", "SI", "SK", "SM",
        "ST", "SV", "TH", "TL", "TN", "TR", "TW", "UA", "US", "VA", "VG", "VN", "XK", "ZA",
    ]
)  # fmt: skip

CHECKS: dict[str, Check] = {
    "luhn": luhn,
    "card": card,
    "ssn": ssn,
    "itin": itin,
    "npi": npi,
    "dea": dea,
    "mbi": mbi,
    "iban": iban,
    "bic": bic,
    "aba": aba,
    "vin": vin,
    "nhs": nhs,
    "pesel": pesel,
    "nif": nif,
    "phone": phone,
    "ip": ip,
}
