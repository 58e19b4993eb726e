# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Rules for identity, tax, health and driving numbers by country, beside the American ones in ``identifiers``.

Guarantees: a number counts without a context word only where its form is rare and its check digits hold; a plain run of digits with one
or two check digits needs a word such as "CPF" or "Aadhaar" near it.
Does not: know every country; a label ("national ID: ...") finds the others.

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> [f.type for f in apply_rules(COUNTRIES, "CPF 111.444.777-35, NRIC S1234567D", float("inf"))]
    ['NATIONAL_ID', 'NATIONAL_ID']
"""

from __future__ import annotations

import re

from compliance.redaction import checksums as check
from compliance.redaction import country_checks as country
from compliance.redaction.rules import Rule, words

_A, _Z = r"(?<![\w.-])", r"(?![\w-]|\.\d)"

COUNTRIES: tuple[Rule, ...] = (
    Rule("nhs", "MRN", re.compile(r"(?<![\w-])\d{3}[ -]?\d{3}[ -]?\d{4}(?![\w-])"), 0.3, check=check.nhs, context=words("nhs"), needs="0"),
    Rule("nino", "NATIONAL_ID", re.compile(r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"), 0.9, needs="0", near=re.compile(r"\d{2} ?\d{2} ?\d{2} ?[A-D]"), reach=4),
    Rule("pesel", "NATIONAL_ID", re.compile(r"(?<![\w.-])\d{11}(?![\w-])"), 0.6, check=check.pesel, needs="0"),
    Rule("nif", "NATIONAL_ID", re.compile(r"(?<![\w-])(?:\d{8}|[XYZ]-?\d{7})[- ]?[A-Z](?![\w-])"), 0.85, check=check.nif, needs="0"),
    Rule("codice_fiscale", "TAX_ID", re.compile(r"(?<!\w)[A-Z]{6}[\dLMNP-V]{2}[A-EHLMPRST][\dLMNP-V]{2}[A-Z][\dLMNP-V]{3}[A-Z](?!\w)"), 0.9, check=country.codice_fiscale, needs="0", starts="code"),
    Rule("hetu", "NATIONAL_ID", re.compile(rf"{_A}\d{{6}}[-+A-FU-Y]\d{{3}}[\dA-FHJ-NPR-Y]{_Z}"), 0.9, check=country.hetu, needs="0"),
    Rule("nir", "NATIONAL_ID", re.compile(rf"{_A}[12] ?\d{{2}} ?\d{{2}} ?(?:\d{{2}}|2[AB]) ?\d{{3}} ?\d{{3}} ?\d{{2}}{_Z}"), 0.85, check=country.nir, needs="0"),
    Rule("cpf", "NATIONAL_ID", re.compile(rf"{_A}\d{{3}}\.\d{{3}}\.\d{{3}}-\d{{2}}{_Z}"), 0.9, check=country.cpf, needs="."),
    Rule("rrn.be", "NATIONAL_ID", re.compile(rf"{_A}\d{{2}}\.\d{{2}}\.\d{{2}}-\d{{3}}\.\d{{2}}{_Z}"), 0.9, check=country.rrn_be, needs="."),
    Rule("ahv", "NATIONAL_ID", re.compile(rf"{_A}756\.?\d{{4}}\.?\d{{4}}\.?\d{{2}}{_Z}"), 0.9, check=country.ahv, needs="0"),
    Rule("nric", "NATIONAL_ID", re.compile(rf"{_A}[STFGM]\d{{7}}[A-Z]{_Z}"), 0.85, check=country.nric, needs="0"),
    Rule("curp", "NATIONAL_ID", re.compile(rf"{_A}[A-Z]{{4}}\d{{6}}[HMX][A-Z]{{5}}[A-Z\d]\d{_Z}"), 0.9, needs="0", starts="code"),
    Rule("cpr", "NATIONAL_ID", re.compile(rf"{_A}\d{{6}}-\d{{4}}{_Z}"), 0.3, check=country.cpr, context=words("cpr", "personnummer", "henkilötunnus", "kennitala", "person(?:al)? (?:id|number|code)"), needs="-"),
    Rule("personnummer", "NATIONAL_ID", re.compile(rf"{_A}(?:19|20)?\d{{6}}[-+]\d{{4}}{_Z}"), 0.65, check=country.personnummer, needs="0"),
    Rule(
        "eleven.digits",
        "NATIONAL_ID",
        re.compile(rf"{_A}\d{{11}}{_Z}|{_A}\d{{2}} ?\d{{3}} ?\d{{3}} ?\d{{3}}{_Z}|{_A}\d{{6}} \d{{5}}{_Z}"),
        0.3,
        check=lambda v: any(holds(v) for holds in (country.cpf, country.steuer_id, country.fodselsnummer, country.rrn_be, country.tckn)),
        context=words("cpf", "steuer(?:liche)?[ -]?(?:id|identifikationsnummer|nummer)", "idnr", "f[øo]dselsnummer", "fnr", "t\\.?c\\.? ?(?:kimlik|no)", "kimlik", "rijksregister(?:nummer)?", "registre national", "niss"),
        raised=0.9,
        needs="0",
    ),
    Rule(
        "nine.digits",
        "NATIONAL_ID",
        re.compile(rf"{_A}\d{{3}}[ -]?\d{{3}}[ -]?\d{{3}}{_Z}"),
        0.2,
        check=lambda v: any(holds(v) for holds in (country.sin, country.tfn, country.bsn)),
        context=words("sin", "social insurance", "tfn", "tax file", "bsn", "burgerservicenummer", "sofi"),
        raised=0.9,
        needs="0",
    ),
    Rule(
        "twelve.digits",
        "NATIONAL_ID",
        re.compile(rf"{_A}(?:\d{{4}}[ -]?\d{{4}}[ -]?\d{{4}}|\d{{13}}|\d{{4}} ?\d{{5}} ?\d(?:[ /-]?\d)?){_Z}"),
        0.2,
        check=lambda v: any(holds(v) for holds in (country.aadhaar, country.said, country.medicare_au)),
        context=words("aadhaar", "aadhar", "uidai", "id number", "identity number", "medicare"),
        raised=0.9,
        needs="0",
    ),
    Rule("driving.uk", "DRIVER_LICENSE", re.compile(rf"{_A}[A-Z9]{{5}}\d[0156]\d(?:0[1-9]|[12]\d|3[01])\d[A-Z9]{{2}}[A-Z\d]{{3}}(?: ?\d{{2}})?{_Z}"), 0.9, needs="0", starts="code"),
    Rule("mrz", "PASSPORT", re.compile(r"(?<!\w)[A-Z0-9<]{9}\d[A-Z<]{3}\d{7}[MFX<]\d{7}[A-Z0-9<]{14}[\d<]\d(?!\w)"), 0.95, check=country.mrz, needs="<"),
    Rule("mrz.name", "PERSON", re.compile(r"(?<!\w)P[A-Z<][A-Z<]{3}(?P<v>[A-Z]{1,39}<[A-Z<]{4,38})(?!\w)"), 0.95, needs="<"),
)  # fmt: skip
