"""Surrogates: one person one name in all forms, one number one number of its kind, nothing real between."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.redaction import Finding, Redactor, load_profile, real_names, redact
from compliance.redaction import checksums as check
from compliance.redaction import country_checks as country
from compliance.redaction.gazetteers import given_names, names_by_locale, single_words
from compliance.redaction.keyed import Keyed
from compliance.redaction.surrogate_names import folded, make_person
from compliance.redaction.surrogates import EXAMPLE_DOMAINS, make_surrogate

HEALTH = load_profile("healthcare")
FEMALE, MALE = given_names()
KEY = bytes(32)

keys = st.binary(min_size=16, max_size=32)
given_words = st.sampled_from([n for n in FEMALE + MALE if "-" not in n])
surname_words = st.sampled_from([n for n in single_words("surnames") if "-" not in n])


def person(value: str, key: bytes = KEY, avoid: frozenset[str] = frozenset()) -> str:
    return make_person(value, Keyed(key, "s1"), avoid)


@given(keys, given_words, surname_words)
def test_all_forms_of_a_name_map_to_the_parts_of_one_surrogate(key: bytes, first: str, last: str) -> None:
    first, last = first.capitalize(), last.capitalize()
    new_first, new_last = person(f"{first} {last}", key).split()
    assert person(last, key) == new_last
    assert person(f"Dr. {last}", key) == f"Dr. {new_last}"
    assert person(f"{last}, {first}", key) == f"{new_last}, {new_first}"
    assert person(first, key) == new_first
    assert person(f"{last}'s", key) == f"{new_last}'s"
    assert person(f"{first} {last} Jr.", key) == f"{new_first} {new_last} Jr."
    assert person(f"Ms {first} van {last}", key) == f"Ms {new_first} van {new_last}"
    assert new_first.lower() != first.lower()
    assert new_last.lower() != last.lower()


@given(keys, given_words, st.sampled_from(["smith", "hunt", "berry", "palmer"]))
def test_initials_stand_for_the_surrogate_in_a_record_that_has_only_them(key: bytes, first: str, last: str) -> None:
    new_first, new_last = person(f"{first.capitalize()} {last.capitalize()}", key).split()
    assert person(f"{first[0].upper()}. {last.capitalize()}", key) == f"{new_first[0]}. {new_last}"


@pytest.mark.parametrize("form", [str.upper, str.lower, str.title])
def test_letter_case_is_kept(form: type[str]) -> None:
    made = person(form("john smith"))
    assert made == form(made)
    assert made.casefold() == person("John Smith").casefold()


@given(
    keys,
    st.sampled_from([n for n in FEMALE if n not in MALE and "-" not in n]),
    st.sampled_from([n for n in MALE if n not in FEMALE and "-" not in n]),
)
def test_gender_of_a_given_name_is_kept(key: bytes, woman: str, man: str) -> None:
    lists = names_by_locale()
    women = set(FEMALE).union(*(names for (_, part), names in lists.items() if part == "f"))
    men = set(MALE).union(*(names for (_, part), names in lists.items() if part == "m"))
    if not any(woman in names for (_, part), names in lists.items() if part == "m"):
        assert person(woman, key) in women
    if not any(man in names for (_, part), names in lists.items() if part == "f"):
        assert person(man, key) in men


@given(keys, st.sampled_from(sorted(names_by_locale())))
def test_a_surname_of_a_listed_origin_gets_one_of_that_origin(key: bytes, home: tuple[str, str]) -> None:
    locale = home[0]
    names = names_by_locale()[locale, "s"]
    elsewhere = {n for (other, _), all_ in names_by_locale().items() if other != locale for n in all_}
    elsewhere |= {*FEMALE, *MALE}
    own = [name for name in names if name not in elsewhere]
    assert all(person(name, key) in names for name in own)


def test_an_unlisted_accented_name_gets_one_of_the_origin_that_writes_so() -> None:
    assert person("wądołowski") in names_by_locale()["polish", "s"]
    assert person("Gülpınar").lower() in names_by_locale()["turkish", "s"]


@given(keys, st.lists(surname_words, min_size=1, max_size=40, unique=True))
def test_no_surrogate_is_a_real_name_of_the_document(key: bytes, names: list[str]) -> None:
    text = "\n".join(names)
    spans, at = [], 0
    for name in names:
        spans.append(Finding(at, at + len(name), "PERSON", 0.9, "x"))
        at += len(name) + 1
    made = redact(text, spans, profile=HEALTH, key=key, subject="s").text.split("\n")
    assert not set(map(folded, made)) & set(map(folded, names))
    assert len(made) == len(names)


@given(keys, surname_words)
def test_no_surrogate_is_the_name_with_other_accents(key: bytes, name: str) -> None:
    assert folded(person(name, key)) != folded(name)


@given(keys, st.lists(surname_words, min_size=1, max_size=30, unique=True))
def test_no_company_town_or_mailbox_is_called_like_a_person_of_the_document(key: bytes, names: list[str]) -> None:
    keyed, avoid = Keyed(key, "s"), frozenset(names)
    made = make_surrogate("ORGANIZATION", "Corp Test", keyed, avoid)
    assert not avoid.intersection(made.casefold().split())
    mailbox = make_surrogate("EMAIL", f"{names[0]}.{names[-1]}@corp.test", keyed, avoid).partition("@")[0]
    assert not avoid.intersection(re.findall("[a-z]+", mailbox))


def test_no_place_is_another_place_of_the_document() -> None:
    made = {make_surrogate("LOCATION", "Springfield", Keyed(bytes([n]) * 32, None)) for n in range(30)}
    avoid = frozenset(place.casefold() for place in made)
    assert all(
        make_surrogate("LOCATION", "Springfield", Keyed(bytes([n]) * 32, None), avoid) not in made for n in range(30)
    )


def test_names_of_the_other_texts_of_a_subject_count_too() -> None:
    plain = person("smith")
    texts = ["Mr Smith came.", f"Mr Smith met Mr {plain.title()}."]
    first, second = Redactor(HEALTH, KEY).redact_subject(texts, "s1")
    new = first.text.split()[1]
    assert second.text.split()[1] == new
    assert new.lower() not in (plain, "smith")


def test_real_names_are_words_and_places_in_small_letters() -> None:
    text = "Dr. John van Smith's house in New York"
    spans = [Finding(0, 20, "PERSON", 1, "x"), Finding(30, 38, "LOCATION", 1, "x")]
    assert real_names(spans, text) == {"john", "smith", "new york"}


@settings(max_examples=25)
@given(keys, keys, st.sampled_from(["PERSON", "MRN", "EMAIL", "PHONE", "CARD"]))
def test_another_dataset_key_gives_other_surrogates(one: bytes, other: bytes, kind: str) -> None:
    values = {
        "PERSON": "Maria Elena Lopez Smith", "MRN": "0048291377", "EMAIL": "maria.smith@corp.test",
        "PHONE": "+49 171 5550199", "CARD": "4111111111111111",
    }  # fmt: skip
    assert make_surrogate(kind, values[kind], Keyed(one, "s")) == make_surrogate(kind, values[kind], Keyed(one, "s"))
    made = {make_surrogate(kind, values[kind], Keyed(bytes([n]) + other, "s")) for n in range(40)}
    assert len(made) > 20


VALID = [
    ("CARD", "4111-1111-1111-1111", check.card),
    ("CARD", "378282246310005", check.card),
    ("IBAN", "GB82 WEST 1234 5698 7654 32", check.iban),
    ("IBAN", "DE89370400440532013000", check.iban),
    ("NPI", "1234567893", check.npi),
    ("DEA", "AB1234563", check.dea),
    ("ROUTING", "021000021", check.aba),
    ("VEHICLE", "1M8GDM9AXKP042788", check.vin),
    ("HEALTH_PLAN", "1EG4-TE5-MK73", check.mbi),
    ("MRN", "943 476 5919", check.nhs),
    ("TAX_ID", "912-70-1234", check.itin),
    ("TAX_ID", "RSSMRA85T10A562S", country.codice_fiscale),
    ("NATIONAL_ID", "44051401359", check.pesel),
    ("NATIONAL_ID", "12345678Z", check.nif),
    ("NATIONAL_ID", "131052-308T", country.hetu),
    ("NATIONAL_ID", "2 55 08 14 168 025 38", country.nir),
    ("NATIONAL_ID", "S1234567D", country.nric),
    ("NATIONAL_ID", "756.9217.0769.85", country.ahv),
    ("NATIONAL_ID", "529.982.247-25", country.cpf),
    ("NATIONAL_ID", "19811218-9876", country.personnummer),
    ("NATIONAL_ID", "811218-9876", country.personnummer),
    ("DEVICE", "490154203237518", country.imei),
    ("PASSPORT", "L898902C36UTO7408122F1204159ZE184226B<<<<<10", country.mrz),
    ("BIC", "DEUTDEFF500", check.bic),
    ("IP", "10.1.2.3", check.ip),
    ("IP", "10.1.2.3/24", check.ip),
    ("PHONE", "+44 20 7123 4567", check.phone),
]  # fmt: skip


@settings(max_examples=25)
@pytest.mark.parametrize(("kind", "value", "holds"), VALID)
@given(key=keys)
def test_numbers_keep_form_and_check_digits(key: bytes, kind: str, value: str, holds: check.Check) -> None:
    made = make_surrogate(kind, value, Keyed(key, "s"))
    assert holds(value)
    assert holds(made)
    assert made != value
    if kind not in ("IP",):
        assert [c for c in made if not c.isalnum()] == [c for c in value if not c.isalnum()]
        assert len(made) == len(value)


@pytest.mark.parametrize(
    ("kind", "value"), [("SSN", "123-45-6789"), ("CARD", "4111-1111-1111-1111"), ("MRN", "00-48-29")]
)
def test_separators_do_not_change_the_figures(kind: str, value: str) -> None:
    keyed = Keyed(KEY, "s")
    plain = value.replace("-", "")
    assert make_surrogate(kind, value, keyed).replace("-", "") == make_surrogate(kind, plain, keyed)


@given(keys)
def test_social_security_surrogates_have_the_form_and_were_never_issued(key: bytes) -> None:
    made = make_surrogate("SSN", "123-45-6789", Keyed(key, "s"))
    assert re.fullmatch(r"9\d\d-0[1-9]-\d{4}", made)
    assert not check.ssn(made)
    assert not check.itin(made)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("(212) 867-5309", r"\(\d{3}\) 555-01\d\d"),
        ("+1 212 867 5309", r"\+1 \d{3} 555 01\d\d"),
        ("212-867-5309 ext. 42", r"\d{3}-555-01\d\d ext\. \d\d"),
        ("867-5309", r"555-01\d\d"),
        ("+44 7911 123456", r"\+44 (?:7700 900\d{3}|1632 960\d{3}|2079 46\d{4})"),
        (
            "0049 30 12345678",
            r"0049 (?:30 23125\d{3}|69 90009\d{3}|40 66969\d{3}|22 14710\d{3}|89 99998\d{3}"
            r"|17 (?:139200\d\d|6040690\d))",
        ),
        ("+61 412 345 678", r"\+61 (?:[2378]55 50\d \d{3}|[2378]70 10\d \d{3}|491 57[0-3] \d{3})"),
        ("+46 70 123 45 67", r"\+46 (?:31 390 06 \d\d|40 628 04 \d\d|84 650 04 \d\d|70 174 06 [1-9]\d)"),
        ("+33 1 42 68 53 00", r"\+33 (?:1 99 00|2 61 91|3 53 01|4 65 71|5 36 49|6 39 98) \d\d \d\d"),
        ("07911 123456", r"07700 900\d{3}"),
    ],
)
@given(key=keys)
def test_telephone_numbers_come_from_ranges_reserved_for_examples(key: bytes, value: str, form: str) -> None:
    assert re.fullmatch(form, make_surrogate("PHONE", value, Keyed(key, "s")))


@given(keys)
def test_machines_and_mail_come_from_documentation_ranges(key: bytes) -> None:
    keyed = Keyed(key, "s")
    assert re.match(r"(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+:8080$", make_surrogate("IP", "10.1.2.3:8080", keyed))
    assert make_surrogate("IP", "fe80::1/64", keyed).startswith("2001:db8::")
    assert re.fullmatch(r"00:00:5e:00:53:[0-9a-f]{2}", make_surrogate("MAC", "a4:5e:60:c2:11:0f", keyed))
    assert make_surrogate("EMAIL", "x9@corp.test", keyed).partition("@")[2] in EXAMPLE_DOMAINS


def test_an_email_address_made_of_a_name_gets_the_surrogate_of_the_name() -> None:
    keyed = Keyed(KEY, "s1")
    first, last = person("John Smith").lower().split()
    assert make_surrogate("EMAIL", "john.smith@corp.test", keyed).partition("@")[0] == f"{first}.{last}"


@given(st.sampled_from(sorted(HEALTH.entities)), st.text(min_size=1, max_size=40))
def test_any_text_of_any_type_gets_a_surrogate_that_is_not_itself(kind: str, value: str) -> None:
    assert make_surrogate(kind, value, Keyed(KEY, "s")).casefold() != value.casefold()
