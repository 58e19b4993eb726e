"""Records out of vault objects, one at a time.

Guarantees: plaintext exists in memory only; a record that comes out has an id and well-formed messages; problems name
the shard and the line, up to ``MAX_PROBLEMS`` at once, never the text.
Does not: hold the shard in memory; a caller that keeps the records does.

Example:
    >>> for record in read_records(spec.data.train, keys.data_key, "train"):
    ...     record.messages[-1].role
    'assistant'
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from compliance.vault import ObjectContext, VaultError, open_reader
from trainers.errors import TrainerError
from trainers.spans import Span, from_words, written
from trainers.spec import JUDGED, PAIRED, TAGGED, ContextSpec, ObjectSpec

MAX_LINE_BYTES = 16 << 20
MAX_PROBLEMS = 20
ROLES = ("system", "user", "assistant", "tool")
_EXTRA = {"assistant": ("tool_calls",), "tool": ("name", "tool_call_id")}


@dataclass(frozen=True)
class Message:
    """One turn. ``weight`` 1 is learnt, 0 is not; None leaves it to the place of the turn.

    ``extra`` holds what tools need, as the template takes it: ``tool_calls`` of an assistant, ``name`` and
    ``tool_call_id`` of a tool's answer.
    """

    role: str
    content: str
    weight: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One training example. The last message is the assistant's: the completion, or at evaluation the reference.

    ``rejected`` is the worse answer of a pair, of which the last message is the chosen one. ``tools`` are descriptions
    of what the assistant may call, handed to the template as they are. Of a text with spans the text is the first
    message and ``spans`` written out the last. ``is_good`` is the verdict on a judged answer.
    """

    id: str
    messages: tuple[Message, ...]
    rejected: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    spans: tuple[Span, ...] = ()
    is_good: bool | None = None

    @property
    def is_reference(self) -> bool:
        """Whether other answers may be held against the last message: any but one that was judged bad."""
        return self.is_good is not False


def context_of(spec: ContextSpec, kind: str | None = None) -> ObjectContext:
    """The vault's context; ``kind`` replaces that of the spec (checkpoint and predictions beside the adapter)."""
    facts = asdict(spec)
    return ObjectContext(**(facts if kind is None else facts | {"kind": kind}))


def read_records(shard: ObjectSpec, key: bytes, name: str, method: str = "sft") -> Iterator[Record]:
    """The records of a shard in their order.

    Args:
        shard: where and what.
        key: 32 bytes.
        name: of the split, for messages.
        method: whose records they are; of pairs each line also holds ``rejected``, of judged answers ``label`` (true
            or false), of token classification it holds ``text`` and ``spans`` or else ``tokens`` and ``labels``.

    Raises:
        TrainerError: ``data.unreadable`` (file, key, context or bytes), ``data.invalid`` (lines), ``data.empty``.
    """
    problems: list[str] = []
    count = 0
    for number, line in _lines(shard, key, name):
        count += 1
        record = _record(line, problems, f"{name} line {number}", method)
        if len(problems) >= MAX_PROBLEMS:
            break
        if record is not None and not problems:
            yield record
    if problems:
        shown = "; ".join(problems)
        keys = "id, messages and rejected" if method in PAIRED else "id and messages"
        if method in JUDGED:
            keys = "id, messages and label"
        if method in TAGGED:
            keys = "id, text and spans, or id, tokens and labels"
        raise TrainerError("data.invalid", shown, f"export the shard again; each line is one object with {keys}")
    if not count:
        raise TrainerError("data.empty", f"{name} holds no record", "choose a dataset version with approved records")


def _lines(shard: ObjectSpec, key: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    try:
        with (
            Path(shard.path).open("rb") as source,
            open_reader(source, key, context_of(shard.context), bytes.fromhex(shard.commitment)) as reader,
        ):
            buffered = io.BufferedReader(reader, 1 << 20)
            number = 0
            while line := buffered.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise TrainerError(
                        "data.invalid", f"{name} line {number}: longer than {MAX_LINE_BYTES} bytes", "split the record"
                    )
                if line.strip():
                    yield number, line
    except VaultError as fault:
        raise TrainerError(
            "data.unreadable",
            f"{name}: the shard does not open ({type(fault).__name__})",
            "check that key, context and commitment in the spec belong to this file, and that the file is whole",
        ) from None
    except OSError as fault:
        raise TrainerError(
            "data.unreadable", f"{name}: {shard.path}: {fault.strerror}", "check data paths in the spec"
        ) from None


def _record(line: bytes, problems: list[str], where: str, method: str) -> Record | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):  # of numbers with thousands of digits, too
        problems.append(f"{where}: not JSON")
        return None
    if b"\\u" in line and not _is_text(document):
        problems.append(f"{where}: half of a surrogate pair, which is no character")
        return None
    if method in TAGGED:
        return _tagged(document, problems, where)
    is_good = None
    if method in JUDGED:
        is_good = document.pop("label", None) if isinstance(document, dict) else None
        if not isinstance(is_good, bool):
            problems.append(f"{where}: label must be true for a good answer and false for a bad one")
            return None
    are_pairs = method in PAIRED
    names = {"id", "messages"} | ({"rejected"} if are_pairs else set())
    tools = document.pop("tools", []) if isinstance(document, dict) else []
    if not isinstance(document, dict) or set(document) != names or not isinstance(document["id"], str):
        problems.append(f"{where}: must be an object of id (text){', rejected' if are_pairs else ''} and messages")
        return None
    rejected = document.get("rejected")
    if are_pairs and not isinstance(rejected, str):
        problems.append(f"{where}: rejected must be text, the worse answer to the same prompt")
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        problems.append(f"{where}: tools must be a list of objects")
        return None
    turns = document["messages"]
    if not isinstance(turns, list) or not turns:
        problems.append(f"{where}: messages must be a list that is not empty")
        return None
    messages = [_message(turn, problems, f"{where}: messages[{index}]") for index, turn in enumerate(turns)]
    kept = tuple(message for message in messages if message is not None)
    if len(kept) != len(turns):
        return None
    if kept[-1].role != "assistant":
        problems.append(f"{where}: the last message must be the assistant's")
        return None
    if "tool_calls" in kept[-1].extra and (are_pairs or is_good is not None):
        problems.append(f"{where}: answers that are compared or judged are texts, not tool_calls")
        return None
    return Record(document["id"], kept, rejected, tuple(tools), is_good=is_good)


def _is_text(document: Any) -> bool:
    """Whether all that is said in it can be written as UTF-8, which escapes in JSON do not promise."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _message(turn: Any, problems: list[str], where: str) -> Message | None:
    may = {"role", "content", "weight", *_EXTRA.get(str(turn.get("role")) if isinstance(turn, dict) else "", ())}
    if not isinstance(turn, dict) or not {"role", "content"} <= set(turn) <= may:
        problems.append(f"{where}: must have role and content, may have {', '.join(sorted(may)[2:])}, and nothing else")
        return None
    role, content, weight = turn["role"], turn["content"], turn.get("weight")
    extra = {name: turn[name] for name in ("tool_calls", "name", "tool_call_id") if name in turn}
    calls = extra.get("tool_calls", [])
    if content is None and calls:  # so does a turn look that only calls
        content = ""
    if not all(isinstance(extra.get(name, ""), str) for name in ("name", "tool_call_id")):
        problems.append(f"{where}: name and tool_call_id must be text")
    elif not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        problems.append(f"{where}.tool_calls: must be a list of objects")
    elif role not in ROLES:
        problems.append(f"{where}.role: must be one of {', '.join(ROLES)}")
    elif not isinstance(content, str):
        problems.append(f"{where}.content: must be text")
    elif weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        problems.append(f"{where}.weight: must be 0 or 1")
    elif (called := _called(calls)) is None:
        problems.append(f"{where}.tool_calls: arguments must be an object, or the text of one")
    else:
        return Message(role, content, None if weight is None else int(weight), extra | called)
    return None


def _called(calls: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Calls as templates take them: with arguments as objects. Written out as text, most would be quoted once more.

    Source: transformers documentation, "Tool use": arguments of a call are an object; OpenAI API reference: a text.
    """
    made = []
    for call in calls:
        function = call.get("function")
        inner = function if isinstance(function, dict) else call
        arguments = inner.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, dict):
            return None
        inner = inner | {"arguments": arguments} if "arguments" in inner else inner
        made.append(call | {"function": inner} if isinstance(function, dict) else inner)
    return {"tool_calls": made} if made else {}


def _tagged(document: Any, problems: list[str], where: str) -> Record | None:
    """A text with spans, in either of its two forms."""
    names = set(document) if isinstance(document, dict) else set()
    if names not in ({"id", "text", "spans"}, {"id", "tokens", "labels"}) or not isinstance(document["id"], str):
        problems.append(f"{where}: must be an object of id, text and spans, or of id, tokens and labels")
        return None
    if "tokens" in names:
        words, labels = document["tokens"], document["labels"]
        are_texts = all(
            isinstance(part, list) and all(isinstance(each, str) for each in part) for part in (words, labels)
        )
        if not are_texts or len(words) != len(labels) or not words or not all(each.strip() for each in words):
            problems.append(f"{where}: tokens and labels must be lists of texts, as many of one as of the other")
            return None
        text, spans = from_words(words, labels)
    else:
        found = _spans(document["text"], document["spans"], problems, where)
        if found is None:
            return None
        text, spans = document["text"], found
    messages = (Message("user", text), Message("assistant", written(spans)))
    return Record(document["id"], messages, spans=tuple(sorted(spans)))


def _spans(text: Any, listed: Any, problems: list[str], where: str) -> list[Span] | None:
    if not isinstance(text, str) or not isinstance(listed, list):
        problems.append(f"{where}: text must be text and spans a list")
        return None
    spans: list[Span] = []
    for index, each in enumerate(listed):
        if not isinstance(each, dict) or set(each) != {"start", "end", "label"} or not isinstance(each["label"], str):
            problems.append(f"{where}: spans[{index}] must have start, end and label, and nothing else")
            return None
        start, end = each["start"], each["end"]
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
            problems.append(f"{where}: spans[{index}] must begin and end within the text, in code points")
            return None
        spans.append(Span(start, end, each["label"]))
    spans.sort()
    if any(one.end > other.start for one, other in pairwise(spans)):
        problems.append(f"{where}: spans must not overlap")
        return None
    return spans
