"""What stands beside a conversation in a file is read, or told to be missing; none of it is passed over in silence."""

from typing import Any

from steward.datasets.formats import Problems
from steward.datasets.shapes import converter, propose

SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [{"role": "user", "content": "How much?"}, {"role": "assistant", "content": "100 mg"}]


def read(*rows: dict[str, Any]) -> tuple[list[Any], list[tuple[int, str, str]]]:
    problems = Problems()
    convert = converter(propose(rows[0], None), problems)
    payloads = [convert(line, row) for line, row in enumerate(rows, 1)]
    return payloads, [(each.line, each.column, each.code) for each in problems.kept]


def test_a_system_column_and_a_history_come_before_an_alpaca_question() -> None:
    plain = {"instruction": "How much?", "input": "", "output": "100 mg"}
    row = plain | {"system": "Be brief.", "history": [["Hi", "Ho"]]}
    payloads, problems = read(row, plain | {"system": "", "history": []}, row | {"history": [["Hi"]]})
    earlier = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert payloads == [{"messages": [SYSTEM, *earlier, *TALK]}, {"messages": TALK}, None]
    assert problems == [(3, "history", "not_a_history")]


def test_a_sharegpt_record_keeps_its_system_message_and_the_weight_of_a_turn() -> None:
    turns = [{"from": "human", "value": "How much?"}, {"from": "gpt", "value": "100 mg", "weight": 0}]
    payloads, problems = read({"conversations": turns, "system": "Be brief."}, {"conversations": [*turns, "odd"]})
    assert payloads == [{"messages": [SYSTEM, TALK[0], TALK[1] | {"weight": 0}]}, None]
    assert (2, "messages[3]", "message_missing_key") in problems


def test_tools_beside_a_form_that_has_no_place_for_them_are_told_and_not_dropped() -> None:
    """They were: the answers were then learnt without what they had been given for."""
    tool = {"type": "function", "function": {"name": "dose"}}
    turns = [{"from": "human", "value": "How much?"}, {"from": "gpt", "value": "100 mg"}]
    assert read({"conversations": turns, "tools": [tool]})[1] == [(1, "tools", "tools_not_read")]
    alpaca = {"instruction": "How much?", "output": "100 mg"}
    assert read(alpaca | {"tools": [tool]})[1] == [(1, "tools", "tools_not_read")]
    pair = {"prompt": "How much?", "chosen": "100 mg", "rejected": "a lot"}
    assert read(pair | {"tools": []}, pair | {"tools": "hammer"})[1] == []


def test_the_name_of_a_speaker_is_told_and_not_dropped() -> None:
    named = {"messages": [TALK[0] | {"name": "Ada"}, TALK[1]]}
    unnamed = {"messages": [TALK[0] | {"name": None, "tool_calls": []}, TALK[1]]}
    payloads, problems = read(named, unnamed)
    assert payloads == [None, {"messages": TALK}]
    assert problems == [(1, "messages[1]", "name_not_read")]
