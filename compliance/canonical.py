"""Canonical JSON and the digests made of it.

Guarantees that equal values give equal bytes (RFC 8785) for strings, integers, booleans, null, lists and objects.
It does not serialise floats at all: their shortest form is the part of RFC 8785 on which implementations differ, so
scores travel as integers (parts per million).

Example: ``canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()``
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Largest integer that every JSON reader keeps exactly. Source: RFC 8785 section 3.2.2.3, RFC 7493 section 2.2.
MAX_INTEGER = 2**53 - 1

#: Nesting beyond this is refused, so that a hostile value cannot exhaust the stack.
MAX_DEPTH = 64

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class CanonicalError(ValueError):
    """The value has no canonical form here; the message names the kind of trouble and never the value."""


def canonical_json(value: Any) -> bytes:
    """Serialises a value in the one form of RFC 8785, as UTF-8.

    Args:
        value: ``str``, ``int`` (magnitude below 2**53), ``bool``, ``None``, or lists, tuples and mappings of them.

    Returns:
        Bytes without insignificant white space, object keys in the order of their UTF-16 code units.

    Raises:
        CanonicalError: a float, a larger integer, a key that is no string, a lone surrogate, another type, or
            nesting deeper than ``MAX_DEPTH``.

    Source: RFC 8785 sections 3.2.2 (primitive types) and 3.2.3 (sorting).
    """
    ordered = _ordered(value, MAX_DEPTH)
    text = _encode(ordered)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # The encoder's own error quotes the text, and this text may be somebody's.
        raise CanonicalError("a string holds a lone surrogate, which has no UTF-8 form") from None


def sha256_digest(data: bytes) -> str:
    """Names content by its hash: ``sha256:`` and 64 lower-case hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _ordered(value: Any, depth: int) -> Any:
    """Checks every part of a value and puts its object keys in order."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise CanonicalError("an integer is beyond 2**53 - 1; send it as a string")
        return value
    if depth == 0:
        raise CanonicalError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, (dict, Mapping)):
        ordered = {}
        for key in _sorted_keys(value):
            item = value[key]
            # Ledger entries are mostly texts: a call less for each is a third of the time.
            ordered[key] = item if type(item) is str else _ordered(item, depth - 1)
        return ordered
    if isinstance(value, (list, tuple)):
        return [_ordered(item, depth - 1) for item in value]
    raise CanonicalError(f"no canonical form for {type(value).__name__}; scores go as integers in parts per million")


def _sorted_keys(value: Mapping[Any, Any]) -> list[str]:
    try:
        if "".join(value).isascii():
            return sorted(value)  # where UTF-16 has the same order
    except TypeError:
        raise CanonicalError("an object key is not a string") from None
    return sorted(value, key=_utf16)


def _utf16(key: str) -> bytes:
    """Sort key of an object member: comparing big-endian UTF-16 bytes compares its code units."""
    return key.encode("utf-16-be", "surrogatepass")
