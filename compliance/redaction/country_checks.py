# ruff: noqa: E501 - a source note or a table is read in one piece
"""Check digits of national identity, tax, health and driving numbers, and of the securities that must not be masked.

Guarantees: each check takes the matched text with its separators, never raises, and is linear in its length.
Does not: say that a number was ever issued; a number with one check digit of ten passes by chance once in ten, so the rules ask for a
form or a context word as well.

Example:
    >>> bsn("111222333"), cpf("529.982.247-25"), isin("US0378331005")
    (True, True, True)
"""

from __future__ import annotations

import re

from compliance.redaction.checksums import digits_of, luhn


def _date_digits(d: list[int], year: int, month: int, day: int) -> bool:
    """Whether the two digits at ``month`` and at ``day`` can be a month and a day; ``year`` only has to be there."""
    return (
        len(d) > max(year, month, day) + 1
        and 1 <= d[month] * 10 + d[month + 1] <= 12
        and 1 <= d[day] * 10 + d[day + 1] <= 31
    )


def bsn(text: str) -> bool:
    """Dutch citizen service number, the eleven test. Source: Regeling burgerservicenummer, art. 2 (elfproef)."""
    d = digits_of(text)
    return len(d) == 9 and any(d) and (sum(w * x for w, x in zip(range(9, 1, -1), d[:8], strict=True)) - d[8]) % 11 == 0


def cpr(text: str) -> bool:
    """Danish CPR number: a date; the modulus was given up in 2007. Source: CPR-kontoret, Personnummeret i CPR."""
    d = digits_of(text)
    return len(d) == 10 and 1 <= d[0] * 10 + d[1] <= 31 and 1 <= d[2] * 10 + d[3] <= 12


def personnummer(text: str) -> bool:
    """Swedish personal number: a date and mod 10. Source: SFS 1991:481, 18 §; SKV 704."""
    d = digits_of(text)[-10:]
    return (
        len(d) == 10
        and 1 <= d[2] * 10 + d[3] <= 12
        and 1 <= (d[4] * 10 + d[5]) % 60 <= 31
        and luhn("".join(map(str, d)))
    )


def fodselsnummer(text: str) -> bool:
    """Norwegian identity number: a date and two mod-11 digits. Source: Folkeregisterforskriften, 2-2-1."""
    d = digits_of(text)
    if len(d) != 11 or not 1 <= d[0] * 10 + d[1] <= 71:
        return False
    first = -sum(w * x for w, x in zip((3, 7, 6, 1, 8, 9, 4, 5, 2), d[:9], strict=True)) % 11
    second = -sum(w * x for w, x in zip((5, 4, 3, 2, 7, 6, 5, 4, 3, 2), d[:10], strict=True)) % 11
    return d[9] == first and d[10] == second


def hetu(text: str) -> bool:
    """Finnish personal identity code: a date and a letter mod 31. Source: Valtioneuvoston asetus 128/2010, 2 §."""
    if not re.fullmatch(r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", text.upper()):
        return False
    number = int(text[:6] + text[7:10])
    return _date_digits(digits_of(text), 4, 2, 0) and text[-1].upper() == "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31]


def nir(text: str) -> bool:
    """French social security number, key 97. Source: Décret 82-103, Code de la sécurité sociale R115-1."""
    value = re.sub(r"[\s.-]", "", text).upper().replace("2A", "19").replace("2B", "18")
    return re.fullmatch(r"[12]\d{14}", value) is not None and 97 - int(value[:13]) % 97 == int(value[13:])


def steuer_id(text: str) -> bool:
    """German tax identification number, ISO 7064 mod 11,10. Source: § 139b AO; BZSt, Steuerliche Identifikationsnummer."""
    d = digits_of(text)
    if len(d) != 11 or d[0] == 0 or len(set(d[:10])) not in (8, 9):
        return False
    product = 10
    for digit in d[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == d[10]


def rrn_be(text: str) -> bool:
    """Belgian national register number, mod 97. Source: Arrêté royal du 3 avril 1984, art. 2."""
    d = digits_of(text)
    if len(d) != 11 or d[2] * 10 + d[3] > 12 or d[4] * 10 + d[5] > 31:
        return False
    number, key = int("".join(map(str, d[:9]))), d[9] * 10 + d[10]
    return key in (97 - number % 97, 97 - (2_000_000_000 + number) % 97)


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def codice_fiscale(text: str) -> bool:
    """Italian fiscal code with its control letter. Source: Decreto ministeriale 12 marzo 1974, art. 7."""
    value = text.upper()
    if not re.fullmatch(r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", value):
        return False
    ranks = [int(c) if c.isdecimal() else ord(c) - 65 for c in value]
    return (sum(_ODD[r] for r in ranks[:15:2]) + sum(ranks[1:15:2])) % 26 == ranks[15]


def sin(text: str) -> bool:
    """Canadian social insurance number, mod 10. Source: Employment Insurance Act, s. 138; ESDC SIN code of practice."""
    d = digits_of(text)
    return len(d) == 9 and d[0] not in (0, 8) and luhn(text)


def tfn(text: str) -> bool:
    """Australian tax file number, weights mod 11. Source: ATO, TFN declaration specification."""
    d = digits_of(text)
    return len(d) == 9 and sum(w * x for w, x in zip((1, 4, 3, 7, 5, 8, 6, 9, 10), d, strict=True)) % 11 == 0


def medicare_au(text: str) -> bool:
    """Australian Medicare card, weights mod 10. Source: Services Australia, Medicare number format."""
    d = digits_of(text)
    return (
        len(d) in (10, 11)
        and 2 <= d[0] <= 6
        and sum(w * x for w, x in zip((1, 3, 7, 9, 1, 3, 7, 9), d[:8], strict=True)) % 10 == d[8]
    )


def cpf(text: str) -> bool:
    """Brazilian CPF, two digits mod 11. Source: Instrução Normativa RFB 1.548/2015."""
    d = digits_of(text)
    if len(d) != 11 or len(set(d)) == 1:
        return False
    return all(
        sum(w * x for w, x in zip(range(n + 1, 1, -1), d[:n], strict=True)) * 10 % 11 % 10 == d[n] for n in (9, 10)
    )


def ahv(text: str) -> bool:
    """Swiss AHV number: 756 and an EAN-13 digit. Source: AHVV (SR 831.101), art. 133."""
    d = digits_of(text)
    return len(d) == 13 and d[:3] == [7, 5, 6] and (sum(d[:12:2]) + 3 * sum(d[1:12:2]) + d[12]) % 10 == 0


def tckn(text: str) -> bool:
    """Turkish identity number, two check digits. Source: Nüfus Hizmetleri Kanunu 5490; KPS field description."""
    d = digits_of(text)
    if len(d) != 11 or d[0] == 0:
        return False
    return (7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10 == d[9] and sum(d[:10]) % 10 == d[10]


def said(text: str) -> bool:
    """South African identity number: a date and mod 10. Source: Identification Act 68 of 1997, s. 7."""
    d = digits_of(text)
    return len(d) == 13 and _date_digits(d, 0, 2, 4) and d[10] in (0, 1, 2) and luhn(text)


_VERHOEFF_D = ("0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432", "7659821043", "8765932104", "9876543210")  # fmt: skip
_VERHOEFF_P = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")  # fmt: skip


def aadhaar(text: str) -> bool:
    """Indian Aadhaar, Verhoeff. Source: UIDAI, A UID numbering scheme; J. Verhoeff, Error detecting decimal codes, 1969."""
    d = digits_of(text)
    if len(d) != 12 or d[0] < 2:
        return False
    state = 0
    for place, digit in enumerate(reversed(d)):
        state = int(_VERHOEFF_D[state][int(_VERHOEFF_P[place % 8][digit])])
    return state == 0


def nric(text: str) -> bool:
    """Singapore NRIC or FIN with its letter. Source: National Registration Regulations (Cap. 201)."""
    value = text.upper()
    if not re.fullmatch(r"[STFGM]\d{7}[A-Z]", value):
        return False
    total = sum(w * int(c) for w, c in zip((2, 7, 6, 5, 4, 3, 2), value[1:8], strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(value[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "KLJNPQRTUWX"}[
        value[0]
    ]
    return value[8] == (letters[10 - total % 11] if value[0] == "M" else letters[total % 11])


def imei(text: str) -> bool:
    """Mobile equipment identity, mod 10 over fifteen digits. Source: 3GPP TS 23.003, annex B."""
    return len(digits_of(text)) == 15 and luhn(text)


def mrz(text: str) -> bool:
    """Second line of a passport's machine-readable zone with its check digits. Source: ICAO Doc 9303-4, 4.2.2; 9303-3, 4.9."""
    value = text.replace(" ", "")
    if len(value) != 44:
        return False

    def holds(part: str, digit: str) -> bool:
        total = sum((7, 3, 1)[i % 3] * (0 if c == "<" else int(c, 36)) for i, c in enumerate(part))
        return digit == str(total % 10)

    return holds(value[:9], value[9]) and holds(value[13:19], value[19]) and holds(value[21:27], value[27])


def _alphanumeric_luhn(value: str) -> bool:
    digits = "".join(str(int(c, 36)) for c in value)
    return luhn(digits)


def isin(text: str) -> bool:
    """Securities number, mod 10 over expanded letters. Source: ISO 6166, annex C. It names a security, not a person."""
    return re.fullmatch(r"[A-Z]{2}[A-Z0-9]{9}\d", text) is not None and _alphanumeric_luhn(text)


def cusip(text: str) -> bool:
    """North American securities number. Source: ANSI X9.6. It names a security, not a person."""
    if not re.fullmatch(r"[0-9A-Z*@#]{8}\d", text):
        return False
    total = 0
    for place, char in enumerate(text[:8]):
        value = int(char, 36) if char.isalnum() else {"*": 36, "@": 37, "#": 38}[char]
        value *= 1 + place % 2
        total += value // 10 + value % 10
    return -total % 10 == int(text[8])
