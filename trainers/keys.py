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
from typing import TextIO

from trainers.errors import TrainerError

MAX_LINE_CHARS = 4096
_HINT = 'send one line {"data_key":"<64 hex digits>","output_key":"<64 hex digits>"} on stdin'


@dataclass(frozen=True)
class Keys:
    """32 bytes each: one opens the shards, one seals what the run makes."""

    data_key: bytes = field(repr=False)
    output_key: bytes = field(repr=False)


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
    except (json.JSONDecodeError, RecursionError):
        document = None
    names = {"data_key", "output_key"}
    if not isinstance(document, dict) or set(document) != names:
        raise TrainerError("keys.invalid", "the key line is not an object of data_key and output_key", _HINT)
    for name in sorted(names):
        if not isinstance(document[name], str) or not re.fullmatch(r"[0-9a-fA-F]{64}", document[name]):
            raise TrainerError("keys.invalid", f"{name} is not 64 hexadecimal digits", _HINT)
    return Keys(bytes.fromhex(document["data_key"]), bytes.fromhex(document["output_key"]))
