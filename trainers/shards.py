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
from pathlib import Path
from typing import Any

from compliance.vault import ObjectContext, VaultError, open_reader
from trainers.errors import TrainerError
from trainers.spec import ContextSpec, ObjectSpec

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
    of what the assistant may call, handed to the template as they are.
    """

    id: str
    messages: tuple[Message, ...]
    rejected: str | None = None
    tools: tuple[dict[str, Any], ...] = ()


def context_of(spec: ContextSpec, kind: str | None = None) -> ObjectContext:
    """The vault's context; ``kind`` replaces that of the spec (checkpoint and predictions beside the adapter)."""
    facts = asdict(spec)
    return ObjectContext(**(facts if kind is None else facts | {"kind": kind}))


def read_records(shard: ObjectSpec, key: bytes, name: str, *, are_pairs: bool = False) -> Iterator[Record]:
    """The records of a shard in their order.

    Args:
        shard: where and what.
        key: 32 bytes.
        name: of the split, for messages.
        are_pairs: whether each line also holds ``rejected``.

    Raises:
        TrainerError: ``data.unreadable`` (file, key, context or bytes), ``data.invalid`` (lines), ``data.empty``.
    """
    problems: list[str] = []
    count = 0
    for number, line in _lines(shard, key, name):
        count += 1
        record = _record(line, problems, f"{name} line {number}", are_pairs)
        if len(problems) >= MAX_PROBLEMS:
            break
        if record is not None and not problems:
            yield record
    if problems:
        shown = "; ".join(problems)
        keys = "id, messages and rejected" if are_pairs else "id and messages"
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


def _record(line: bytes, problems: list[str], where: str, are_pairs: bool) -> Record | None:
    try:
        document = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        problems.append(f"{where}: not JSON")
        return None
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
    return Record(document["id"], kept, rejected, tuple(tools))


def _message(turn: Any, problems: list[str], where: str) -> Message | None:
    may = {"role", "content", "weight", *_EXTRA.get(str(turn.get("role")) if isinstance(turn, dict) else "", ())}
    if not isinstance(turn, dict) or not {"role", "content"} <= set(turn) <= may:
        problems.append(f"{where}: must have role and content, may have {', '.join(sorted(may)[2:])}, and nothing else")
        return None
    role, content, weight = turn["role"], turn["content"], turn.get("weight")
    extra = {name: turn[name] for name in ("tool_calls", "name", "tool_call_id") if name in turn}
    calls = extra.get("tool_calls", [])
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
    else:
        return Message(role, content, None if weight is None else int(weight), extra)
    return None
