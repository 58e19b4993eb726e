"""Numbers of other countries: the few that are built in, and Presidio's for a site that asks for them."""

from __future__ import annotations

import dataclasses

import pytest

from compliance.redaction import Detector, RedactionError, load_profile
from compliance.redaction.national import NationalNumbers


@pytest.mark.parametrize("value", ["44051401359", "12345678Z", "X1234567L", "RSSMRA85T10A562S", "AB 12 34 56 C"])
def test_checked_national_numbers_are_found_without_a_label(value: str) -> None:
    text = f"It was {value} then."
    detector = Detector(dataclasses.replace(load_profile("legal"), tagger=False))
    assert [text[f.start : f.end] for f in detector.detect(text)] == [value]


def test_an_unknown_recogniser_is_refused() -> None:
    with pytest.raises(RedactionError, match="unknown recogniser"):
        NationalNumbers(("NoSuchRecognizer",))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_presidio_recognises_what_a_site_asks_for() -> None:
    text = "TFN 876543210 was given."
    found = list(NationalNumbers(("AuTfnRecognizer",)).find(text, bytearray(len(text)), float("inf")))
    assert [text[f.start : f.end] for f in found] == ["876543210"]
