"""What the shipped profiles find, and what they leave alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from compliance.redaction import Detector, RedactionError, load_profile, redact
from compliance.redaction import detector as detector_module
from compliance.redaction.tagger import Tagger

Found = Callable[[str, str], dict[str, str]]

SAFE_HARBOR = [
    ("A name", "Patient: Maria Gonzalez was seen.", "Maria Gonzalez", "PERSON"),
    ("A title", "Referred by Dr. Ana M. de la Cruz.", "Ana M. de la Cruz", "PERSON"),
    (
        "B address",
        "Lives at 12 Elm Street, Apt. 4\nSpringfield, IL 62704.",
        "12 Elm Street, Apt. 4\nSpringfield, IL 62704",
        "ADDRESS",
    ),
    ("B zip", "Her zip code is 03601 now.", "03601", "ZIP"),
    ("C date", "Admitted 03/14/2019 with fever.", "03/14/2019", "DATE"),
    ("C worded date", "Surgery on March 3rd, 2018 went well.", "March 3rd, 2018", "DATE"),
    ("C age", "A 93-year-old woman.", "93", "AGE"),
    ("C spelled age", "She is ninety two years old.", "ninety two", "AGE"),
    ("D phone", "Call (415) 555-0132 tomorrow.", "(415) 555-0132", "PHONE"),
    ("E fax", "Fax: 415-555-0199", "415-555-0199", "FAX"),
    ("F email", "Write to m.gonzalez@mail.example.com today.", "m.gonzalez@mail.example.com", "EMAIL"),
    ("G ssn", "SSN 123-45-6789 on file.", "123-45-6789", "SSN"),
    ("H mrn", "MRN: 00482913 reviewed.", "00482913", "MRN"),
    ("I plan", "Member ID: XQZ884213907 active.", "XQZ884213907", "HEALTH_PLAN"),
    ("J account", "Account number 88213-4451 is open.", "88213-4451", "ACCOUNT"),
    ("K licence", "License no. A1234567 issued.", "A1234567", "LICENSE"),
    ("L vehicle", "VIN 1M8GDM9AXKP042788 was towed.", "1M8GDM9AXKP042788", "VEHICLE"),
    ("M device", "Pacemaker serial number PM-88213-X implanted.", "PM-88213-X", "DEVICE"),
    ("N url", "See https://portal.example.org/p/8821 for it.", "https://portal.example.org/p/8821", "URL"),
    ("O ip", "Login from 203.0.113.77 noted.", "203.0.113.77", "IP"),
    ("A employer", "He works at Acme Plumbing now.", "Acme Plumbing", "ORGANIZATION"),
    ("P biometric", "Fingerprint template FP-88123-A stored.", "FP-88123-A", "BIOMETRIC"),
    ("Q photo", "See face_front_01.png attached.", "face_front_01.png", "PHOTO"),
    ("R other", "Specimen accession S19-00421 signed.", "S19-00421", "OTHER_ID"),
]


@pytest.mark.parametrize(
    ("text", "value", "kind"), [row[1:] for row in SAFE_HARBOR], ids=[row[0] for row in SAFE_HARBOR]
)
def test_healthcare_finds_each_safe_harbor_identifier(found: Found, text: str, value: str, kind: str) -> None:
    assert found("healthcare", text).get(value) == kind


@pytest.mark.parametrize(
    "text",
    [
        "Parkinson disease and Graves' disease were ruled out; started Lipitor 20 mg.",
        "BP 120/80, pain 8/10, A1c 7.2, Na 138, WBC 11.4, creatinine 1.2 mg/dL.",
        "Seen two weeks ago; symptoms began last year and lasted 14 days.",
        "The patient is a 76-year-old white female with hypertension since 1998.",
        "Patient: Okay, um, yeah.\nDoctor: Good morning. Any fever or chills?",
    ],
)
def test_healthcare_leaves_clean_clinical_text_alone(found: Found, text: str) -> None:
    assert found("healthcare", text) == {}


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Card 4111 1111 1111 1111 expired.", "4111 1111 1111 1111", "CARD"),
        ("Pay to DE89 3704 0044 0532 0130 00 now.", "DE89 3704 0044 0532 0130 00", "IBAN"),
        ("Routing number 021000021 for the wire.", "021000021", "ROUTING"),
        ("Policy no. HX-2231-9987 lapsed.", "HX-2231-9987", "ACCOUNT"),
        ("CVV: 123 was typed.", "CVV: 123", "CARD_SECRET"),
        ("EIN 12-3456789 of the firm.", "12-3456789", "TAX_ID"),
    ],
)
def test_finance_finds_account_data(found: Found, text: str, value: str, kind: str) -> None:
    assert found("finance", text).get(value) == kind


def test_finance_keeps_reporting_periods_and_amounts(found: Found) -> None:
    assert (
        found("finance", "Revenue for the year ended December 31, 2019 was $1,496.5 million, on page 12 of 30.") == {}
    )


def test_a_number_that_fails_its_check_digit_is_no_card(found: Found) -> None:
    assert "CARD" not in found("finance", "Order 4111 1111 1111 1112 shipped.").values()


def test_legal_finds_docket_numbers_people_and_local_courts_but_keeps_courts_as_such(found: Found) -> None:
    text = (
        "The case originated in an application (no. 12345/98) against Poland by Mr Jan Kowalczyk. "
        "The Supreme Court upheld the judgment of the Lublin District Court of 3 May 2001."
    )
    result = found("legal", text)
    assert result["12345/98"] == "CASE_NUMBER"
    assert result["Mr Jan Kowalczyk"] == "PERSON"
    assert result["Lublin District Court"] == "ORGANIZATION"
    assert result["3 May 2001"] == "DATE"
    assert not any("Supreme" in value for value in result)


def test_memory_finds_surname_and_capitals_again(found: Found) -> None:
    text = "Dr. Priya Ramanathan examined him. Later RAMANATHAN wrote to him. Ramanathan's note is short."
    assert {"Priya Ramanathan", "RAMANATHAN", "Ramanathan"} <= set(found("healthcare", text))


def test_an_over_long_document_is_refused() -> None:
    profile = dataclasses.replace(load_profile("finance"), max_chars=10)
    with pytest.raises(RedactionError, match="longer than the limit"):
        Detector(profile).detect("x" * 11)


def test_a_spent_time_budget_is_an_error_not_a_partial_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_module, "_CHARS_PER_SECOND", 1e12)
    profile = dataclasses.replace(load_profile("finance"), seconds_per_document=-1.0)
    with pytest.raises(RedactionError, match="time budget"):
        Detector(profile).detect("Card 4111 1111 1111 1111")


def test_a_failing_tagger_is_an_error_without_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Tagger, passages: object, **_: object) -> object:
        raise RuntimeError(f"cannot read {passages}")

    monkeypatch.setattr(Tagger, "find", fail)
    with pytest.raises(RedactionError) as caught:
        Detector(load_profile("legal")).detect("Secretname Hiddenson spoke.")
    assert "Hiddenson" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_missing_weights_are_an_error(tmp_path: object) -> None:
    with pytest.raises(RedactionError, match="not readable"):
        Tagger(tmp_path)  # type: ignore[arg-type]


def test_a_profile_pattern_that_explodes_is_stopped() -> None:
    base = load_profile("finance")
    from compliance.redaction.profile import PatternSpec

    bomb = PatternSpec(name="bomb", type="OTHER_ID", regex=r"(?:(a+)+)+\1$b", score=0.9)
    profile = dataclasses.replace(base, patterns=(bomb,), seconds_per_document=0.3, tagger=False)
    with pytest.raises(RedactionError, match="bomb"):
        Detector(profile).detect("a" * 400)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 20_000,
        "a.b" * 7_000,
        "A " * 10_000,
        "1-" * 10_000,
        "Mr " * 7_000,
        "@" * 20_000,
        "(" * 20_000,
        "Aa-" * 7_000,
        "\n, " * 7_000,
        "12 Elm " * 3_000,
    ],
    ids=["digits", "dots", "capitals", "dashes", "titles", "ats", "brackets", "hyphens", "gaps", "streets"],
)
def test_no_rule_blows_up_on_repetitive_text(text: str) -> None:
    profile = dataclasses.replace(load_profile("legal"), tagger=False, presidio=(), seconds_per_document=4.0)
    Detector(profile).detect(text)


def test_allow_and_deny_lists_are_obeyed() -> None:
    from types import MappingProxyType

    profile = dataclasses.replace(
        load_profile("legal"),
        allow=("Jan Kowalczyk",),
        deny=MappingProxyType({"project falcon": "OTHER_ID"}),
        tagger=False,
        memory=False,
    )
    text = "Witness: Jan Kowalczyk joined Project Falcon."
    assert [(text[f.start : f.end], f.type) for f in Detector(profile).detect(text)] == [("Project Falcon", "OTHER_ID")]


def test_what_was_found_does_not_stand_in_the_redacted_text(detectors: dict[str, Detector]) -> None:
    text = " ".join(row[1] for row in SAFE_HARBOR)
    for name, detector in detectors.items():
        made = redact(text, detector.detect(text), profile=load_profile(name), key=bytes(32), subject="s").text
        for value in ("Maria Gonzalez", "123-45-6789", "m.gonzalez@mail.example.com", "(415) 555-0132"):
            assert value not in made


def test_the_label_of_a_number_is_no_code_itself(found: Found) -> None:
    assert "no." not in found("healthcare", "Account no. 55667788 was billed.")


def test_the_word_before_a_phone_number_stays(found: Found) -> None:
    result = found("healthcare", "f/u w dr okonkwo at union hospital. cell 812 555 0177")
    assert result["812 555 0177"] == "PHONE"
    assert "cell" not in result


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("Rendering provider NPI 1234567893 billed it.", "1234567893", "NPI"),
        ("Her card security code is 4821.", "card security code is 4821", "CARD_SECRET"),
        ("CAV2 123 was read out.", "CAV2 123", "CARD_SECRET"),
        ("PIN block 0412AC89ABCDEF67 in the dump", "PIN block 0412AC89ABCDEF67", "CARD_SECRET"),
        ("The PIN is 4821, he wrote.", "PIN is 4821", "CARD_SECRET"),
        ("Visa card, exp 04/27, in the name of the firm", "04/27", "CARD_SECRET"),
        ("The lease expires 04/27 and renews.", "04/27", None),
        ("Enter a PIN at the terminal of 1200 stores.", "1200", None),
    ],
)
def test_the_finance_profile_knows_account_data(text: str, value: str, kind: str | None) -> None:
    found = {text[f.start : f.end]: f.type for f in Detector(load_profile("finance").without_tagger()).detect(text)}
    assert found.get(value) == kind, found
