"""Places, peoples, spoken dates and series numbers: masked where they point to a person, kept where they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compliance.redaction import Detector, load_profile, redact

Found = Callable[[str, str], dict[str, str]]


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("She was treated in Wichita last month.", "Wichita", "LOCATION"),
        ("Then he moved to New Orleans.", "New Orleans", "LOCATION"),
        ("The scan was in March of two thousand seven.", "March of two thousand seven", "DATE"),
        ("Seen on August tenth two thousand four.", "August tenth two thousand four", "DATE"),
        ("It was the twenty fifth of September.", "the twenty fifth of September", "DATE"),
        ("Customer Murphy (Dayton, OH) called.", "Murphy", "PERSON"),
        ("Matter DR-2023-009280 is open.", "DR-2023-009280", "CASE_NUMBER"),
        ("Please quote REF-12345678 in your answer.", "REF-12345678", "OTHER_ID"),
        ("My kid, but also my son Marek, came.", "Marek", "PERSON"),
    ],
)
def test_healthcare_finds_towns_spoken_dates_roles_and_series(found: Found, text: str, value: str, kind: str) -> None:
    assert found("healthcare", text).get(value) == kind


@pytest.mark.parametrize(
    "text",
    [
        "Gabapentin, Losartan and Citalopram were continued; A1c was 7.",
        "Thank you, Doctor. I'll wait. Hello Doctor, What now?",
        "The surgery was in nineteen ninety five.",
        "He stopped Reading at night and came to Surprise nobody.",
        "The twenty twenty vision test was repeated in twenty five minutes.",
        "Section: FAM/SOCHX",
    ],
)
def test_healthcare_keeps_drugs_forms_of_address_and_bare_years(found: Found, text: str) -> None:
    assert found("healthcare", text) == {}


def test_legal_masks_a_country_that_tells_of_a_person_and_keeps_it_as_a_party() -> None:
    detector = Detector(load_profile("legal"))
    private = "I am originally from Norway and I love Spanish food."
    assert {private[f.start : f.end] for f in detector.detect(private)} == {"Norway", "Spanish"}
    judgment = "The Government of Norway replied. The Court notes that Spanish law differs."
    assert not {judgment[f.start : f.end] for f in detector.detect(judgment)} & {"Norway", "Spanish"}


def test_a_spoken_date_is_generalised_to_its_year() -> None:
    text = "The scan was in March of two thousand seven."
    profile = load_profile("healthcare")
    made = redact(text, Detector(profile).detect(text), profile=profile, key=bytes(32), subject="s").text
    assert made == "The scan was in 2007."


def test_legal_keeps_the_roles_of_a_contract(found: Found) -> None:
    assert found("legal", "The Receiving Party shall return it to the Owner; RECIPIENT agrees.") == {}
    assert found("legal", "Dealer shall notify Franchisor under this Agreement, and SpinCo pays Distributor.") == {}


@pytest.mark.parametrize("name", ["Mr A. Demetriades", "Ms A. Tekeli"])
def test_an_initial_that_looks_like_an_article_is_a_name(found: Found, name: str) -> None:
    assert found("legal", f"The applicant was represented by {name}, a lawyer.").get(name) == "PERSON"
