# ruff: noqa: E501 - a table is read in one piece
"""Unicode noise hides nothing, offsets are exact, and cost grows with the length of the text."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.redaction import Detector, RedactionError, load_profile
from compliance.redaction.rules import Rule
from compliance.redaction.scan import RulePass

DETECTOR = Detector(dataclasses.replace(load_profile("healthcare"), tagger=False))
RULES: RulePass = DETECTOR._rules
INVISIBLE = st.sampled_from(
    ["", "", "", "\u200b", "\u200d", "\u00ad", "\u2060", "\ufeff", "\u202e", "\u202c", "\u2066", "\u2069"]
)
AROUND = st.sampled_from(["été ", "ﬁt \u200b", "דוד ", "عربي ", "日本 ", "\u00a0", "\n\u2028", "e\u0301 ", "🙂 ", "ǅ "])
FULL_WIDTH = str.maketrans({chr(c): chr(c + 0xFEE0) for c in range(0x30, 0x3A)})


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(
        ["123-45-6789", "jane.roe@mail.example.com", "(415) 555-0132", "Dr. Priya Raman", "4111 1111 1111 1111"]
    ),
    st.lists(INVISIBLE, min_size=30, max_size=30),
    st.lists(AROUND, max_size=4),
    st.lists(AROUND, max_size=4),
    st.booleans(),
)
def test_a_value_with_invisible_characters_in_it_is_found_at_its_place(
    value: str, noise: list[str], before: list[str], after: list[str], is_wide: bool
) -> None:
    shown = value.translate(FULL_WIDTH) if is_wide else value
    disguised = "".join(char + mark for char, mark in zip(shown, noise, strict=False))
    lead = "".join(before) + " "
    text = f"{lead}{disguised} {''.join(after)}"
    covered = bytearray(len(text))
    for finding in DETECTOR.detect(text):
        assert text[finding.start : finding.end].strip()
        covered[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
    begin = len(lead) + (disguised.index("P") if "Priya" in value else 0)
    places = range(begin, len(lead) + len(disguised))
    assert all(covered[i] for i in places if text[i].isalnum())


@pytest.mark.parametrize("text", ["SSN 123-45-6789 \ud800", "\udfff", "\ue000" * 9 + " 123-45-6789"])
def test_what_unicode_does_not_define_is_refused(text: str) -> None:
    with pytest.raises(RedactionError):
        DETECTOR.detect(text)


# Runs of one shape that make a careless pattern try every end for every start.
HOSTILE = ["1", "1-", "1 ", "a.", "A ", "Aa ", "Aa-", "@", "a@", "(", "1/", ":", "ab:", "\n", "Mr ", "12 Elm ", "may 1 ", "no. ", "|", "PID|", "a at ", "x dot ", "#1 ", "$1,000 "]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE)
def test_places_that_are_tried_grow_with_the_text(unit: str) -> None:
    counts = []
    for size in (2_000, 8_000):
        text = (unit * size)[: size * len(unit)]
        starts, windows = RULES._candidates(text, text.lower())
        counts.append(1 + sum(map(len, starts.values())) + sum(map(len, windows.values())))
    assert counts[1] <= 4.5 * counts[0]


def _repetitions(pattern: str) -> list[str]:
    """Quantifiers without an upper end, outside classes and escapes."""
    bare = re.sub(r"\\.", "x", pattern)
    return re.findall(r"[*+]|\{\d+,\}", re.sub(r"\[[^\]]*\]", "x", bare))


@pytest.mark.parametrize("rule", RULES.rules, ids=[rule.name for rule in RULES.rules])
def test_every_repetition_has_an_upper_end_so_that_one_try_has_a_bounded_cost(rule: Rule) -> None:
    assert _repetitions(rule.pattern.pattern) == []


@pytest.mark.parametrize("rule", RULES.rules, ids=[rule.name for rule in RULES.rules])
def test_no_repetition_was_swallowed_by_the_string_it_was_written_in(rule: Rule) -> None:
    # In an f-string {1,3} becomes the text "(1, 3)", and the rule never matches again.
    assert re.search(r"\(\d+, \d+\)", rule.pattern.pattern) is None
