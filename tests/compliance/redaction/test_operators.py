"""Replacements: keyed, consistent, of the right form, and bound by the rule that asks for them."""

from __future__ import annotations

import dataclasses
from datetime import date
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction import Finding, RedactionError, Redactor, load_profile, redact, written_dates
from compliance.redaction import checksums as check
from compliance.redaction.keyed import Keyed
from compliance.redaction.operators import Operators
from compliance.redaction.surrogates import make_surrogate

KEY, OTHER_KEY = bytes(32), bytes([1]) * 32
HEALTH, FINANCE, LEGAL = (load_profile(name) for name in ("healthcare", "finance", "legal"))

keys = st.binary(min_size=16, max_size=32)

PROFILES = {"healthcare": HEALTH, "finance": FINANCE, "legal": LEGAL}


def made(profile_name: str, kind: str, value: str, key: bytes = KEY, subject: str | None = "s1") -> str:
    return Operators(PROFILES[profile_name], Keyed(key, subject)).replacement(kind, value)


def test_card_keeps_at_most_issuer_and_last_four() -> None:
    assert made("finance", "CARD", "4111-1111-1111-1234") == "4111-11**-****-1234"


def test_card_mask_cannot_be_loosened_by_a_profile() -> None:
    policy = dataclasses.replace(
        FINANCE.entities["CARD"], options=MappingProxyType({"leave_first": 12, "leave_last": 8})
    )
    profile = dataclasses.replace(FINANCE, entities=MappingProxyType({**FINANCE.entities, "CARD": policy}))
    assert Operators(profile, Keyed(KEY, None)).replacement("CARD", "4111111111111234") == "411111******1234"


@given(st.sampled_from(["4111111111111111", "4111 1111 1111 1111", "378282246310005", "6011000990139424"]), keys)
def test_no_form_of_a_card_number_is_hashed_where_another_is_truncated(pan: str, key: bytes) -> None:
    assert made("finance", "CARD", pan, key) == made("finance", "CARD", pan)
    # A label may call it an account or a tax number, which this profile hashes.
    assert {made("finance", kind, pan, key) for kind in ("ACCOUNT", "SSN")} == {"[ACCOUNT_1]", "[SSN_1]"}
    assert made("finance", "ACCOUNT", "4111111111111112", key).startswith("[ACCOUNT:")


def test_a_masked_card_number_is_masked_no_less_under_another_type() -> None:
    policy = dataclasses.replace(
        FINANCE.entities["ACCOUNT"], operator="mask", options=MappingProxyType({"leave_first": 10, "leave_last": 5})
    )
    profile = dataclasses.replace(FINANCE, entities=MappingProxyType({**FINANCE.entities, "ACCOUNT": policy}))
    assert Operators(profile, Keyed(KEY, None)).replacement("ACCOUNT", "4111111111111111") == "411111******1111"


@given(keys, keys, st.from_regex(r"[0-9]{9}", fullmatch=True))
def test_hashes_join_the_records_of_a_subject_and_no_others(key: bytes, other: bytes, value: str) -> None:
    first = made("finance", "SSN", value, key)
    assert first == made("finance", "SSN", f"{value[:3]}-{value[3:5]}-{value[5:]}", key)
    assert first != made("finance", "TAX_ID", value, key)
    assert first != made("finance", "SSN", value, key, subject="s2")
    assert first != made("finance", "SSN", value, b"x" + other)


@pytest.mark.parametrize(("value", "expected"), [("02139", "021**"), ("03601-1234", "000**"), ("82101", "000**")])
def test_zip_keeps_three_digits_only_where_enough_people_live(value: str, expected: str) -> None:
    assert made("healthcare", "ZIP", value) == expected


@pytest.mark.parametrize(("value", "expected"), [("93", "90+"), ("one hundred and two", "90+")])
def test_ages_over_89_become_one_category(value: str, expected: str) -> None:
    assert made("healthcare", "AGE", value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("03/14/2019", "2019"), ("May 3", "[DATE_1]"), ("12 May 1931", "[DATE_1]")]
)
def test_dates_keep_only_a_year_that_tells_no_great_age(value: str, expected: str) -> None:
    assert made("healthcare", "DATE", value) == expected


@given(st.dates(date(1950, 1, 1), date(2030, 1, 1)), st.dates(date(1950, 1, 1), date(2030, 1, 1)))
def test_date_shift_keeps_the_interval_between_two_dates_of_a_subject(first: date, second: date) -> None:
    a, b = (date.fromisoformat(made("finance", "DATE", day.isoformat())) for day in (first, second))
    assert b - a == second - first
    assert a != first


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3 May 2001", "2 June 2001"),
        ("May 3rd, 2001", "June 2nd, 2001"),
        ("05/03/2001", "06/02/2001"),
        ("5/3/01", "6/2/01"),
        ("31.12.1999", "30.01.2000"),
        ("2001-05-03T10:00:00", "2001-06-02"),
        ("15 JAN 2003", "14 FEB 2003"),
        ("May 2001", "June 2001"),
        ("no date", None),
        ("31 February 2001", None),
    ],
)
def test_dates_are_written_back_in_their_own_form(value: str, expected: str | None) -> None:
    assert written_dates.shift(value, 30) == expected


@pytest.mark.parametrize(
    ("kind", "value", "holds"),
    [
        ("CARD", "4111 1111 1111 1111", check.card),
        ("IBAN", "GB82 WEST 1234 5698 7654 32", check.iban),
        ("NPI", "1234567893", check.npi),
        ("DEA", "AB1234563", check.dea),
        ("ROUTING", "021000021", check.aba),
        ("VEHICLE", "1M8GDM9AXKP042788", check.vin),
        ("IP", "10.1.2.3", check.ip),
        ("IP", "fe80::1", check.ip),
    ],
)
def test_surrogates_keep_form_and_check_digit(kind: str, value: str, holds: check.Check) -> None:
    surrogate = make_surrogate(kind, value, Keyed(KEY, "s1"))
    assert holds(value)
    assert holds(surrogate)
    assert surrogate != value
    if kind != "IP":
        assert [c.isalnum() for c in surrogate] == [c.isalnum() for c in value]


def test_ssn_surrogate_is_never_an_issued_number() -> None:
    assert not check.ssn(make_surrogate("SSN", "123-45-6789", Keyed(KEY, "s1")))


def test_surrogates_depend_on_key_and_subject_and_on_nothing_else() -> None:
    assert made("healthcare", "MRN", "00482913") == made("healthcare", "MRN", "00482913")
    assert made("healthcare", "MRN", "00482913") != made("healthcare", "MRN", "00482913", key=OTHER_KEY)
    assert made("healthcare", "MRN", "00482913") != made("healthcare", "MRN", "00482913", subject="s2")


def test_one_person_gets_one_surrogate_under_all_forms_of_the_name() -> None:
    text = "Maria Gonzalez came. Gonzalez left. MARIA slept."
    spans = [
        Finding(0, 14, "PERSON", 0.9, "x"),
        Finding(21, 29, "PERSON", 0.9, "x"),
        Finding(36, 41, "PERSON", 0.9, "x"),
    ]
    whole, surname, given = (
        part
        for part in redact(text, spans, profile=HEALTH, key=KEY, subject="s")
        .text.replace(" came", "")
        .replace(" left", "")
        .replace(" slept.", "")
        .split(". ")
    )
    assert whole.split() == [given.title(), surname]


def test_hashes_are_keyed_and_ignore_separators() -> None:
    assert made("finance", "SSN", "123-45-6789") == made("finance", "SSN", "123 45 6789")
    assert made("finance", "SSN", "123-45-6789") != made("finance", "SSN", "123-45-6789", key=OTHER_KEY)


def test_placeholders_are_numbered_by_value_within_a_document() -> None:
    operators = Operators(LEGAL, Keyed(KEY, None))
    assert [operators.replacement("DATE", v) for v in ("3 May 2001", "4 May 2001", "3  MAY 2001")] == [
        "[DATE_1]",
        "[DATE_2]",
        "[DATE_1]",
    ]


@given(
    st.sampled_from(sorted(HEALTH.entities)),
    st.text(min_size=1, max_size=30),
    st.sampled_from(["healthcare", "finance", "legal"]),
)
def test_no_operator_gives_the_original_back(kind: str, value: str, name: str) -> None:
    profile = PROFILES[name]
    policy = profile.entities.get(kind)
    if policy is None or policy.operator != "keep":
        assert Operators(profile, Keyed(KEY, "s1")).replacement(kind, value) != value


@pytest.mark.parametrize(
    "findings", [[Finding(0, 5, "PERSON", 1, "x"), Finding(4, 6, "PERSON", 1, "x")], [Finding(0, 99, "PERSON", 1, "x")]]
)
def test_findings_that_do_not_fit_are_refused(findings: list[Finding]) -> None:
    with pytest.raises(RedactionError):
        redact("short text", findings, profile=LEGAL, key=KEY, subject=None)


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        Redactor(LEGAL, b"short")("Mr Jan Kowalczyk")
