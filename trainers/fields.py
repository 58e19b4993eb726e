"""Declared fields: one declaration of a dataclass gives its strict reader and its JSON schema.

Guarantees: every problem of a document is reported at once, each with its path; unknown keys are problems; the reader
and ``schema_of`` come from the same declaration and cannot disagree.
Does not: quote values that were read; a message names the path, what was expected and the kind of what was found.

Example:
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: int = declared(Whole(minimum=0))
    >>> read(Point, {"x": -1, "y": 2})
    Traceback (most recent call last):
    trainers.fields.SpecError: x: must be at least 0; y: unknown key
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class SpecError(ValueError):
    """A document does not fit its declaration.

    Attributes:
        problems: every problem found, as ``path: what is wrong``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Kind(Protocol):
    """How one value is read and described."""

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        """The value as the program holds it; appends to ``problems`` what is wrong with it."""

    def _schema(self) -> dict[str, Any]:
        """The JSON schema (draft 2020-12) of the values that ``_read`` accepts."""


def _found(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), "something else")


def _bounds(minimum: float | None, maximum: float | None, above: float | None, below: float | None) -> dict[str, float]:
    named = {"minimum": minimum, "maximum": maximum, "exclusiveMinimum": above, "exclusiveMaximum": below}
    return {name: bound for name, bound in named.items() if bound is not None}


def _check_bounds(value: float, bounds: dict[str, float], path: str, problems: list[str]) -> None:
    rules: dict[str, tuple[str, Callable[[float, float], bool]]] = {
        "minimum": ("at least", lambda v, b: v >= b),
        "maximum": ("at most", lambda v, b: v <= b),
        "exclusiveMinimum": ("more than", lambda v, b: v > b),
        "exclusiveMaximum": ("less than", lambda v, b: v < b),
    }
    for name, bound in bounds.items():
        words, holds = rules[name]
        if not holds(value, bound):
            problems.append(f"{path}: must be {words} {f'{bound:,.0f}' if bound == int(bound) else f'{bound:g}'}")


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds (both ends included)."""

    minimum: int | None = None
    maximum: int | None = None

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            problems.append(f"{path}: must be a whole number, not {_found(value)}")
            return value
        _check_bounds(value, _bounds(self.minimum, self.maximum, None, None), path, problems)
        return value

    def _schema(self) -> dict[str, Any]:
        return {"type": "integer", **_bounds(self.minimum, self.maximum, None, None)}


@dataclass(frozen=True)
class Number:
    """A finite number; ``above`` and ``below`` exclude their bound."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        # Not by math.isfinite, for which a whole number of hundreds of digits is a fault.
        is_finite = isinstance(value, int | float) and abs(value) <= sys.float_info.max
        if isinstance(value, bool) or not is_finite:
            problems.append(f"{path}: must be a finite number, not {_found(value)}")
            return value
        _check_bounds(value, _bounds(self.minimum, self.maximum, self.above, self.below), path, problems)
        return float(value)

    def _schema(self) -> dict[str, Any]:
        return {"type": "number", **_bounds(self.minimum, self.maximum, self.above, self.below)}


@dataclass(frozen=True)
class Text:
    """Text that matches ``pattern`` as a whole; ``meaning`` says in words what that is."""

    pattern: str
    meaning: str

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, str):
            problems.append(f"{path}: must be {self.meaning}, not {_found(value)}")
        elif not re.fullmatch(self.pattern, value, re.DOTALL):
            problems.append(f"{path}: must be {self.meaning}")
        return value

    def _schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$", "description": self.meaning}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if value not in self.words or not isinstance(value, str):
            problems.append(f"{path}: must be one of {', '.join(self.words)}")
        return value

    def _schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, bool):
            problems.append(f"{path}: must be true or false, not {_found(value)}")
        return value

    def _schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Maybe:
    """Null or a value of another kind."""

    kind: Kind

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        return None if value is None else self.kind._read(value, path, problems)

    def _schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "null"}, self.kind._schema()]}


@dataclass(frozen=True)
class Several:
    """A list of at least one and at most ``most`` values; held as a tuple."""

    kind: Kind
    most: int = 1024

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, list) or not 1 <= len(value) <= self.most:
            problems.append(f"{path}: must be a list of 1 to {self.most} values")
            return ()
        return tuple(self.kind._read(each, f"{path}[{index}]", problems) for index, each in enumerate(value))

    def _schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.kind._schema(), "minItems": 1, "maxItems": self.most}


@dataclass(frozen=True)
class AnyObject:
    """An object of JSON, whatever is in it."""

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, dict):
            problems.append(f"{path}: must be an object, not {_found(value)}")
        return value

    def _schema(self) -> dict[str, Any]:
        return {"type": "object"}


@dataclass(frozen=True)
class Part:
    """An object described by another declared dataclass."""

    part: type[Any]

    def _read(self, value: Any, path: str, problems: list[str]) -> Any:
        if not isinstance(value, dict):
            problems.append(f"{path}: must be an object, not {_found(value)}")
            return None
        return _take(self.part, value, f"{path}.", problems)

    def _schema(self) -> dict[str, Any]:
        return schema_of(self.part)


def take(kind: Kind, value: Any, path: str, problems: list[str]) -> Any:
    """One value outside of a dataclass, read as ``kind``; what is wrong with it is appended to ``problems``."""
    return kind._read(value, path, problems)


def declared(kind: Kind, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field read as ``kind``; without a default the key must be there."""
    return field(default=default, metadata={"kind": kind})


def part(of: type[Any], *, is_required: bool = True) -> Any:
    """A dataclass field that is an object; an optional one is made of its defaults when absent."""
    if is_required:
        return field(metadata={"kind": Part(of)})
    return field(default_factory=of, metadata={"kind": Part(of)})


def _is_required(declaration: dataclasses.Field[Any]) -> bool:
    return declaration.default is dataclasses.MISSING and declaration.default_factory is dataclasses.MISSING


def _take(of: type[Any], document: dict[str, Any], prefix: str, problems: list[str]) -> Any:
    known = {each.name: each for each in dataclasses.fields(of)}
    taken = {}
    for name, each in known.items():
        if name in document:
            taken[name] = each.metadata["kind"]._read(document[name], f"{prefix}{name}", problems)
        elif _is_required(each):
            problems.append(f"{prefix}{name}: missing")
            taken[name] = None
    # A key from outside goes into a message, so it is cut to what a key can sensibly be.
    problems.extend(f"{prefix}{str(name)[:40]!a}: unknown key" for name in document if name not in known)
    return of(**taken)


def read(of: type[T], document: Any) -> T:
    """The document as ``of``.

    Raises:
        SpecError: with every problem, not the first one only.
    """
    problems: list[str] = []
    if not isinstance(document, dict):
        raise SpecError([f"document: must be an object, not {_found(document)}"])
    value: T = _take(of, document, "", problems)
    if problems:
        raise SpecError(problems)
    return value


def schema_of(of: type[Any]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a declared dataclass."""
    properties = {}
    for each in dataclasses.fields(of):
        described = dict(each.metadata["kind"]._schema())
        if each.default is not dataclasses.MISSING:
            described["default"] = each.default
        properties[each.name] = described
    return {
        "type": "object",
        "properties": properties,
        "required": [each.name for each in dataclasses.fields(of) if _is_required(each)],
        "additionalProperties": False,
    }
