"""Choices that look random and are the same every time, for whoever holds the key.

Guarantees: the choice for a value depends on the key, the subject, the type and the value; without the key nobody can
compute or
check it (HMAC-SHA256).
Does not: prevent two values from getting the same choice when there is little to choose from.

Example:
    >>> first, again = (Keyed(bytes(32), "subject-1").below("SSN", "123-45-6789", 10) for _ in range(2))
    >>> first == again
    True
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_MIN_KEY_BYTES = 16


class Keyed:
    """Choices for one subject (or, with None, for the whole dataset that the key belongs to)."""

    def __init__(self, key: bytes, subject: str | None) -> None:
        """Args:
            key: at least 16 bytes, of one dataset.
            subject: opaque id of the person the record is about, or None.

        Raises:
            ValueError: the key is too short.
        """
        if len(key) < _MIN_KEY_BYTES:
            raise ValueError(f"a redaction key needs at least {_MIN_KEY_BYTES} bytes")
        scope = b"steward/redaction\0" + (
            b"dataset" if subject is None else b"subject\0" + subject.encode("utf-8", "surrogatepass")
        )
        self._key = hmac.new(key, scope, hashlib.sha256).digest()
        self._orders: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}

    def digest(self, kind: str, value: str, turn: int = 0) -> bytes:
        """32 bytes for a value; ``turn`` gives others for the same value."""
        message = f"{kind}\0{turn}\0{value}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).digest()

    def below(self, kind: str, value: str, limit: int, turn: int = 0) -> int:
        """An integer in [0, limit); the bias is below 2**-190 for the limits used here."""
        return int.from_bytes(self.digest(kind, value, turn)) % limit

    def pick(self, kind: str, value: str, choices: Sequence[T], turn: int = 0) -> T:
        """One of ``choices``."""
        return choices[self.below(kind, value, len(choices), turn)]

    def order(self, kind: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """``choices`` in an order of this subject."""
        made = self._orders.get((kind, choices))
        if made is None:
            made = self._orders[kind, choices] = tuple(sorted(choices, key=lambda each: self.digest(kind, each)))
        return made

    def digits(self, kind: str, value: str, count: int, turn: int = 0) -> str:
        """``count`` decimal digits, at most 60."""
        return str(self.below(kind, value, 10**count, turn)).zfill(count)
