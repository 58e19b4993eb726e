"""Overlaps are resolved without uncovering anything."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction import Finding
from compliance.redaction.merge import merge

TEXT = "ab cd-ef gh\nij kl.mn op" * 2
SPANS = st.builds(
    lambda start, length, kind, score: Finding(start, min(start + length, len(TEXT)), kind, score, "x"),
    st.integers(0, len(TEXT) - 1),
    st.integers(1, 20),
    st.sampled_from(["PERSON", "ADDRESS", "LOCATION", "ORGANIZATION", "DATE"]),
    st.floats(0, 1),
)


@given(st.lists(SPANS, max_size=8))
def test_every_letter_that_was_covered_stays_covered_and_nothing_overlaps(findings: list[Finding]) -> None:
    merged = merge(findings, TEXT)
    assert all(a.end <= b.start for a, b in pairwise(merged))
    before = {i for f in findings for i in range(f.start, f.end) if TEXT[i].isalnum()}
    after = {i for f in merged for i in range(f.start, f.end)}
    assert before <= after


@given(st.lists(SPANS, max_size=8))
def test_a_kept_type_never_takes_a_character_from_a_masked_one(findings: list[Finding]) -> None:
    masked = {i for f in findings if f.type != "ORGANIZATION" for i in range(f.start, f.end) if TEXT[i].isalnum()}
    merged = merge(findings, TEXT, frozenset({"ORGANIZATION"}))
    assert not any(i in masked for f in merged if f.type == "ORGANIZATION" for i in range(f.start, f.end))
