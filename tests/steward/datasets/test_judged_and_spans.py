"""Judged answers and texts with labelled spans: from a file to redacted payloads, with every label at its text."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steward.datasets.formats import Problems
from steward.datasets.labelled_spans import MAX_LABELS, carried
from steward.datasets.models import VersionState
from steward.datasets.reading import RecordReader
from steward.datasets.shapes import converter, propose
from steward.datasets.texts import slot_names, slots, with_slots
from tests.steward.house import House, judgements, tagged

USER = {"role": "user", "content": "How long?"}
GOOD = {"role": "assistant", "content": "Ten days."}


def read(*rows: dict[str, Any]) -> tuple[list[Any], list[tuple[int, str, str]]]:
    problems = Problems()
    convert = converter(propose(rows[0], None), problems)
    payloads = [convert(line, row) for line, row in enumerate(rows, 1)]
    assert not any("Quackenbush" in problem.message for problem in problems.kept)
    return payloads, [(problem.line, problem.column, problem.code) for problem in problems.kept]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "How long?", "completion": "Ten days.", "label": True},
        {"prompt": "How long?", "completion": "Ten days.", "label": "Yes"},
        {"prompt": [USER], "completion": [GOOD], "label": 1},
        {"prompt": "How long?", "answer": "Ten days.", "judgement": "good"},
    ],
    ids=["trl-standard", "csv", "trl-conversational", "by-name"],
)
def test_every_judged_shape_becomes_the_same_payload(row: dict[str, Any]) -> None:
    assert read(row) == ([{"messages": [USER, GOOD], "is_good": True}], [])


def test_trl_reads_a_judged_file_as_unpaired_preferences() -> None:
    """The columns are those by which TRL knows the format: it makes them out of pairs."""
    from datasets import Dataset
    from trl.data_utils import unpair_preference_dataset

    pair = Dataset.from_list([{"prompt": "How long?", "chosen": "Ten days.", "rejected": "No idea."}])
    rows = list(unpair_preference_dataset(pair))
    payloads, problems = read(*rows)
    assert not problems
    assert [payload["is_good"] for payload in payloads] == [True, False]
    assert [slots(payload)[-1] for payload in payloads] == ["Ten days.", "No idea."]


def test_all_that_is_wrong_with_judged_answers_is_told_at_once() -> None:
    good = {"prompt": "How long?", "completion": "Ten days.", "label": False}
    payloads, problems = read(
        good,
        {**good, "label": "Quackenbush"},
        {**good, "label": None, "completion": " "},
        {**good, "label": 2},
        {**good, "label": [True]},
        {**good, "prompt": [{"role": "ghost", "content": "x"}]},
    )
    assert payloads[0]["is_good"] is False
    assert payloads[1:] == [None] * 5
    assert problems == [
        (2, "label", "not_a_judgement"),
        (3, "completion", "not_a_text"),
        (3, "label", "not_a_judgement"),
        (4, "label", "not_a_judgement"),
        (5, "label", "not_a_judgement"),
        (6, "messages[1]", "unrecognized_role"),
    ]


def span(start: Any, end: Any, label: Any = "DRUG", **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, **more}


def test_spans_are_kept_as_places_and_labels_and_nothing_else_of_them_is() -> None:
    row = {"text": "aspirin 5 mg", "spans": [span(8, 12, "DOSE", text="5 mg", id=3), span(0, 7)]}
    payloads, problems = read(row, {"text": "Nothing.", "spans": []})
    assert not problems
    expected = {"text": "aspirin 5 mg", "labels": ["DOSE", "DRUG"], "spans": [[0, 7, 1], [8, 12, 0]]}
    assert payloads == [expected, {"text": "Nothing.", "labels": [], "spans": []}]
    assert slots(expected) == ["aspirin 5 mg", "DOSE", "DRUG"]
    assert slot_names(expected) == ["text", "label", "label"]
    assert with_slots(expected, ["a", "b", "c"]) == {**expected, "text": "a", "labels": ["b", "c"]}


def test_all_that_is_wrong_with_spans_is_told_at_once() -> None:
    text = "Mrs Quackenbush takes aspirin."
    _, problems = read(
        {"text": text, "spans": [span(22, 29), span(-1, 3), span(20, 31), span(5, 5), span(9, 4)]},
        {"text": text, "spans": [span(0, 8), span(7, 9), span(20, 22)]},
        {
            "text": text,
            "spans": [span("0", 8), span(True, 8), {"label": "DRUG"}, "span", span(0, 3, "Mrs Quackenbush")],
        },
        {"text": text, "spans": [span(0, 3, None), span(4, 6, "x" * 41), span(8, 9, "5MG")]},
        {"text": " ", "spans": "none"},
        {"text": text},
    )
    assert problems == [
        (1, "spans[2]", "span_outside"),
        (1, "spans[3]", "span_outside"),
        (1, "spans[4]", "span_outside"),
        (1, "spans[5]", "span_outside"),
        (2, "spans", "spans_overlap"),
        (3, "spans[1]", "span_invalid"),
        (3, "spans[2]", "span_invalid"),
        (3, "spans[3]", "span_invalid"),
        (3, "spans[4]", "span_invalid"),
        (3, "spans[4]", "label_unfit"),
        (3, "spans[5]", "label_unfit"),
        (4, "spans[1]", "label_unfit"),
        (4, "spans[2]", "label_unfit"),
        (4, "spans[3]", "label_unfit"),
        (5, "text", "not_a_text"),
        (5, "spans", "spans_invalid"),
        (6, "spans", "spans_invalid"),
    ]


def test_labels_are_a_short_list() -> None:
    rows = [{"text": "aspirin", "spans": [span(0, 7, f"KIND{number}")]} for number in range(MAX_LABELS + 3)]
    _, problems = read(*rows)
    assert problems == [(MAX_LABELS + 1, "spans[1]", "labels_too_many")]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_anything_in_these_columns_gives_a_payload_or_a_problem(value: Any) -> None:
    for row in (
        {"prompt": "p", "completion": "c", "label": value},
        {"prompt": value, "answer": value, "judgement": True},
        {"text": "some text", "spans": value},
        {"text": "some text", "spans": [value]},
        {"text": value, "spans": [{"start": 0, "end": 1, "label": "X"}]},
    ):
        (payload,), problems = read(row)
        assert (payload is None) == bool(problems)


# Stretches of raw text with what stands in their place (None: it stays), letters that tell each apart.
PIECES = st.lists(st.tuples(st.integers(1, 5), st.none() | st.integers(0, 6)), min_size=1, max_size=12)


def built(pieces: list[tuple[int, int | None]]) -> tuple[str, str, list[dict[str, int]]]:
    """Raw text whose characters are all different, the redacted text, and the findings."""
    raw, redacted, findings, letter = "", "", [], 0x4E00
    for width, replaced in pieces:
        text = "".join(chr(letter + place) for place in range(width))
        letter += width
        made = text if replaced is None else "*" * replaced
        if replaced is not None:
            findings.append(
                {
                    "start": len(raw),
                    "end": len(raw) + width,
                    "replacement_start": len(redacted),
                    "replacement_end": len(redacted) + len(made),
                }
            )
        raw, redacted = raw + text, redacted + made
    return raw, redacted, findings


@given(PIECES, st.data())
def test_a_label_follows_its_text_through_redaction(pieces: Any, data: st.DataObject) -> None:
    raw, redacted, findings = built(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)))
    chosen = [(start, end, data.draw(st.none() | st.integers(0, 2))) for start, end in pairwise(cuts)]
    spans = [[start, end, label] for start, end, label in chosen if label is not None]
    moved = carried(spans, findings)
    touched = {
        place: {label for start, end, label in spans if start < found["end"] and end > found["start"]}
        for place, found in enumerate(findings)
        if found["replacement_end"] > found["replacement_start"]
    }
    # Set aside exactly where two labels share a replacement.
    assert (moved is None) == any(len(labels) > 1 for labels in touched.values())
    if moved is None:
        return
    assert moved == sorted(moved)
    assert all(0 <= start < end <= len(redacted) for start, end, _ in moved)
    assert all(one[1] <= other[0] for one, other in pairwise(moved))
    # Of what was not replaced, each character has the label it had, or none.
    label_of = {raw[place]: label for start, end, label in spans for place in range(start, end)}
    new = {place: label for start, end, label in moved for place in range(start, end)}
    for place, character in enumerate(redacted):
        if character != "*":
            assert new.get(place) == label_of.get(character)
    # A replacement has the label of what it stands for, as a whole.
    for place, labels in touched.items():
        found = findings[place]
        said = {new.get(at) for at in range(found["replacement_start"], found["replacement_end"])}
        assert said == (labels or {None})


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[0, 4, 0]], [[0, 4, 0]]),
        ([[5, 16, 0]], [[5, 13, 0]]),
        ([[0, 20, 0]], [[0, 17, 0]]),
        ([[9, 16, 0]], [[5, 13, 0]]),
        ([[9, 20, 0]], [[5, 17, 0]]),
        ([[0, 7, 0]], [[0, 13, 0]]),
        ([[0, 5, 0], [16, 20, 1]], [[0, 5, 0], [13, 17, 1]]),
        ([[5, 8, 0], [9, 16, 0]], [[5, 13, 0]]),
        ([[5, 8, 0], [9, 16, 1]], None),
        ([[0, 6, 0], [15, 20, 1]], None),
    ],
    ids=[
        "before", "the-finding", "around", "within", "out-of-it", "into-it", "touching", "two-of-one-label",
        "two-labels-within", "two-labels-from-both-sides",
    ],
)  # fmt: skip
def test_what_becomes_of_a_span_at_a_replacement(spans: Any, expected: Any) -> None:
    """`Mrs. [Quackenbush] took it`: eleven characters become eight."""
    found = [{"start": 5, "end": 16, "replacement_start": 5, "replacement_end": 13}]
    assert carried(spans, found) == expected


def test_a_span_whose_text_was_removed_is_gone() -> None:
    found = [{"start": 5, "end": 16, "replacement_start": 5, "replacement_end": 5}]
    assert carried([[6, 9, 0], [10, 20, 1]], found) == [[5, 9, 1]]


def test_redaction_carries_labels_along_and_leaves_no_name(house: House) -> None:
    version = house.redacted(tagged(12))
    assert (version.state, version.mapping["shape"]) == (VersionState.REDACTED, "text_spans")
    for record in RecordReader(version).redacted(version.redaction):
        payload = record.payload
        said = {payload["labels"][label]: payload["text"][start:end] for start, end, label in payload["spans"]}
        assert said["DRUG"] in ("aspirin", "warfarin")
        assert "Quackenbush" not in str(payload)
        assert said["PATIENT"] not in ("", "Mrs")
        assert [bool(found) for found in record.findings] == [True, False, False]
    assert version.redaction is not None
    assert version.redaction.set_aside_count == 0


def test_a_name_among_the_labels_is_redacted_like_any_text(house: House) -> None:
    rows = tagged(4)
    for row in rows:
        row["spans"][0]["label"] = "Quackenbush"
    version = house.redacted(rows)
    for record in RecordReader(version).redacted(version.redaction):
        assert "Quackenbush" not in str(record.payload)


def test_a_record_with_two_labels_in_one_replacement_is_set_aside_and_counted(house: House) -> None:
    rows = tagged(6)
    for row in rows[:2]:
        first, last = row["text"].index("Imelda"), row["text"].index("Quackenbush")
        row["spans"][0] = {"start": first, "end": first + 6, "label": "GIVEN"}
        row["spans"].append({"start": last, "end": last + 11, "label": "FAMILY"})
    version = house.redacted(rows)
    assert version.redaction is not None
    assert version.redaction.set_aside_count == 2
    kept = [record.payload["spans"] for record in RecordReader(version).redacted(version.redaction)]
    assert [spans is None for spans in kept] == [True, True, False, False, False, False]


def test_every_text_of_a_judged_answer_is_redacted_and_its_judgement_kept(house: House) -> None:
    version = house.redacted(judgements(9))
    verdicts = []
    for record in RecordReader(version).redacted(version.redaction):
        assert not any("Quackenbush" in text for text in slots(record.payload))
        verdicts.append(record.payload["is_good"])
    assert sorted(verdicts) == [False] * 3 + [True] * 6
