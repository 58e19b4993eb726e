"""What a row means: the shapes users bring, detected, and turned into one payload form.

A payload is `{"fields": {name: text}}` for a workflow's mapping, or, for chat data,
`{"messages": [{"role", "content", "weight"?}]}`; of a preference record the last message is the chosen answer and
`rejected` beside `messages` is the worse one. Of a labelled record the last message is the label; of a judged one
`is_good` says whether the last message is a good answer. A text with labelled stretches is `{"text", "labels",
"spans"}` (see `labelled_spans`).

Conversations whose tools are named hold them as `tools` beside `messages` (see `messages`).

Guarantees that a payload ends with a message of the assistant where it has messages, which says or calls something, and
that each row that does not fit is reported with line, column and what to do. Never repeats a value. `texts` has what a
payload says in words.

Example:
    >>> detect({"prompt": "2+2?", "completion": "4"})
    'prompt_completion'
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domains.workflows import Workflow
from steward.audit.actor import Refused
from steward.datasets.formats import Problems
from steward.datasets.labelled_spans import SpanReader
from steward.datasets.messages import check_calls, read_messages, read_tools

Row = Mapping[str, Any]
Payload = dict[str, Any]
MAX_COLUMNS_SHOWN = 30
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ .-][A-Za-z0-9_]+){0,3}")
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
SUBJECT_COLUMNS = (
    "subject",
    "subject_id",
    "patient_id",
    "patient",
    "client_id",
    "customer_id",
    "person_id",
    "matter_id",
)
GROUP_COLUMNS = ("split", "group")
# In this order: the first shape whose columns are all there is the one. Preference records come with a prompt of their
# own (TRL's explicit form), as two whole conversations (its implicit form), or as in OpenAI's preference files. Judged
# answers are TRL's unpaired preferences, or a prompt, an answer and a judgement by name.
# Source: TRL documentation, "Dataset formats and types", preference and unpaired preference; OpenAI API reference,
# "Preference input"; LLaMA-Factory, data/README, for “system” and “history” beside alpaca and sharegpt.
_SHAPES: dict[str, tuple[str, ...]] = {
    "preference": ("prompt", "chosen", "rejected"),
    "preference_conversations": ("chosen", "rejected"),
    "preference_openai": ("input", "preferred_output", "non_preferred_output"),
    "judged": ("prompt", "completion", "label"),
    "judged_answer": ("prompt", "answer", "judgement"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text_spans": ("text", "spans"),
    "text_label": ("text", "label"),
    "text": ("text",),
}
PREFERENCE_SHAPES = ("preference", "preference_conversations", "preference_openai")
JUDGED_SHAPES = ("judged", "judged_answer")
LABELLED_SHAPES = ("text_label",)
SPAN_SHAPES = ("text_spans",)
# Conversations in the form that tools belong to, and those in forms of their own.
_WITH_TOOLS = (*PREFERENCE_SHAPES, *JUDGED_SHAPES, "messages", "prompt_completion")
_WITHOUT_TOOLS = ("sharegpt", "alpaca")
_NO_TOOLS = (
    "Beside this form, tools and calls of them are not read. Write the records as “messages”, with “tools”, "
    "“tool_calls” and messages of role tool."
)
# What people write for a good and for a bad answer, in JSON and in CSV.
_VERDICTS = dict.fromkeys(("true", "yes", "good", "1"), True) | dict.fromkeys(("false", "no", "bad", "0"), False)


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which columns are read. `fields` maps a workflow's fields to columns; of a chat shape, its columns that have
    another name in the file.

    `subject` names the person a row is about; `group` what the split keeps together (default: the subject).
    """

    shape: str
    fields: dict[str, str]
    subject: str | None
    group: str | None

    def as_json(self) -> dict[str, Any]:
        return {"shape": self.shape, "fields": self.fields, "subject": self.subject, "group": self.group}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ColumnMapping":
        return cls(data["shape"], dict(data["fields"]), data["subject"], data["group"])


def detect(row: Row) -> str | None:
    """The first chat shape whose columns the row has, or None."""
    return next((shape for shape, needed in _SHAPES.items() if all(column in row for column in needed)), None)


def propose(row: Row, workflow: Workflow | None, overrides: Mapping[str, str] | None = None) -> ColumnMapping:
    """The mapping for a file whose first row is `row`.

    Args:
        workflow: its fields are looked for by name (case and spaces aside); without one, a chat shape is detected.
        overrides: column by field name, also for `subject` and `group`; wins over what was found.

    Raises:
        Refused: a field has no column; the message lists the columns there are.
    """
    chosen = dict(overrides or {})
    columns = {_plain(name): name for name in row}
    unknown = sorted(column for column in chosen.values() if column not in row)
    if unknown:
        raise Refused(f"No column {', '.join(unknown)} in the file. It has: {_shown(row)}.", code="column_unknown")
    subject = chosen.pop("subject", None) or next((columns[c] for c in SUBJECT_COLUMNS if c in columns), None)
    group = chosen.pop("group", None) or next((columns[c] for c in GROUP_COLUMNS if c in columns), None)
    if workflow is None:
        shape = detect(_renamed(row, chosen))
        if shape is None:
            raise Refused(
                f"The columns {_shown(row)} are no known shape. Known: "
                + "; ".join(f"{name} ({', '.join(needed)})" for name, needed in _SHAPES.items())
                + ". Map them, e.g. --map text=COLUMN, or choose a workflow and map its fields.",
                code="shape_unknown",
            )
        return ColumnMapping(shape, {name: chosen[name] for name in _SHAPES[shape] if name in chosen}, subject, group)
    fields = {field: chosen.get(field) or columns.get(_plain(field)) for field in workflow.mapping.fields}
    missing = sorted(field for field, column in fields.items() if column is None)
    if missing:
        raise Refused(
            f"The workflow “{workflow.title}” needs the fields {', '.join(missing)}, and no column has that name. "
            f"Map them, e.g. --map {missing[0]}=COLUMN. The file has: {_shown(row)}.",
            code="field_unmapped",
        )
    return ColumnMapping("workflow", {k: v for k, v in fields.items() if v is not None}, subject, group)


def _shown(row: Row) -> str:
    """Column names for a message. What does not look like a name (a file without a header row) is not repeated."""
    names = [name if _COLUMN_NAME.fullmatch(name) else f"(column {place})" for place, name in enumerate(row, 1)]
    return ", ".join(names[:MAX_COLUMNS_SHOWN]) + (", …" if len(names) > MAX_COLUMNS_SHOWN else "")


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _renamed(row: Row, fields: Mapping[str, str]) -> Row:
    """The row with some of its columns under the names that a shape gives them."""
    return {**row, **{name: row[column] for name, column in fields.items() if column in row}} if fields else row


def converter(mapping: ColumnMapping, problems: Problems) -> Callable[[int, Row], Payload | None]:
    """A function (line, row) → payload, which reports what is wrong with a row and returns None for it."""
    read = _reader(mapping, problems)
    if mapping.shape not in (*_WITH_TOOLS, *_WITHOUT_TOOLS):
        return read

    def convert(line: int, row: Row) -> Payload | None:
        before = problems.count
        tools = read_tools(line, _beside(row), problems)
        if tools and mapping.shape in _WITHOUT_TOOLS:
            problems.add(line, "tools", "tools_not_read", _NO_TOOLS)
        payload = read(line, row)
        if payload is None or not tools:
            return payload if problems.count == before else None
        check_calls(line, payload["messages"], tools, problems)
        return {**payload, "tools": tools} if problems.count == before else None

    return convert


def _beside(row: Row) -> Row:
    """Where the tools of a conversation stand: beside it, or in OpenAI's preference files beside its prompt."""
    given = row.get("input")
    return given if isinstance(given, dict) and "messages" in given else row


def _reader(mapping: ColumnMapping, problems: Problems) -> Callable[[int, Row], Payload | None]:
    if mapping.shape == "workflow":
        return _FieldReader(mapping.fields, problems)
    if mapping.shape in PREFERENCE_SHAPES:
        return _PairReader(mapping, problems)
    if mapping.shape in JUDGED_SHAPES:
        return _JudgedReader(mapping, problems)
    if mapping.shape in SPAN_SHAPES:
        read_spans = SpanReader(problems)
        return lambda line, row: read_spans(line, _renamed(row, mapping.fields))
    read = {
        "messages": _read_conversation,
        "sharegpt": _read_sharegpt,
        "prompt_completion": _read_prompt_completion,
        "alpaca": _read_alpaca,
        "text_label": _read_text_label,
        "text": _read_text,
    }[mapping.shape]

    def convert(line: int, row: Row) -> Payload | None:
        before = problems.count
        messages = read(line, _renamed(row, mapping.fields), problems)
        if problems.count > before:
            return None
        return {"messages": messages}

    return convert


class _FieldReader:
    """Picks a workflow's fields out of rows."""

    def __init__(self, fields: dict[str, str], problems: Problems) -> None:
        self._fields = list(fields.items())
        self._problems = problems

    def __call__(self, line: int, row: Row) -> Payload | None:
        picked = {}
        for field, column in self._fields:
            value = row.get(column)
            if type(value) is str and not value.isspace() and value:
                picked[field] = value
            elif isinstance(value, int | float) and not isinstance(value, bool):
                picked[field] = str(value)
            elif column not in row:
                self._problems.add(line, column, "missing_column", f"The column is missing (field “{field}”).")
            else:
                found = "empty" if value in (None, "") or isinstance(value, str) else f"a {type(value).__name__}"
                self._problems.add(line, column, "not_a_text", f"Field “{field}” must be a text; it is {found}.")
        return {"fields": picked} if len(picked) == len(self._fields) else None


class _PairReader:
    """Two answers to one prompt, in any of the three preference shapes."""

    def __init__(self, mapping: ColumnMapping, problems: Problems) -> None:
        self._mapping, self._problems = mapping, problems
        self._read = {
            "preference": self._with_prompt,
            "preference_conversations": self._conversations,
            "preference_openai": self._openai,
        }[mapping.shape]

    def __call__(self, line: int, row: Row) -> Payload | None:
        before = self._problems.count
        prompt, chosen, rejected = self._read(line, _renamed(row, self._mapping.fields))
        if self._problems.count > before:
            return None
        messages = read_messages(line, [*prompt, _assistant(chosen)], self._problems)
        if chosen.strip() == rejected.strip():
            message = "Chosen and rejected answer are the same; a pair teaches nothing then. Remove the line."
            self._problems.add(line, "rejected", "same_answers", message)
        return {"messages": messages, "rejected": rejected} if self._problems.count == before else None

    def _with_prompt(self, line: int, row: Row) -> tuple[list[Any], str, str]:
        prompt = _prompt(line, row, self._problems)
        return prompt, self._answer(line, row, "chosen"), self._answer(line, row, "rejected")

    def _conversations(self, line: int, row: Row) -> tuple[list[Any], str, str]:
        """The prompt is what both conversations begin with; each then ends in one answer."""
        sides = [row.get("chosen"), row.get("rejected")]
        for name, side in zip(("chosen", "rejected"), sides, strict=True):
            if not isinstance(side, list) or len(side) < 2:
                message = "Without a column “prompt” this must be a list of at least two messages."
                self._problems.add(line, name, "missing_prompt", message)
                return [], "", ""
        one, other = sides
        assert isinstance(one, list)
        assert isinstance(other, list)
        if one[:-1] != other[:-1]:
            message = "Both conversations must be the same up to their last message, which is the answer."
            self._problems.add(line, "rejected", "prompts_differ", message)
        answers = {"chosen": [one[-1]], "rejected": [other[-1]]}
        return one[:-1], self._answer(line, answers, "chosen"), self._answer(line, answers, "rejected")

    def _openai(self, line: int, row: Row) -> tuple[list[Any], str, str]:
        given = row.get("input")
        prompt = given.get("messages") if isinstance(given, dict) else None
        if not isinstance(given, dict) or not isinstance(prompt, list) or not prompt:
            self._problems.add(line, "input", "missing_messages_list", "“input” must hold a list “messages”.")
            return [], "", ""
        preferred, other = "preferred_output", "non_preferred_output"
        return prompt, self._answer(line, row, preferred), self._answer(line, row, other)

    def _answer(self, line: int, row: Row, column: str) -> str:
        return _answer(line, row, column, self._problems)


class _JudgedReader:
    """One answer to a prompt and whether it is a good one."""

    def __init__(self, mapping: ColumnMapping, problems: Problems) -> None:
        self._mapping, self._problems = mapping, problems
        _, self._answer, self._verdict = _SHAPES[mapping.shape]

    def __call__(self, line: int, row: Row) -> Payload | None:
        before = self._problems.count
        row = _renamed(row, self._mapping.fields)
        prompt = _prompt(line, row, self._problems)
        answer = _answer(line, row, self._answer, self._problems)
        is_good = _VERDICTS.get(str(row.get(self._verdict)).strip().lower())
        if is_good is None:
            message = (
                "The judgement must be true or false (also yes and no, good and bad, 1 and 0). A column that says "
            )
            message += "something else must have another name."
            self._problems.add(line, self._verdict, "not_a_judgement", message)
        if self._problems.count > before:
            return None
        messages = read_messages(line, [*prompt, _assistant(answer)], self._problems)
        return {"messages": messages, "is_good": is_good} if self._problems.count == before else None


def _prompt(line: int, row: Row, problems: Problems) -> list[Any]:
    """The messages in the column “prompt”: a text of the user, or a list of messages."""
    prompt = row.get("prompt")
    return prompt if isinstance(prompt, list) else [{"role": "user", "content": _text(line, row, "prompt", problems)}]


def _answer(line: int, row: Row, column: str, problems: Problems) -> str:
    """The one answer in a column: a text, or a list of one message of the assistant."""
    value = row.get(column)
    if not isinstance(value, list):
        return _text(line, row, column, problems)
    only = value[0] if len(value) == 1 and isinstance(value[0], dict) else {}
    is_text = isinstance(only.get("content"), str) and only["content"].strip()
    if only.get("role") != "assistant" or not is_text or only.get("tool_calls") or only.get("function_call"):
        message = (
            "This must be a text, or a list of one message of the assistant with a non-empty “content” and no call."
        )
        problems.add(line, column, "not_an_answer", message)
        return ""
    return str(only["content"])


def _assistant(answer: str) -> Payload:
    return {"role": "assistant", "content": answer}


def _text(line: int, row: Row, column: str, problems: Problems, *, is_required: bool = True) -> str:
    value = row.get(column)
    if isinstance(value, str) and (value.strip() or not is_required):
        return value
    if value is None and not is_required:
        return ""
    if is_required or not isinstance(value, str):
        problems.add(line, column, "not_a_text", "The value must be a non-empty text.")
    return ""


def _system(line: int, row: Row, problems: Problems) -> list[Payload]:
    """The message in a column “system” beside the turns, where there is one."""
    text = _text(line, row, "system", problems, is_required=False)
    return [{"role": "system", "content": text}] if text.strip() else []


def _read_conversation(line: int, row: Row, problems: Problems) -> list[Payload]:
    return read_messages(line, row.get("messages"), problems)


def _read_sharegpt(line: int, row: Row, problems: Problems) -> list[Payload]:
    turns = row.get("conversations")
    if not isinstance(turns, list):
        problems.add(line, "conversations", "missing_messages_list", "“conversations” must be a list.")
        return []
    messages = [_sharegpt_turn(turn) if isinstance(turn, dict) else turn for turn in turns]
    return read_messages(line, [*_system(line, row, problems), *messages], problems)


def _sharegpt_turn(turn: Payload) -> Payload:
    message = {"role": SHAREGPT_ROLES.get(str(turn.get("from")), "?"), "content": turn.get("value")}
    return message | ({"weight": turn["weight"]} if "weight" in turn else {})


def _pair(prompt: str, answer: str) -> list[Payload]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _read_prompt_completion(line: int, row: Row, problems: Problems) -> list[Payload]:
    if isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        return read_messages(line, [*row["prompt"], *row["completion"]], problems)
    return _pair(_text(line, row, "prompt", problems), _text(line, row, "completion", problems))


def _read_alpaca(line: int, row: Row, problems: Problems) -> list[Payload]:
    instruction = _text(line, row, "instruction", problems)
    context = _text(line, row, "input", problems, is_required=False)
    prompt = f"{instruction}\n\n{context}" if context else instruction
    before = [*_system(line, row, problems), *_history(line, row, problems)]
    return [*before, *_pair(prompt, _text(line, row, "output", problems))]


def _history(line: int, row: Row, problems: Problems) -> list[Payload]:
    """Earlier questions and answers of an alpaca record, which are not learnt."""
    given = row.get("history") or []
    messages: list[Payload] = []
    for pair in given if isinstance(given, list) else [given]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(each, str) and each for each in pair):
            message = "“history” must be a list of pairs, each of a question and its answer."
            problems.add(line, "history", "not_a_history", message)
            return []
        messages += _pair(*pair)
    return messages


def _read_text_label(line: int, row: Row, problems: Problems) -> list[Payload]:
    label = row.get("label")
    if type(label) is int:  # classes are often numbered
        row = {**row, "label": str(label)}
    return _pair(_text(line, row, "text", problems), _text(line, row, "label", problems))


def _read_text(line: int, row: Row, problems: Problems) -> list[Payload]:
    return [{"role": "assistant", "content": _text(line, row, "text", problems)}]
