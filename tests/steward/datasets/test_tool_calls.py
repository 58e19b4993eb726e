"""Tools, their calls and their results on the way from a file to a training shard: read, redacted, told of if unfit."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steward.datasets.formats import Problems
from steward.datasets.redaction_work import Examined, RecordTexts, redact_batch
from steward.datasets.shapes import converter, propose
from steward.datasets.texts import slots, texts, with_slots
from steward.profiles.composing import _shipped_text

USER = {"role": "user", "content": "How much?"}
SAID = {"role": "assistant", "content": "100 mg"}
CALL = {"id": "x1", "type": "function", "function": {"name": "dose", "arguments": '{"drug": "aspirin", "days": 3}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "x1", "content": '{"mg": [100, "once"]}'}
TOOL = {"type": "function", "function": {"name": "dose", "parameters": {"type": "object"}}}


def read(row: dict[str, Any]) -> tuple[Any, list[tuple[int, str, str]]]:
    problems = Problems()
    payload = converter(propose(row, None), problems)(7, row)
    return payload, [(each.line, each.column, each.code) for each in problems.kept]


def test_openais_form_and_trls_are_read_as_the_same() -> None:
    mine = {"name": "dose", "arguments": {"drug": "aspirin", "days": 3}}
    openai = {"messages": [USER, CALLED, RESULT, SAID], "tools": [TOOL]}
    trl = {
        "prompt": [USER],
        "completion": [
            {"role": "assistant", "tool_calls": [{"type": "function", "function": mine}], "name": None},
            {"role": "tool", "name": "dose", "content": '{"mg":[100,"once"]}'},
            SAID,
        ],
        "tools": json.dumps([TOOL["function"]]),
    }
    call = {"id": "call00001", "type": "function", "function": mine}
    result = {"role": "tool", "tool_call_id": "call00001", "name": "dose", "content": {"mg": [100, "once"]}}
    turns = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}, result, SAID]
    assert read(openai) == read(trl) == ({"messages": turns, "tools": [TOOL]}, [])


@pytest.mark.parametrize(
    ("turns", "tools", "problem"),
    [
        ([RESULT, SAID], [], ("messages[2]", "result_without_call")),
        ([CALLED, RESULT | {"tool_call_id": "x2"}, SAID], [], ("messages[3]", "result_without_call")),
        ([CALLED, RESULT | {"name": "other"}, SAID], [], ("messages[3]", "result_without_call")),
        ([CALLED, RESULT, RESULT, SAID], [], ("messages[4]", "result_without_call")),
        ([CALLED], [TOOL | {"function": {"name": "x"}}], ("messages[2].tool_calls", "call_unknown")),
        ([CALLED | {"tool_calls": "dose"}], [], ("messages[2]", "call_invalid")),
        ([CALLED | {"function_call": {"name": "dose"}}], [], ("messages[2]", "tools_old_form")),
        ([USER | {"tool_calls": [CALL]}, SAID], [], ("messages[2]", "message_unrecognized_key")),
        ([CALLED], ["dose"], ("tools[1]", "tool_invalid")),
        ([CALLED], [TOOL, TOOL], ("tools", "tools_invalid")),
        ([CALLED], '[{"name": "dose", "name": "x"}]', ("tools", "tools_invalid")),
        ([CALLED, RESULT | {"content": "[" * 40 + "1" + "]" * 40}, SAID], [], ("messages[3]", "json_too_large")),
        ([CALLED, RESULT | {"content": "[1e999]"}, SAID], [], ("messages[3]", "json_too_large")),
    ],
)
def test_what_is_wrong_with_tools_is_told_with_line_and_column(turns: Any, tools: Any, problem: Any) -> None:
    payload, problems = read({"messages": [USER, *turns], "tools": tools})
    assert (payload, problems) == (None, [(7, *problem)])


@pytest.mark.parametrize(
    "function",
    [
        {"name": "dose", "arguments": "aspirin"},
        {"name": "dose", "arguments": "[1]"},
        {"name": "dose", "arguments": '{"a": 1, "a": 2}'},
        {"name": "give dose", "arguments": "{}"},
        {"name": "dose", "arguments": {}, "note": "x"},
    ],
)
def test_a_call_that_would_not_be_kept_whole_is_refused(function: dict[str, Any]) -> None:
    turn = CALLED | {"tool_calls": [CALL | {"function": function}]}
    assert read({"messages": [USER, turn]}) == (None, [(7, "messages[2].tool_calls[1]", "call_invalid")])


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES
JSON = st.recursive(LEAVES, lambda each: st.lists(each, max_size=4) | st.dictionaries(NAMES, each, max_size=4))


def talk(arguments: Any, result: Any, schema: Any) -> dict[str, Any]:
    """A payload with any JSON in each place that takes some."""
    call = {"id": "call00001", "type": "function", "function": {"name": "dose", "arguments": {"a": arguments}}}
    turns = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    answered = {"role": "tool", "tool_call_id": "call00001", "name": "dose", "content": [result]}
    tool = {"type": "function", "function": {"name": "dose", "parameters": {"properties": {"a": schema}}}}
    return {"messages": [*turns, answered, SAID], "tools": [tool]}


def shape(value: Any) -> Any:
    """Lists and objects with how many keys; of a leaf only whether there is something to read."""
    if isinstance(value, dict):
        return "object", [shape(each) for each in value.values()]
    return [shape(each) for each in value] if isinstance(value, list) else value is None or isinstance(value, bool)


def keys(value: Any) -> list[str]:
    """All keys, in order."""
    if isinstance(value, dict):
        return [found for key, each in value.items() for found in (key, *keys(each))]
    return [found for each in value for found in keys(each)] if isinstance(value, list) else []


@given(JSON, JSON, JSON)
def test_every_leaf_and_name_has_one_place_and_goes_back_to_it(one: Any, two: Any, three: Any) -> None:
    payload = talk(one, two, three)
    assert with_slots(payload, slots(payload)) == payload
    marked = with_slots(payload, [f"<{text}>" for text in slots(payload)])
    assert slots(marked) == [f"<{text}>" for text in slots(payload)]
    assert shape(marked) == shape(payload)
    left = [text.value if text.name == "name" else f"<{text.value}>" for text in texts(payload)]
    assert keys(with_slots(payload, left)) == keys(payload)


PLANTED = ("Imelda Quackenbush", "617-555-0147", "imelda@example.org")
LATIN = st.text("abcdefghij ", max_size=8)


NAMED = "Mrs. Imelda Quackenbush"


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 99) | LATIN | st.sampled_from(PLANTED),
        lambda each: (
            st.lists(each, max_size=3)
            | st.dictionaries(st.sampled_from(["patient", "phone_number", "mailTo", NAMED]), each)
        ),
        max_leaves=8,
    )
)
def test_redacting_any_json_keeps_its_shape_and_leaves_no_planted_identifier(value: Any) -> None:
    payload = talk(value, value, {"default": value, "enum": [value], "required": [value]})
    made = with_slots(payload, redacted(payload))
    assert not any(planted in json.dumps(made) for planted in (*PLANTED, "Imelda", "Quackenbush"))
    assert shape(made) == shape(payload)
    assert all(one in (other, NAMED) for one, other in zip(keys(payload), keys(made), strict=True))


def redacted(payload: dict[str, Any]) -> list[str]:
    """The texts of a payload after the shipped redaction."""
    examined = tuple(Examined(text.value, read_as=text.read_as) for text in texts(payload))
    (found,) = redact_batch(tomllib.loads(_shipped_text("healthcare")), bytes(32), [RecordTexts("p", examined)])
    return found.texts


def test_a_name_with_an_identifier_is_replaced_alike_in_definition_call_and_result() -> None:
    name, key = "lookup_john_kowalski", "Mrs. Ada Wu"
    call = {"function": {"name": name, "arguments": {key: 1, "mrn": 48_213_990}}}
    result = json.dumps({key: []})
    row = {
        "messages": [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": result}, SAID],
        "tools": [{"name": name, "parameters": {"properties": {key: {"type": "integer"}}, "required": [key]}}],
    }
    payload, problems = read(row)
    assert not problems
    made = with_slots(payload, redacted(payload))
    function = made["messages"][1]["tool_calls"][0]["function"]
    definition = made["tools"][0]["function"]
    assert function["name"] == definition["name"] == made["messages"][2]["name"] != name
    assert "kowalski" not in json.dumps(made)
    (new,) = set(function["arguments"]) - {"mrn"}
    assert "Wu" not in new
    assert definition["parameters"] == {"properties": {new: {"type": "integer"}}, "required": [new]}
    assert made["messages"][2]["content"] == {new: []}
    assert function["arguments"][new] == 1
    assert "48213990" not in json.dumps(made)
