# ruff: noqa: E501 - a table is read in one piece
"""Check digits: published examples hold, and no single wrong digit does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction import checksums as check
from compliance.redaction import country_checks as country
from compliance.redaction.public_codes import is_public_code

# Examples that the issuing bodies or the standards print, or that are in wide use as test numbers.
PUBLISHED: list[tuple[Callable[[str], bool], str]] = [
    (check.luhn, "79927398713"), (check.card, "4111 1111 1111 1111"), (check.card, "378282246310005"), (check.npi, "1234567893"), (check.dea, "BB1388568"),
    (check.iban, "GB82 WEST 1234 5698 7654 32"), (check.aba, "021000021"), (check.vin, "1M8GDM9AXKP042788"), (check.nhs, "943 476 5919"),
    (check.pesel, "44051401359"), (check.nif, "12345678Z"), (country.bsn, "111222333"), (country.personnummer, "811218-9876"), (country.fodselsnummer, "01010750160"),
    (country.hetu, "131052-308T"), (country.nir, "2 55 08 14 168 025 38"), (country.steuer_id, "86095742719"), (country.rrn_be, "93.05.18-223.61"),
    (country.codice_fiscale, "RSSMRA85T10A562S"), (country.sin, "130 692 544"), (country.tfn, "123 456 782"), (country.medicare_au, "2123 45670 1"),
    (country.cpf, "111.444.777-35"), (country.ahv, "756.9217.0769.85"), (country.tckn, "10000000146"), (country.said, "8001015009087"),
    (country.aadhaar, "2341 2341 2346"), (country.nric, "S1234567D"), (country.nric, "F1234567N"), (country.imei, "49-015420-323751-8"),
    (country.isin, "US0378331005"), (country.isin, "GB0002634946"), (country.cusip, "037833100"),
]  # fmt: skip


@pytest.mark.parametrize(("holds", "value"), PUBLISHED, ids=[f"{h.__name__}-{v}" for h, v in PUBLISHED])
def test_a_published_number_holds_and_no_single_wrong_digit_does(holds: Callable[[str], bool], value: str) -> None:
    assert holds(value)
    last = value.split()[-1] if holds is country.medicare_au else value
    for place, char in enumerate(value):
        if char.isdecimal() and not (holds is country.medicare_au and place >= len(value) - len(last)):
            wrong = [value[:place] + digit + value[place + 1 :] for digit in "0123456789" if digit != char]
            # Expanded letters, sums of two checks and modulus 11 let a few of the nine through; never most of them.
            assert sum(map(holds, wrong)) <= 1


@given(st.integers(0, 10**8 - 1))
def test_every_isin_of_an_issuer_is_public_and_stays_unmasked(number: int) -> None:
    body = f"US{number:08}0"
    value = next(body + digit for digit in "0123456789" if country.isin(body + digit))
    text = f"Bought {value} today"
    assert is_public_code(text, 7, 19)


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("CPF 111.444.777-35 on file", "111.444.777-35", "NATIONAL_ID"),
        ("Aadhaar 2341 2341 2346.", "2341 2341 2346", "NATIONAL_ID"),
        ("NRIC S1234567D", "S1234567D", "NATIONAL_ID"),
        ("HETU 131052-308T", "131052-308T", "NATIONAL_ID"),
        ("codice RSSMRA85T10A562S", "RSSMRA85T10A562S", "TAX_ID"),
        ("(01)51022222233336(11)141231(17)150707(10)A213B1(21)1234", "(01)51022222233336(11)141231(17)150707(10)A213B1(21)1234", "DEVICE"),
        ("L898902C36UTO7408122F1204159ZE184226B<<<<<10", "L898902C36UTO7408122F1204159ZE184226B<<<<<10", "PASSPORT"),
        ("PID|1||4829137^^^HOSP^MR||ROE^JANE^A||19560314|F", "4829137", "MRN"),
        ("at 40.71280, -74.00600 by EMS", "40.71280, -74.00600", "LOCATION"),
        ("Randomization no. E37339", "E37339", "OTHER_ID"),
        ("license no. RN 589928", "RN 589928", "LICENSE"),
        ("MRN-00482913 merged", "MRN-00482913", "MRN"),
    ],
)  # fmt: skip
def test_numbers_by_country_place_or_label_are_found_whole(
    found: Callable[[str, str], dict[str, str]], text: str, value: str, kind: str
) -> None:
    assert found("healthcare", text).get(value) == kind


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ("finance", "ISIN US0378331005 and CUSIP 037833100 were bought."),
        ("healthcare", "NDC 0002-8215-01; LOINC 2345-7; CPT 99213; ICD-10 E11.9."),
        ("healthcare", "Page no. 12345 of the chapter; room 4, bed 12; page 2 of 3."),
        ("healthcare", "Present in 30/45 cases and 8/19 controls."),
    ],
)
def test_public_codes_and_counts_are_kept(found: Callable[[str, str], dict[str, str]], profile: str, text: str) -> None:
    assert found(profile, text) == {}
