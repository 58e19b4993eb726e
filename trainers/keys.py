"""Key material, read once from stdin.

Guarantees: keys are never in argv, the environment, an event, an exception or a ``repr``. Does not: wipe memory, which
Python cannot promise; core dumps are off instead (``trainers.process``).

Example:
    ``printf '%s\\n' '{"data_key":"…64 hex…","output_key":"…64 hex…"}' | python -m trainers run …``
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, TextIO

from trainers.errors import TrainerError

#: Room for the keys and the addresses of a large ring.
MAX_LINE_CHARS = 1 << 17
_HINT = 'send one line {"data_key":"<64 hex digits>","output_key":"<64 hex digits>"} on stdin'


@dataclass(frozen=True)
class RingPlace:
    """Where this machine's processes stand among those of several machines (``trainers.ring``).

    Attributes:
        secret: 32 bytes that the members alone know, other ones for each attempt of a run.
        rank: of the first process on this machine.
        members: where each process is reached, by rank: host and port.
    """

    secret: bytes = field(repr=False)
    rank: int
    members: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """As in the line of keys."""
        return {"secret": self.secret.hex(), "rank": self.rank, "members": [list(each) for each in self.members]}


@dataclass(frozen=True)
class Keys:
    """32 bytes each: one opens the shards, one seals what the run makes."""

    data_key: bytes = field(repr=False)
    output_key: bytes = field(repr=False)
    ring: RingPlace | None = None

    def line(self) -> str:
        """The line that hands them to another process."""
        document: dict[str, Any] = {"data_key": self.data_key.hex(), "output_key": self.output_key.hex()}
        if self.ring is not None:
            document["ring"] = self.ring.to_json()
        return json.dumps(document) + "\n"


def read_keys(stream: TextIO) -> Keys:
    """The keys on the first line of ``stream``.

    Raises:
        TrainerError: ``keys.missing`` when stdin is empty, ``keys.invalid`` when the line is not as described.
    """
    line = stream.readline(MAX_LINE_CHARS)
    if not line.strip():
        raise TrainerError("keys.missing", "no key came over stdin", _HINT)
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    names = {"data_key", "output_key"}
    if not isinstance(document, dict) or set(document) - {"ring"} != names:
        raise TrainerError("keys.invalid", "the key line is not an object of data_key and output_key", _HINT)
    for name in sorted(names):
        if not _is_key(document[name]):
            raise TrainerError("keys.invalid", f"{name} is not 64 hexadecimal digits", _HINT)
    ring = _ring(document["ring"]) if "ring" in document else None
    return Keys(bytes.fromhex(document["data_key"]), bytes.fromhex(document["output_key"]), ring)


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) is not None


def _ring(document: Any) -> RingPlace:
    match document:
        case {"secret": secret, "rank": int(rank), "members": list(members), **rest} if _is_key(secret) and not rest:
            places = [(str(each[0]), each[1]) for each in members if _is_place(each)]
            if len(places) == len(members) and 0 <= rank < len(places):
                return RingPlace(bytes.fromhex(secret), rank, tuple(places))
    raise TrainerError("keys.invalid", "ring is not an object of secret, rank and members", _HINT)


def _is_place(value: Any) -> bool:
    match value:
        case [str(), int(port)]:
            return 0 < port < 1 << 16
    return False
