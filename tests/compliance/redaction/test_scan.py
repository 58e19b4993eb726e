# ruff: noqa: E501 - a table is read in one piece
"""The one pass finds what trying every pattern everywhere finds, and costs grow with the length of the text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from compliance.redaction import Detector, RedactionError, load_profile
from compliance.redaction.rules import apply_rules
from compliance.redaction.scan import RulePass
from compliance.redaction.starts import heads_of
from compliance.redaction.view import make_view

PASSES: list[RulePass] = [Detector(load_profile(name))._rules for name in ("healthcare", "finance", "legal")]
PIECES = [
    "jane.roe@example.org", "jane dot roe at example dot com", "www.example.org/x", "2001:db8::1", "00:1B:44:11:3A:B7", "550e8400-e29b-41d4-a716-446655440000",
    "IMG_2041.JPG", "GB33BUKB20201555555555", "4111 1111 1111 1111", "AB 12 34 56 C", "BK1234563", "1M8GDM9AXKP042788", "RSSMRA85T10A562S", "SW1A 1AA", "K1A 0B1",
    "Mercy General Hospital", "St. Mary Clinic", "Allen County", "Hauptstrasse 12, 10115 Berlin", "Váci utca 5.", "Springfield, IL 62704", "Tulsa, OK", "Ana Lee, MD", "Ana Lee said",
    "Maria, can you", "\nMaria: \"hello", "\nSMITH, JOHN", "x4111111111111111", "MR. SMITH", "3 May 2001", "Friday, June 3rd, 2011 at 5 p.m.", "aged 45", "ninety-two years old",
    "(415) 555-0132", "+44 20 7946 0958", "$1,200.50", "EUR 300", "12345/98", "plate 7ABC123", "fingerprint template id FT-88213", "login jroe92", "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
    "İ", "ſ", "K", "é", "_", "-", "'", "’s", " ", "\n", ", ", ". ", "the ", "of ", "in ", "no. ", "at ",
]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=14),
    st.sampled_from(["", " ", ", ", "\n"]),
)
def test_one_pass_finds_what_every_pattern_tried_everywhere_finds(pieces: list[str], glue: str) -> None:
    text = glue.join(pieces).encode("utf-8", "ignore").decode()
    try:
        text = make_view(text).text
    except RedactionError:
        reject()  # a refused text has no findings to compare
    for one_pass in PASSES:
        everywhere = sorted(apply_rules(one_pass.rules, text, float("inf")))
        assert sorted(one_pass.find(text, float("inf"))) == everywhere


@pytest.mark.parametrize(
    ("pattern", "prefixes", "is_digit"),
    [
        (r"(?i)\b(?:aged|turn(?:s|ed)) \d\d", {"age", "tur"}, False),
        (r"(?:\bmonday\s)?\b\d\d", {"mon"}, True),
        (r"(?<![\w.])\d{3}", set(), True),
        (r"(?<=, )\d", set(), True),
    ],
)
def test_heads_are_read_from_the_pattern(pattern: str, prefixes: set[str], is_digit: bool) -> None:
    heads = heads_of(re.compile(pattern))
    assert heads is not None
    assert (set(heads.prefixes), heads.is_digit) == (prefixes, is_digit)


@pytest.mark.parametrize("pattern", [r"aged", r"\d+", r"(?<![a-f])\d", r"\b\w+", r"(?:x|\b)?y", r"(?<!\w\w)\d"])
def test_a_pattern_that_may_begin_inside_a_word_is_tried_everywhere(pattern: str) -> None:
    assert heads_of(re.compile(pattern)) is None
