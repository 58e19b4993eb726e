"""Whether a chat template writes tools, calls of them and their results: found by rendering some and looking.

Guarantees: a conversation with tools goes through a template only if what it holds of them comes out: of a definition
its name and its parameter, of a call its name, its argument and the value, of a result its text. Templates are rendered
in transformers' immutable sandbox, as everywhere.
Does not: judge in what form they come out, nor whether two calls at once do; a template that does not take those fails
when it is rendered.

Example:
    >>> refuse_unwritten(tokenizer, messages, tools)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from trainers.errors import TrainerError
from trainers.shards import Message

_TOOLS, _CALLS, _RESULTS = "definitions of tools", "calls of tools", "results of tools"
_TOOL = {
    "type": "function",
    "function": {
        "name": "weigh_parcel",
        "description": "Weighs.",
        "parameters": {
            "type": "object",
            "properties": {"parcel_code": {"type": "string", "description": "Which."}},
            "required": ["parcel_code"],
        },
    },
}
#: Nine letters and digits, which Mistral's templates want of an id.
_ID = "call00001"
_ASKED = {"role": "user", "content": "How heavy is it?"}
_CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": _ID, "type": "function", "function": {"name": "weigh_parcel", "arguments": {"parcel_code": "qx17"}}}
    ],
}
_ANSWERED = {"role": "tool", "name": "weigh_parcel", "tool_call_id": _ID, "content": "ninety grams"}
_SAID = {"role": "assistant", "content": "It is light."}
#: What has to be in the rendered text of each.
_TRACES = {
    _TOOLS: ("weigh_parcel", "parcel_code"),
    _CALLS: ("weigh_parcel", "parcel_code", "qx17"),
    _RESULTS: ("ninety grams",),
}
_known: WeakKeyDictionary[Any, dict[tuple[str, bool], frozenset[str]]] = WeakKeyDictionary()


def refuse_unwritten(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any]) -> None:
    """Refuses a conversation of which the tokenizer's template would pass something over.

    Raises:
        TrainerError: ``model.tools``.
    """
    wanted = [
        *([_TOOLS] if tools else []),
        *([_CALLS] if any("tool_calls" in each.extra for each in messages) else []),
        *([_RESULTS] if any(each.role == "tool" for each in messages) else []),
    ]
    if not wanted:
        return
    key = (str(tokenizer.chat_template), bool(tools))
    known = _known.setdefault(tokenizer, {})
    if key not in known:
        known[key] = frozenset(part for part in _TRACES if not _is_written(tokenizer, part, has_tools=bool(tools)))
    if left_out := [part for part in wanted if part in known[key]]:
        raise TrainerError(
            "model.tools",
            f"the chat template of the model leaves out {' and '.join(left_out)}, without which an answer means "
            "something else",
            "use a model whose template writes them, such as those of Qwen 2.5 and Llama 3.1, or records without tools",
        )


def _is_written(tokenizer: Any, part: str, *, has_tools: bool) -> bool:
    talk = {_TOOLS: [_ASKED], _CALLS: [_ASKED, _CALLED], _RESULTS: [_ASKED, _CALLED, _ANSWERED, _SAID]}[part]
    tools = [_TOOL] if has_tools else None
    try:
        text = tokenizer.apply_chat_template(talk, tools=tools, tokenize=False, add_generation_prompt=False)
        # What only the call writes must not be taken from the definition.
        without = tokenizer.apply_chat_template([_ASKED], tools=tools, tokenize=False) if part == _CALLS else ""
    except Exception:  # noqa: BLE001 - a template of unknown origin may raise anything
        return False
    return all(text.count(trace) > without.count(trace) for trace in _TRACES[part])
