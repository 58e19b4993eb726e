"""Many short texts in one piece of memory, such as the ids of all records.

Example:
    >>> texts = Texts()
    >>> texts.append("r1")
    >>> texts[0], len(texts)
    ('r1', 1)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator


class Texts:
    """Many short texts in one piece of memory."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._starts = array("q", [0])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:
        return self._bytes[self._starts[index] : self._starts[index + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def append(self, text: str) -> None:
        """Adds one at the end."""
        self._bytes += text.encode()
        self._starts.append(len(self._bytes))
