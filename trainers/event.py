"""What all events of a trainer share. Importing this loads no torch; does not read or write lines, see ``events``.

Example:
    >>> class Made(Event): ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Event:
    """What all events share: ``run`` is the identifier from the spec."""

    name: ClassVar[str] = ""
    run: str
