"""What a server is told: requests on its socket, adapters on its stdin. One JSON object a line.

Guarantees: unknown keys, wrong kinds and values out of range are refused, all problems at once; no text of a request is
quoted. Does not: judge whether a conversation makes sense to the model.

Example:
    >>> read_request(b'{"access":"…","messages":[{"role":"user","content":"Hello"}]}').max_tokens
    256
"""

# ruff: noqa: RUF009 - declared() and part() return dataclasses.field, nothing is shared between instances.
from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.adapter_shelf import Sealed
from trainers.fields import (
    AnyObject,
    Choice,
    Kind,
    Maybe,
    Number,
    Part,
    Several,
    SpecError,
    Text,
    Whole,
    declared,
    part,
    read,
)
from trainers.shards import Message, context_of
from trainers.spec import ContextSpec

MAX_REQUEST_BYTES = 8 << 20
MAX_TOKENS = 1 << 20
MAX_STOPS = 16
MAX_TOOLS = 128
MIN_ACCESS_CHARS = 32
_ACCESS = Text(rf".{{{MIN_ACCESS_CHARS},256}}", f"text of {MIN_ACCESS_CHARS} to 256 characters")
_NAME = Text(r"[A-Za-z0-9._-]{1,128}", "1 to 128 letters, digits, dots, dashes or underscores")
_CONTENT = Text(r".*", "text")


def _unshown(kind: Kind, default: Any = dataclasses.MISSING) -> Any:
    """As ``declared``, of a value that no ``repr`` shows."""
    return field(default=default, repr=False, metadata={"kind": kind})


@dataclass(frozen=True)
class _Function:
    name: str = _unshown(_CONTENT)
    arguments: dict[str, Any] = _unshown(AnyObject())


@dataclass(frozen=True)
class _Call:
    id: str = _unshown(_CONTENT)
    type: str = declared(Choice(("function",)))
    function: _Function = _unshown(Part(_Function))


@dataclass(frozen=True)
class Turn:
    """One message of a conversation, which may call tools or be the result of a call."""

    role: str = declared(Choice(("system", "user", "assistant", "tool")))
    content: str = _unshown(_CONTENT)
    tool_calls: tuple[_Call, ...] | None = _unshown(Maybe(Several(Part(_Call), MAX_TOOLS)), None)
    name: str | None = _unshown(Maybe(_CONTENT), None)
    tool_call_id: str | None = _unshown(Maybe(_CONTENT), None)

    @property
    def message(self) -> Message:
        """As templates take it."""
        beside = {"name": self.name, "tool_call_id": self.tool_call_id}
        extra: dict[str, Any] = {key: each for key, each in beside.items() if each is not None}
        if self.tool_calls is not None:
            extra["tool_calls"] = [dataclasses.asdict(each) for each in self.tool_calls]
        return Message(self.role, self.content, extra=extra)


@dataclass(frozen=True)
class Request:
    """What a client asks. ``adapter`` null is the base; ``seed`` null draws one; temperature 0 is greedy.

    ``tools`` are handed to the template as they are.
    """

    access: str = _unshown(_ACCESS)
    messages: tuple[Turn, ...] = _unshown(Several(Part(Turn), 10_000))
    adapter: str | None = declared(Maybe(_NAME), None)
    max_tokens: int = declared(Whole(1, MAX_TOKENS), 256)
    temperature: float = declared(Number(minimum=0.0, maximum=5.0), 0.0)
    top_p: float = declared(Number(above=0.0, maximum=1.0), 1.0)
    seed: int | None = declared(Maybe(Whole(0, 2**63 - 1)), None)
    stop: tuple[str, ...] | None = _unshown(Maybe(Several(Text(r".{1,512}", "1 to 512 characters"), MAX_STOPS)), None)
    stop_tokens: tuple[int, ...] | None = declared(Maybe(Several(Whole(0, 2**31), MAX_STOPS)), None)
    tools: tuple[dict[str, Any], ...] | None = _unshown(Maybe(Several(AnyObject(), MAX_TOOLS)), None)

    @property
    def turns(self) -> list[Message]:
        """The conversation as templates take it."""
        return [turn.message for turn in self.messages]


@dataclass(frozen=True)
class _Adapter:
    name: str = declared(_NAME)
    path: str = declared(Text(r"[^\0]{1,4096}", "a path"))
    context: ContextSpec = part(ContextSpec)
    key: str = _unshown(Text(r"[0-9a-fA-F]{64}", "64 hexadecimal digits"))


@dataclass(frozen=True)
class Order:
    """A line on stdin: ``add`` an adapter under a name, or ``drop`` the one of a name."""

    add: _Adapter | None = declared(Maybe(Part(_Adapter)), None)
    drop: str | None = declared(Maybe(_NAME), None)

    @property
    def name(self) -> str:
        """Of the adapter that is meant."""
        return self.add.name if self.add is not None else self.drop or ""

    @property
    def sealed(self) -> Sealed:
        """Where the adapter to be added lies."""
        assert self.add is not None
        return Sealed(Path(self.add.path), bytes.fromhex(self.add.key), context_of(self.add.context))


@dataclass(frozen=True)
class _Access:
    access: str = _unshown(_ACCESS)


def read_request(line: bytes) -> Request:
    """A request with its defaults filled in.

    Raises:
        SpecError: with every problem; no text of the request is quoted.
    """
    try:
        return read(Request, _parsed(line))
    except SpecError as fault:
        # A key that nobody knows might be text of a person.
        unknown = [each for each in fault.problems if each.endswith(": unknown key")]
        rest = [each for each in fault.problems if each not in unknown]
        raise SpecError([*rest, "request: unknown key"] if unknown else rest) from None


def read_order(line: str) -> Order:
    """A line from stdin.

    Raises:
        SpecError: it is neither or both.
    """
    order = read(Order, _parsed(line))
    if (order.add is None) == (order.drop is None):
        raise SpecError(["order: must be add or drop"])
    return order


def read_access(line: str) -> str:
    """The access token on the first line of stdin.

    Raises:
        SpecError: it is not there or too short to be one.
    """
    return read(_Access, _parsed(line)).access


def _parsed(line: bytes | str) -> Any:
    try:
        document = json.loads(line)
        json.dumps(document, ensure_ascii=False).encode()  # which halves of surrogate pairs do not bear
    except (ValueError, RecursionError):
        raise SpecError(["request: not JSON"]) from None
    return document
