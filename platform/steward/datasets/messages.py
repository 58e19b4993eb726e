"""The messages of a conversation, as they come in a file, made into those of a payload; with calls of tools.

Guarantees that a call in a payload is `{"id", "type", "function": {"name", "arguments"}}` with arguments as an object,
that each result of a tool answers a call before it and bears its id and name, that a result which is a JSON object or
list is held as one, and that what does not fit or would be lost is reported with line and column. Ids only tie results
to calls, and may be made of anything, so they are numbered anew: `call00001`, of the nine letters and digits that some
templates want. Never repeats a value.

Source: OpenAI API reference, chat completions and fine-tuning; TRL documentation, "Tool calling"; the tokenizer of
Mistral's models, whose template refuses other ids.

Example:
    >>> call = {"function": {"name": "dose", "arguments": '{"drug": "aspirin"}'}}
    >>> turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    >>> read_messages(1, turns, Problems())[1]["tool_calls"][0]["function"]["arguments"]
    {'drug': 'aspirin'}
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from steward.datasets.formats import Problems

Payload = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
#: What a message may hold beside role and content.
_BESIDE = {"assistant": {"weight", "tool_calls"}, "tool": {"weight", "name", "tool_call_id"}}
#: Source: OpenAI API reference, “Function object”.
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MAX_DEPTH = 32
MAX_VALUES = 2_000
_OLD_FORM = (
    "“functions” and “function_call” are an older form. Write them as “tools”, “tool_calls” and messages of role tool."
)


def read_messages(line: int, messages: Any, problems: Problems) -> list[Payload]:
    """The messages in a file's form as those of a payload; the last one has to be the assistant's."""
    if not isinstance(messages, list) or not messages:
        problems.add(line, "messages", "missing_messages_list", "“messages” must be a non-empty list.")
        return []
    reader = MessageReader(line, problems)
    read = [made for place, message in enumerate(messages, 1) if (made := reader.read(f"messages[{place}]", message))]
    if not read or read[-1]["role"] != "assistant":
        problems.add(
            line, "messages", "example_missing_assistant_message", "The last message must be the assistant's answer."
        )
    return read


def check_calls(line: int, messages: list[Payload], tools: list[Payload], problems: Problems) -> None:
    """Reports calls of what is none of the tools that are named."""
    names = {tool["function"]["name"] for tool in tools}
    for place, message in enumerate(messages, 1):
        if any(call["function"]["name"] not in names for call in message.get("tool_calls", ())):
            wrong = "A function that is called here is none of “tools”. Define it there."
            problems.add(line, f"messages[{place}].tool_calls", "call_unknown", wrong)


def read_tools(line: int, row: Mapping[str, Any], problems: Problems) -> list[Payload] | None:
    """The definitions of tools beside a conversation, None where there are none.

    A list, or the text of one; each OpenAI's `{"type": "function", "function": {…}}` or the function alone. A column
    that holds something else is taken for none of ours.
    """
    if _looks_like_json(row.get("functions")):
        problems.add(line, "functions", "tools_old_form", _OLD_FORM)
    given = row.get("tools")
    if not _looks_like_json(given):
        return None
    if isinstance(given, str):
        given = _parsed(given)
    if not isinstance(given, list):
        problems.add(line, "tools", "tools_invalid", "“tools” must be a list of functions, or the JSON text of one.")
        return None
    if problem := _problem_of(given):
        problems.add(line, "tools", "tools_invalid", problem)
        return None
    before = problems.count
    tools = [_tool(line, f"tools[{place}]", tool, problems) for place, tool in enumerate(given, 1)]
    if problems.count > before:
        return None
    names = [tool["function"]["name"] for tool in tools]
    if len(set(names)) < len(names):
        problems.add(line, "tools", "tools_invalid", "Two tools have the same name.")
    return tools or None


def has_tools(payload: Payload) -> bool:
    """Whether a payload names tools, or calls one."""
    return "tools" in payload or any("tool_calls" in message for message in payload.get("messages", ()))


def _looks_like_json(value: Any) -> bool:
    return bool(value) and (isinstance(value, list | dict) or str(value).lstrip()[:1] in ("[", "{"))


def _tool(line: int, column: str, tool: Any, problems: Problems) -> Payload:
    given = tool if isinstance(tool, dict) else {}
    function = given.get("function", {key: each for key, each in given.items() if key != "type"})
    around = (
        {key: each for key, each in given.items() if key not in ("type", "function")} if "function" in given else {}
    )
    name = function.get("name") if isinstance(function, dict) else None
    if given.get("type", "function") != "function" or not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        message = (
            "A tool must be a function with a name of at most 64 letters, digits, “_”, “-” and “.”. Other types of "
            "tools are not known here; leave them out."
        )
        problems.add(line, column, "tool_invalid", message)
    elif not isinstance(function.get("parameters") or {}, dict):
        problems.add(line, column, "tool_invalid", "“parameters” of a function must be a JSON Schema object.")
    return {"type": "function", **around, "function": function}


class MessageReader:
    """Reads the messages of one conversation, in order."""

    def __init__(self, line: int, problems: Problems) -> None:
        self._line, self._problems = line, problems
        self._open: list[tuple[Any, str, str]] = []  # calls without a result: id in the file, our id, name
        self._calls = 0
        self._room = MAX_VALUES

    def read(self, column: str, message: Any) -> Payload | None:
        """The next message as one of a payload, or None where it has no role or says nothing."""
        if not isinstance(message, dict) or "role" not in message or not {"content", "tool_calls"} & message.keys():
            self._wrong(column, "message_missing_key", "A message needs “role” and “content”.")
            return None
        # Programs that write every message with every key leave those empty that it does not have.
        given = {key: each for key, each in message.items() if each not in (None, "", [])}
        role = given.get("role")
        if role not in ROLES:
            self._wrong(column, "unrecognized_role", f"The role must be one of {', '.join(ROLES)}.")
            return None
        self._beside(column, given, role)
        made: Payload = {"role": role, "content": given.get("content")}
        calls = given.get("tool_calls")
        if calls and isinstance(made["content"], str | None) and not (made["content"] or "").strip():
            made["content"] = None  # so does a turn look that only calls
        else:
            self._content(column, made["content"])
        if "weight" in given:
            if given["weight"] not in (0, 1):
                self._wrong(column, "bad_weight", "“weight” must be 0 or 1.")
            made["weight"] = given["weight"]
        if calls and role == "assistant":
            made["tool_calls"] = self._read_calls(column, calls)
        if role == "tool":
            made |= self._answered(column, given)
            made["content"] = _result(made["content"])
            self._count(column, made["content"])
        return made

    def _wrong(self, column: str, code: str, message: str) -> None:
        self._problems.add(self._line, column, code, message)

    def _beside(self, column: str, given: Payload, role: str) -> None:
        """Reports what a message holds that its role does not have, and that would be lost."""
        unknown = given.keys() - {"role", "content"} - _BESIDE.get(role, {"weight"})
        if unknown & {"function_call"}:
            self._wrong(column, "tools_old_form", _OLD_FORM)
        elif unknown == {"name"}:
            message = "A name beside a message would be lost: chat templates do not write it. Put it into the content."
            self._wrong(column, "name_not_read", message)
        elif unknown:
            self._wrong(column, "message_unrecognized_key", f"Unknown keys: {', '.join(sorted(unknown))[:80]}.")

    def _content(self, column: str, content: Any) -> None:
        if not isinstance(content, str) or not content.strip():
            self._wrong(column, "missing_content", "“content” must be a non-empty text.")

    def _read_calls(self, column: str, calls: Any) -> list[Payload]:
        if not isinstance(calls, list):
            self._wrong(column, "call_invalid", "“tool_calls” must be a list.")
            return []
        self._open.clear()  # what was not answered before a further call never is
        return [self._read_call(f"{column}.tool_calls[{place}]", call) for place, call in enumerate(calls, 1)]

    def _read_call(self, column: str, call: Any) -> Payload:
        given = {key: each for key, each in call.items() if each is not None} if isinstance(call, dict) else {}
        function = given.get("function", {key: given[key] for key in ("name", "arguments") if key in given})
        known = {"id", "type", "function"} if "function" in given else {"id", "type", "name", "arguments"}
        name = function.get("name") if isinstance(function, dict) else None
        arguments: Any = None
        if (
            not isinstance(name, str)
            or not _FUNCTION_NAME.fullmatch(name)
            or given.get("type", "function") != "function"
        ):
            self._wrong(column, "call_invalid", "A call must be of a function, by its name, with its arguments.")
        elif given.keys() - known or function.keys() - {"name", "arguments"}:
            self._wrong(
                column, "call_invalid", "A call has an id, a type and a function of name and arguments, no more."
            )
        else:
            arguments = function.get("arguments") or {}
            arguments = _parsed(arguments) if isinstance(arguments, str) else arguments
            if not isinstance(arguments, dict):
                message = "“arguments” must be a JSON object, or the text of one in which no key stands twice."
                self._wrong(column, "call_invalid", message)
            self._count(column, arguments)
        self._calls += 1
        number = f"call{self._calls:05d}"
        self._open.append((given.get("id"), number, str(name)))
        return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _answered(self, column: str, given: Payload) -> Payload:
        """The id and the name of the call that a result answers: by its id, else the first open one of its name."""
        wanted, name = given.get("tool_call_id"), given.get("name")
        for place, (known, number, called) in enumerate(self._open):
            if (wanted == known if wanted is not None else name in (None, called)) and name in (None, called):
                del self._open[place]
                return {"tool_call_id": number, "name": called}
        message = "This result answers no call before it: by its “tool_call_id”, and its “name” where it has one."
        self._wrong(column, "result_without_call", message)
        return {}

    def _count(self, column: str, value: Any) -> None:
        """Keeps a record's calls and results to what can be redacted leaf by leaf."""
        if problem := _problem_of(value, self._room):
            self._wrong(column, "json_too_large", problem)
        else:
            self._room -= _values(value)


def _result(content: Any) -> Any:
    """A result that is a JSON object or list as one; else the text that it is."""
    if isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        parsed = _parsed(content)
        return content if parsed is None else parsed
    return content


def _parsed(text: str) -> Any:
    """An object or a list out of JSON; None for what is neither, and for JSON that Python would not keep whole."""
    try:
        value = json.loads(text, object_pairs_hook=_each_key_once)
        json.dumps(value, ensure_ascii=False).encode()  # which halves of surrogate pairs do not bear
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _each_key_once(pairs: list[tuple[str, Any]]) -> Payload:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _problem_of(value: Any, room: int = MAX_VALUES) -> str:
    """What keeps a JSON value of at most `room` values from being redacted leaf by leaf; '' for nothing."""
    waiting = [(value, 0)]
    for each, depth in waiting:
        if depth > MAX_DEPTH or len(waiting) > room:
            return (
                f"JSON may be {MAX_DEPTH} levels deep here, and a record's calls and results hold {MAX_VALUES:,} "
                "values in all. Split the record."
            )
        if isinstance(each, float) and not math.isfinite(each):
            return "A number here is not finite. Write it as a text, or leave it out."
        if isinstance(each, dict | list):
            waiting += [(inner, depth + 1) for inner in (each.values() if isinstance(each, dict) else each)]
    return ""


def _values(value: Any) -> int:
    """How many values a JSON value holds, itself among them."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_values, inner))
