"""Preference and labelled records: the shapes that others use, on their way to redacted payloads."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steward.datasets.formats import Problems
from steward.datasets.models import VersionState
from steward.datasets.reading import RecordReader
from steward.datasets.shapes import converter, detect, propose
from steward.datasets.texts import slot_names, slots, with_slots
from tests.steward.house import House, lines, pairs

USER = {"role": "user", "content": "How long?"}
GOOD = {"role": "assistant", "content": "Ten days."}
BAD = {"role": "assistant", "content": "No idea."}
EXPECTED = {"messages": [USER, GOOD], "rejected": "No idea."}


def read(row: dict[str, Any], columns: dict[str, str] | None = None) -> tuple[Any, Problems]:
    problems = Problems()
    return converter(propose(row, None, columns), problems)(7, row), problems


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "How long?", "chosen": "Ten days.", "rejected": "No idea."},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    ],
    ids=["trl-standard", "trl-conversational", "trl-implicit-prompt", "openai"],
)
def test_every_preference_shape_becomes_the_same_payload(row: dict[str, Any]) -> None:
    payload, problems = read(row)
    assert not problems.kept
    assert payload == EXPECTED
    assert slot_names(payload) == ["user", "chosen", "rejected"]


def test_trl_finds_the_same_prompt_in_two_conversations() -> None:
    from trl.data_utils import extract_prompt

    turns = [USER, {"role": "assistant", "content": "Of what?"}, {"role": "user", "content": "The cast."}]
    row = {"chosen": [*turns, GOOD], "rejected": [*turns, BAD]}
    theirs = extract_prompt(dict(row))
    payload, _ = read(row)
    assert payload["messages"] == [*theirs["prompt"], *theirs["chosen"]]
    assert payload["rejected"] == theirs["rejected"][0]["content"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rejected": None}, "not_a_text"),
        ({"rejected": "  "}, "not_a_text"),
        ({"rejected": 3}, "not_a_text"),
        ({"rejected": "Ten days. "}, "same_answers"),
        ({"prompt": ""}, "not_a_text"),
        ({"chosen": [GOOD, GOOD]}, "not_an_answer"),
        ({"chosen": [USER]}, "not_an_answer"),
        ({"rejected": [{"role": "assistant", "content": ""}]}, "not_an_answer"),
        ({"prompt": [{"role": "ghost", "content": "x"}]}, "unrecognized_role"),
    ],
)
def test_what_is_wrong_with_a_pair_is_told_with_line_and_column(change: dict[str, Any], code: str) -> None:
    good = {"prompt": "How long?", "chosen": "Ten days.", "rejected": "No idea."}
    payload, problems = read({**good, **change})
    assert payload is None
    assert code in [problem.code for problem in problems.kept]
    assert {problem.line for problem in problems.kept} == {7}
    assert not any("Ten days" in problem.message for problem in problems.kept)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"chosen": "plain", "rejected": "text"}, "missing_prompt"),
        ({"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "Why?"}, BAD]}, "prompts_differ"),
        ({"input": {}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}, "missing_messages_list"),
        (
            {
                "input": {"messages": [USER], "tools": [{"type": "function"}]},
                "preferred_output": [GOOD],
                "non_preferred_output": [BAD],
            },
            "tool_invalid",
        ),
    ],
)
def test_a_pair_without_one_prompt_is_refused(row: dict[str, Any], code: str) -> None:
    payload, problems = read(row)
    assert payload is None
    assert [problem.code for problem in problems.kept] == [code]


def test_columns_of_other_names_are_mapped_and_numbers_are_labels() -> None:
    columns = {"text": "dialogue", "label": "section"}
    payload, problems = read({"dialogue": "Hives after penicillin.", "section": 3, "text": "other"}, columns)
    assert not problems.kept
    assert slots(payload) == ["Hives after penicillin.", "3"]


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=4),
    st.one_of(st.none(), st.text(min_size=1)),
)
def test_texts_go_back_to_their_places(texts: list[str], rejected: str | None) -> None:
    payload: dict[str, Any] = {"messages": [{"role": "assistant", "content": text} for text in texts]}
    if rejected is not None:
        payload["rejected"] = rejected
    assert with_slots(payload, slots(payload)) == payload
    marked = with_slots(payload, [f"<{text}>" for text in slots(payload)])
    assert slots(marked) == [f"<{text}>" for text in slots(payload)]
    assert len(slot_names(payload)) == len(slots(payload))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_anything_in_a_preference_column_gives_a_payload_of_texts_or_a_problem(value: Any) -> None:
    for shape in (
        {"prompt": value, "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": value, "rejected": value},
        {"chosen": value, "rejected": value},
        {"input": value, "preferred_output": value, "non_preferred_output": "b"},
    ):
        assert detect(shape) is not None
        payload, problems = read(shape)
        assert (payload is None) == bool(problems.count)
        assert payload is None or all(isinstance(text, str) and text.strip() for text in slots(payload))


def test_every_text_of_a_pair_is_redacted(house: House) -> None:
    version = house.redacted(pairs(9))
    assert version.state == VersionState.REDACTED
    assert version.mapping["shape"] == "preference"
    for record in RecordReader(version).redacted(version.redaction):
        assert not any("Quackenbush" in text for text in slots(record.payload))
        assert len(record.findings) == 3
        assert all(record.findings)


def test_a_file_whose_third_pair_lacks_its_rejected_answer_leaves_nothing(house: House) -> None:
    rows = pairs(5)
    del rows[2]["rejected"]
    version = house.imported(rows)
    assert version.state == VersionState.FAILED
    assert [(problem["line"], problem["column"]) for problem in version.problems] == [(3, "rejected")]


def test_an_openai_preference_file_goes_in_as_it_is(house: House) -> None:
    rows = [
        {
            "input": {
                "messages": [{"role": "user", "content": f"Question {n}?"}],
                "tools": [],
                "parallel_tool_calls": True,
            },
            "preferred_output": [{"role": "assistant", "content": f"Answer {n}."}],
            "non_preferred_output": [{"role": "assistant", "content": f"Nothing {n}."}],
        }
        for n in range(12)
    ]
    assert json.loads(lines(rows).splitlines()[0]) == rows[0]
    assert house.imported(rows).record_count == 12
