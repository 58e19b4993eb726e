"""The texts of a payload in a fixed order: what redaction reads and replaces, and what a reviewer looks at.

Guarantees that whatever a payload says in words or numbers is one of its texts, that putting the texts back gives the
same payload, and that a payload keeps its shape: as many texts in the same order, before and after redaction. Of calls
of tools and their results each leaf of the JSON is a text of its own, which detection reads behind its key (`read_as`);
so is each leaf of a tool's definition, but for the words that JSON Schema itself uses. Names of functions and keys are
texts too, each once in a record and behind all others, so that one in which something is found is replaced in
definition, call and result alike, and no two become one.
Does not look at truth values and nulls, nor at the bounds that a schema sets to numbers. A number that is replaced by
something else becomes a text.

Example:
    >>> call = {"function": {"name": "book", "arguments": {"patient_name": "Ada Wu", "minutes": 30}}}
    >>> payload = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    >>> slots(payload)
    ['Ada Wu', '30', 'book', 'patient_name', 'minutes']
    >>> [each.read_as for each in texts(payload)][0]
    'patient name: Ada Wu'
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from domains.packs import Pack

Payload = dict[str, Any]
#: Words that JSON Schema and descriptions of functions are written with: as keys, and as values of `type` and `format`.
#: Source: JSON Schema 2020-12, core and validation; OpenAI API reference, “Function object”.
SCHEMA_WORDS = frozenset(
    [
        "type", "function", "name", "description", "parameters", "properties", "required", "items", "enum",
        "const", "default", "example", "examples", "title", "format", "pattern", "strict", "return",
        "additionalProperties", "patternProperties", "propertyNames", "prefixItems", "contains", "anyOf",
        "allOf", "oneOf", "not", "if", "then", "else", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
        "minProperties", "maxProperties", "nullable", "deprecated", "readOnly", "writeOnly", "$ref", "$defs",
        "$schema", "$id", "definitions", "object", "array", "string", "integer", "number", "boolean", "null",
        "date", "time", "date-time", "duration", "email", "uri", "uuid",
    ]
)  # fmt: skip
_BOUNDS = frozenset(
    [
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
        "minItems", "maxItems", "minProperties", "maxProperties",
    ]
)  # fmt: skip
_PROSE = frozenset(["description", "title"])
#: On the way to each property of a function; a page does not repeat them.
_PASSED_OVER = frozenset(["parameters", "properties"])
#: A key as it stands before a value in a form: "patientName" and "patient_name" say what "patient name" says.
_JOINT = re.compile(r"[\s_.\-/]+|(?<=[a-z0-9])(?=[A-Z])")
MAX_LABEL_CHARS = 60
_DECODER = json.JSONDecoder()


class Text(NamedTuple):
    """One text of a payload.

    Attributes:
        value: what stands there.
        name: what a person calls it: the field, the role, or the way to the leaf.
        read_as: what detection reads for it, of which it is the end, character for character.
        is_aside: whether it belongs to a tool's definition or is a name of a function or a key.
    """

    value: str
    name: str
    read_as: str
    is_aside: bool = False


def texts(payload: Payload) -> list[Text]:
    """Every text in order."""
    found: list[Text] = []

    def note(text: Text) -> str:
        found.append(text)
        return text.value

    _walked(payload, note)
    return found


def slots(payload: Payload) -> list[str]:
    """What stands in the texts."""
    return [text.value for text in texts(payload)]


def slot_names(payload: Payload) -> list[str]:
    """What a person calls each text: the field, or the role of the message; of a pair's answers which."""
    return [text.name for text in texts(payload)]


def with_slots(payload: Payload, replacements: Iterable[str]) -> Payload:
    """The payload with its texts replaced, in the order of `slots`.

    Raises:
        ValueError: there are more or fewer of them.
    """
    values = iter(replacements)
    try:
        replaced = _walked(payload, lambda _: next(values))
    except StopIteration:
        raise ValueError("fewer replacements than texts") from None
    if next(values, None) is not None:
        raise ValueError("more replacements than texts")
    return replaced


def read_answer(answer: str) -> list[str]:
    """What detection reads of an answer that a model wrote: all of it, and each leaf of the JSON in it behind its key.

    Example:
        >>> read_answer('<tool_call>{"mrn": "0048213"}</tool_call>')[1:]
        ['mrn: 0048213', 'mrn']
    """
    read, position = [answer], 0
    while (position := answer.find("{", position)) >= 0:
        try:
            value, position = _DECODER.raw_decode(answer, position)
            read += [text.read_as for text in texts({"messages": [{"role": "tool", "content": value}]})]
        except (ValueError, RecursionError):
            position += 1
    return read


_Put = Callable[[Text], str]


def _walked(payload: Payload, put: _Put) -> Payload:
    """The payload with what `put` gives for each text in its place."""
    if "fields" in payload:
        return {"fields": {name: put(Text(text, name, text)) for name, text in payload["fields"].items()}}
    if "text" in payload:
        text, labels = payload["text"], payload["labels"]
        return {
            **payload,
            "text": put(Text(text, "text", text)),
            "labels": [put(Text(label, "label", label)) for label in labels],
        }
    return _Conversation(put).walked(payload)


class _Conversation:
    """One pass over messages, what they call, and the tools that they may call."""

    def __init__(self, put: _Put) -> None:
        self._put = put
        self._names: dict[str, None] = {}

    def walked(self, payload: Payload) -> Payload:
        messages = payload["messages"]
        walked = {**payload, "messages": [self._message(each, each["role"]) for each in messages[:-1]]}
        last = "chosen" if "rejected" in payload else messages[-1]["role"]
        walked["messages"].append(self._message(messages[-1], last))
        if "rejected" in payload:
            walked["rejected"] = self._put(Text(payload["rejected"], "rejected", payload["rejected"]))
        if "tools" in payload:
            walked["tools"] = [self._tool(tool) for tool in payload["tools"]]
        return _Renaming(self._new_names()).payload(walked) if self._names else walked

    def _message(self, message: Payload, heading: str) -> Payload:
        walked = dict(message)
        content = message["content"]
        if isinstance(content, str):
            walked["content"] = self._put(Text(content, heading, content))
        elif content is not None:
            walked["content"] = self._leaves(content, _Way(heading), self._leaf)
        if "tool_calls" in message:
            walked["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        if "name" in message:
            self._note(message["name"])
        return walked

    def _call(self, call: Payload) -> Payload:
        function = call["function"]
        self._note(function["name"])
        arguments = self._leaves(function["arguments"], _Way(f"call {function['name']}"), self._leaf)
        return {**call, "function": {**function, "arguments": arguments}}

    def _tool(self, tool: Payload) -> Payload:
        name = tool["function"]["name"]
        self._note(name)
        way = _Way(f"definition of {name}")
        rest = {key: each for key, each in tool["function"].items() if key != "name"}
        around = {key: each for key, each in tool.items() if key != "function"}
        function = {"name": name, **self._leaves(rest, way, self._schema_leaf)}
        return {**self._leaves(around, way, self._schema_leaf), "function": function}

    def _leaves(self, value: Any, way: "_Way", leaf: Callable[[Any, "_Way"], Any]) -> Any:
        """A JSON value with its leaves replaced."""
        if isinstance(value, dict):
            for key in value:
                self._note(key)
            return {key: self._leaves(each, way.to(key), leaf) for key, each in value.items()}
        if isinstance(value, list):
            return [self._leaves(each, way.to(place), leaf) for place, each in enumerate(value, 1)]
        return value if value is None or isinstance(value, bool) else leaf(value, way)

    def _leaf(self, value: str | float, way: "_Way") -> str | float:
        return self._replaced(value, way, way.keys[-2:], is_aside=False)

    def _schema_leaf(self, value: str | float, way: "_Way") -> str | float:
        own = way.keys[-1]
        if value in SCHEMA_WORDS or (own in _BOUNDS and not isinstance(value, str)):
            return value
        if own == "required" and isinstance(value, str):
            self._note(value)
            return value
        # Within a schema the property says what a value is, not “default” or “enum”; prose says it by itself.
        named = [] if own in _PROSE else [key for key in way.keys if key not in SCHEMA_WORDS]
        return self._replaced(value, way, named[-1:], is_aside=True)

    def _replaced(self, value: str | float, way: "_Way", label: Sequence[str], *, is_aside: bool) -> str | float:
        text = value if isinstance(value, str) else json.dumps(value)
        made = self._put(Text(text, way.shown, _label(label) + text, is_aside))
        return made if isinstance(value, str) else _number(made)

    def _note(self, name: str) -> None:
        if name not in SCHEMA_WORDS:
            self._names.setdefault(name)

    def _new_names(self) -> dict[str, str]:
        """What each name becomes: itself where nothing was found in it, and never what another one is or becomes."""
        made: dict[str, str] = {}
        for number, name in enumerate(self._names, 1):
            new = self._put(Text(name, "name", name.replace("_", " "), is_aside=True))
            while new != name and (not new or new in self._names or new in made.values()):
                new = f"{new}_{number}"
            made[name] = new
        return made


class _Way(NamedTuple):
    """How to get to a leaf: what it belongs to, and the keys, with places in lists between them, as a page shows it."""

    shown: str
    keys: tuple[str, ...] = ()

    def to(self, key: str | int) -> "_Way":
        if isinstance(key, int):
            return _Way(f"{self.shown} {key}", self.keys)
        shown = self.shown if key in _PASSED_OVER else f"{self.shown} › {key}"
        return _Way(shown, (*self.keys, key))


class _Renaming:
    """Puts new names of functions and keys wherever the old ones stand."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def payload(self, payload: Payload) -> Payload:
        renamed = {**payload, "messages": [self._message(each) for each in payload["messages"]]}
        if "tools" in payload:
            renamed["tools"] = [
                {
                    **self._keys(tool, is_schema=True),
                    "function": self._named(self._keys(tool["function"], is_schema=True)),
                }
                for tool in payload["tools"]
            ]
        return renamed

    def _message(self, message: Payload) -> Payload:
        renamed = {**self._named(message), "content": self._keys(message["content"])}
        if "tool_calls" in message:
            renamed["tool_calls"] = [
                {**call, "function": self._named(call["function"], self._keys(call["function"]["arguments"]))}
                for call in message["tool_calls"]
            ]
        return renamed

    def _named(self, holder: Payload, arguments: Any = None) -> Payload:
        named = {**holder, "name": self._name(holder["name"])} if "name" in holder else dict(holder)
        return named if arguments is None else {**named, "arguments": arguments}

    def _keys(self, value: Any, own: str = "", *, is_schema: bool = False) -> Any:
        """The value with other keys; `own` is the key it stands under, whose texts are names where it is “required”."""
        if isinstance(value, dict):
            return {self._name(key): self._keys(each, key, is_schema=is_schema) for key, each in value.items()}
        if isinstance(value, list):
            return [self._keys(each, own, is_schema=is_schema) for each in value]
        return self._name(value) if is_schema and own == "required" and isinstance(value, str) else value

    def _name(self, name: str) -> str:
        return self._names.get(name, name)


def _label(keys: Sequence[str]) -> str:
    """Keys as a label before their value; nothing for what is no label."""
    words = " ".join(" ".join(_JOINT.sub(" ", key) for key in keys).split())
    return f"{words}: " if words and len(words) <= MAX_LABEL_CHARS else ""


def _number(text: str) -> str | float:
    """The number that a text writes as JSON does, or else the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_same = type(value) in (int, float) and json.dumps(value, allow_nan=True) == text
    return value if is_same and value - value == 0 else text


class ClosedLabels:
    """The labels that a workflow answers with from a closed list.

    A field that holds one of them says nothing about a person and is left alone by redaction: a changed label could
    not be learnt. Any other value of that field is redacted like every text.
    """

    def __init__(self, pack: Pack, workflow: str) -> None:
        """Args: workflow: of the pack; empty for chat data, where nothing is closed."""
        fields = pack.workflow(workflow).mapping.fields if workflow else ()
        self._labels = {field: frozenset(pack.closed_labels(workflow, field)) for field in fields}

    def of(self, payload: Payload) -> list[bool]:
        """For each text of `slots`, whether it is a label of its field."""
        fields = payload.get("fields", {})
        names = slot_names(payload)
        return [name in fields and fields[name] in self._labels.get(name, ()) for name in names]
