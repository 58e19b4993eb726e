"""Texts with `{field}` placeholders.

Guarantees that filling a template only ever copies values in: there are no expressions, attributes, indexes or format
options, and a value that itself contains braces is not looked at again. A literal brace is written `{{` or `}}`.
Does not convert values: they must be texts already.

Example:
    >>> fill("Clause: {text}", {"text": "Fees are due in {30} days."})
    'Clause: Fees are due in {30} days.'
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PIECE = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]*)\}|[{}]")


class MissingField(Exception):
    """A record lacks a field that the template needs; `field` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__(f"the record has no field {field!r}, or it is empty")
        self.field = field


def placeholders(template: str) -> tuple[str, ...]:
    """The field names in a template, in order of first use.

    Raises:
        ValueError: a brace that is neither doubled nor around a plain lower-case name.
    """
    names: list[str] = []
    for match in _PIECE.finditer(template):
        if match.group(1):
            names.append(match.group(1))
        elif match.group() in "{}":
            raise ValueError(f"stray {match.group()!r} at character {match.start()}; write it twice to mean a brace")
    return tuple(dict.fromkeys(names))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each placeholder replaced by its value.

    Raises:
        MissingField: a value is absent, not a text, or blank.
        ValueError: the template has a stray brace.
    """

    def piece(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            if len(match.group()) == 1:
                raise ValueError(f"stray {match.group()!r} at character {match.start()}")
            return match.group()[0]
        value = values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise MissingField(name)
        return value

    return _PIECE.sub(piece, template)
