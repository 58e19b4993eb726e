"""Folding keeps exact offsets and cannot be used to hide an identifier."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.redaction import Detector, RedactionError, load_profile, redact
from compliance.redaction.view import make_view

RULES_ONLY = {
    name: dataclasses.replace(load_profile(name), tagger=False) for name in ("healthcare", "finance", "legal")
}
DETECTORS = {name: Detector(profile) for name, profile in RULES_ONLY.items()}
NOISE = st.text(
    alphabet=st.one_of(
        st.characters(codec="utf-8", exclude_categories=("Cs", "Co", "Cn")),
        st.sampled_from("\u200b\u200d\u00ad\u202e\u0301\uff11\u0663\u00a0\u0410 \n"),
    ),
    max_size=40,
)
VALUES = st.sampled_from(
    [
        "123-45-6789",
        "jane.roe@mail.example.com",
        "4111 1111 1111 1111",
        "Dr. Priya Raman",
        "12 May 2003",
        "(415) 555-0132",
        "192.0.2.7",
    ]
)


@given(NOISE)
def test_every_character_of_the_view_comes_from_its_own_place(text: str) -> None:
    view = make_view(text)
    end = 0
    for index in range(len(view.text)):
        start, stop = view.original(index, index + 1)
        assert 0 <= start < stop <= len(text)
        assert stop >= end
        end = stop


@settings(deadline=None, max_examples=60)
@given(NOISE, VALUES, NOISE, st.sampled_from(sorted(DETECTORS)))
def test_offsets_stay_inside_and_replacement_leaves_the_rest_untouched(
    before: str, value: str, after: str, name: str
) -> None:
    text = f"{before} {value} {after}"
    findings = DETECTORS[name].detect(text)
    made = redact(text, findings, profile=RULES_ONLY[name], key=bytes(32), subject="s")
    rest, position, read = [], 0, 0
    for applied in made.findings:
        rest.append((text[read : applied.finding.start], made.text[position : applied.replacement_start]))
        value_found = text[applied.finding.start : applied.finding.end]
        if applied.operator != "keep":
            assert made.text[applied.replacement_start : applied.replacement_end] != value_found
        read, position = applied.finding.end, applied.replacement_end
    rest.append((text[read:], made.text[position:]))
    assert all(original == kept for original, kept in rest)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("SSN 123-45-６７８９ here", "123-45-６７８９"),
        ("SSN 1\u200b23-45-67\u200b89 here", "1\u200b23-45-67\u200b89"),
        ("mail jane\u00ad.roe@mail.example.com now", "jane\u00ad.roe@mail.example.com"),
        ("SSN \u202e123-45-6789\u202c here", "123-45-6789"),
        ("SSN 123\u201145\u20116789 here", "123\u201145\u20116789"),
        ("card 4111\u00a01111\u00a01111\u00a01111 ok", "4111\u00a01111\u00a01111\u00a01111"),
        ("SSN ١٢٣-٤٥-٦٧٨٩ here", "١٢٣-٤٥-٦٧٨٩"),
        ("Dr. Jo\u0301se\u0301 Pen\u0303a came", "Jo\u0301se\u0301 Pen\u0303a"),
        ("write to jаne@mail.example.com", "jаne@mail.example.com"),
    ],
    ids=[
        "full-width",
        "zero-width",
        "soft hyphen",
        "bidi",
        "non-breaking hyphen",
        "non-breaking space",
        "arabic digits",
        "combining",
        "cyrillic",
    ],
)
def test_disguised_identifiers_are_found_with_their_original_offsets(text: str, value: str) -> None:
    covered = "".join(text[f.start : f.end] for f in DETECTORS["healthcare"].detect(text))
    assert value.strip("\u202e\u202c") in covered.strip("\u202e\u202c") or value in covered


def test_lone_surrogates_and_private_characters_are_refused() -> None:
    with pytest.raises(RedactionError, match="surrogate"):
        make_view("abc\ud800def")
    with pytest.raises(RedactionError, match="private"):
        make_view("\ue000" * 10)
