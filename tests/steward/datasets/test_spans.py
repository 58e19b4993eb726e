"""Where a span of the redacted text stands in the raw one, and columns that single people out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steward.audit.actor import Refused
from steward.datasets import review_actions
from steward.datasets.importing import import_version
from steward.datasets.singling_out import measure_risk
from steward.datasets.spans import parse_spans, raw_span
from tests.steward.house import House, lines, visits

# Text as it was, and what stands in its place; None: it stays.
PARTS = st.lists(st.tuples(st.text("abc ", min_size=1, max_size=6), st.none() | st.text("XYZ", max_size=5)), min_size=1)


def built(parts: list[tuple[str, str | None]]) -> tuple[str, str, list[dict[str, Any]]]:
    raw = redacted = ""
    findings = []
    for text, replacement in parts:
        made = text if replacement is None else replacement
        if replacement is not None:
            findings.append(
                {
                    "start": len(raw),
                    "end": len(raw) + len(text),
                    "replacement_start": len(redacted),
                    "replacement_end": len(redacted) + len(made),
                }
            )
        raw, redacted = raw + text, redacted + made
    return raw, redacted, findings


@given(PARTS, st.data())
def test_a_span_beside_the_masks_is_the_same_text_in_the_raw_record(parts: Any, data: st.DataObject) -> None:
    raw, redacted, findings = built(parts)
    start = data.draw(st.integers(0, max(0, len(redacted) - 1)))
    end = data.draw(st.integers(start + 1, start + 8))
    if end > len(redacted):
        return
    raw_start, raw_end = raw_span(findings, start, end)
    assert 0 <= raw_start < raw_end <= len(raw)
    touched = [f for f in findings if f["replacement_start"] <= end and f["replacement_end"] >= start]
    if not touched:
        assert raw[raw_start:raw_end] == redacted[start:end]
    for found in findings:
        if found["replacement_start"] < end and found["replacement_end"] > start:
            assert raw_start <= found["start"]
            assert found["end"] <= raw_end


@pytest.mark.parametrize(
    "given",
    [
        {"slot": 0},
        [{"fault": "missed", "slot": 0, "start": -1, "end": 2, "type": "PERSON"}],
        [{"fault": "missed", "slot": 0, "start": True, "end": 2, "type": "PERSON"}],
        [{"fault": "missed", "slot": 0, "start": 0, "end": 2, "type": "<script>"}],
        [{"fault": "wrong", "slot": 0, "start": 0, "end": 2, "type": "PERSON"}],
        ["x"],
        [{}] * 300,
    ],
)
def test_spans_of_no_known_form_are_refused(given: Any) -> None:
    with pytest.raises(Refused):
        parse_spans(given)


def test_columns_are_measured_and_only_counts_are_kept(house: House) -> None:
    dataset = house.dataset(workflow="visit_sections")
    rows = [{"text": f"Seen, plan {n}.", "label": ("GENHX", "ASSESSMENT")[n >= 12], "patient_id": n} for n in range(15)]
    version = import_version(str(house.upload(dataset, lines(rows)).pk))
    house.redact(version)
    version.refresh_from_db()
    asked = review_actions.measure_risk(
        actor=house.reviewer, version=version, quasi_identifiers=["label"], sensitive="text"
    )
    figures = measure_risk(str(asked.pk)).figures
    assert (figures["k"], figures["l"], figures["small_cells"], figures["records_in_small_cells"]) == (3, 3, 1, 3)
    assert (figures["max_risk_ppm"], figures["average_risk_ppm"]) == (333_333, 133_333)
    with pytest.raises(Refused, match="Choose at least one column"):
        review_actions.measure_risk(actor=house.reviewer, version=version, quasi_identifiers=["label", "label"])


def test_chat_data_has_no_columns_to_measure(house: House) -> None:
    version = house.redacted(visits(3))
    with pytest.raises(Refused, match="chat data"):
        review_actions.measure_risk(actor=house.reviewer, version=version, quasi_identifiers=["content"])
