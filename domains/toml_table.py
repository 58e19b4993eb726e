"""Strict reading of a pack's TOML files.

Guarantees that every key is read by somebody, has the type its reader asked for, and that an error names the file, the
full path of the key and what was expected. Does not judge meaning: references between files are checked by
`domains.packs`.

Example:
    >>> table = TomlTable({"name": "demo", "epochs": 2}, source="workflows/demo.toml")
    >>> table.text("name"), table.integer("epochs")
    ('demo', 2)
    >>> table.finish()
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Names of packs, models, datasets, workflows, gates: safe as a folder, as part of an address and in the ledger."""


class PackError(Exception):
    """A pack cannot be used: says which file, which key and what to change."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        super().__init__(f"{source}: {key}: {problem}" if key else f"{source}: {problem}")
        self.source = source
        self.key = key
        self.problem = problem


class TomlTable:
    """One TOML table whose keys must all be asked for before `finish` is called."""

    def __init__(self, values: Mapping[str, Any], *, source: str, path: str = "") -> None:
        self.source = source
        self.path = path
        self._values = dict(values)
        self._read: set[str] = set()

    def key_path(self, key: str) -> str:
        """The key with the tables it sits in, as written in an error: `recipe.epochs`."""
        return f"{self.path}.{key}" if self.path else key

    def error(self, key: str, problem: str) -> PackError:
        """An error about one key of this table, to be raised by the caller."""
        return PackError(self.source, self.key_path(key), problem)

    def has(self, key: str) -> bool:
        """Whether the key is present; does not count as reading it."""
        return key in self._values

    def text(self, key: str, default: str | None = None, *, choices: tuple[str, ...] = ()) -> str:
        """A non-empty string, one of `choices` where those are given."""
        value = self._take(key, str, "a text", default)
        if not value.strip() and value != default:
            raise self.error(key, "must not be empty")
        if choices and value not in choices:
            raise self.error(key, f"{value!r} is not known; expected one of {', '.join(sorted(choices))}")
        return str(value)

    def name(self, key: str) -> str:
        """A text that may serve as a name (see `NAME`)."""
        value = self.text(key)
        if not NAME.fullmatch(value):
            raise self.error(
                key, f"{value!r} must be lower-case letters, digits, '.', '_' or '-', at most 64 characters"
            )
        return value

    def optional_text(self, key: str) -> str | None:
        """A non-empty string, or None where the key is absent."""
        return self.text(key) if self.has(key) else None

    def integer(self, key: str, default: int | None = None, *, least: int = 0, most: int | None = None) -> int:
        """A whole number in `[least, most]`."""
        return int(self._within(key, self._take(key, int, "a whole number", default), least, most))

    def optional_integer(self, key: str, *, least: int = 0) -> int | None:
        """A whole number of at least `least`, or None where the key is absent."""
        return self.integer(key, least=least) if self.has(key) else None

    def number(
        self, key: str, default: float | None = None, *, least: float | None = None, most: float | None = None
    ) -> float:
        """A finite number in `[least, most]`."""
        value = float(self._take(key, (int, float), "a number", default))
        if value != value or value in (float("inf"), float("-inf")):
            raise self.error(key, "must be a finite number")
        return float(self._within(key, value, least, most))

    def flag(self, key: str, default: bool | None = None) -> bool:
        """`true` or `false`."""
        return bool(self._take(key, bool, "true or false", default))

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of non-empty strings without repeats."""
        values = self._take(key, list, "a list of texts", None if default is None else list(default))
        for position, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                raise self.error(f"{key}[{position}]", "must be a text that is not empty")
        if len(set(values)) != len(values):
            raise self.error(key, "has the same text twice")
        return tuple(values)

    def table(self, key: str) -> TomlTable:
        """A nested table that must be there."""
        return TomlTable(self._take(key, dict, "a table", None), source=self.source, path=self.key_path(key))

    def optional_table(self, key: str) -> TomlTable | None:
        """A nested table, or None where the key is absent."""
        return self.table(key) if self.has(key) else None

    def tables(self, key: str, *, is_required: bool = True) -> Iterator[TomlTable]:
        """The tables of an array of tables (`[[key]]`), in order."""
        values = self._take(key, list, "an array of tables", None if is_required else [])
        for position, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.error(f"{key}[{position}]", "must be a table")
            yield TomlTable(value, source=self.source, path=f"{self.key_path(key)}[{position}]")

    def names(self) -> tuple[str, ...]:
        """The keys of this table, for tables whose keys are chosen by the pack."""
        return tuple(self._values)

    def finish(self) -> None:
        """Raises PackError for the first key that nobody read: a misspelt setting must not be ignored."""
        unread = sorted(set(self._values) - self._read)
        if unread:
            known = ", ".join(sorted(self._read)) or "none"
            raise self.error(unread[0], f"unknown key; known here: {known}")

    def _take(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        self._read.add(key)
        if key not in self._values:
            if default is None:
                raise self.error(key, f"is missing; expected {expected}")
            return default
        value = self._values[key]
        # bool is an int in Python; `epochs = true` must not pass for 1.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"must be {expected}, not {type(value).__name__}")
        return value

    def _within(self, key: str, value: float, least: float | None, most: float | None) -> float:
        if least is not None and value < least:
            raise self.error(key, f"must be at least {least}")
        if most is not None and value > most:
            raise self.error(key, f"must be at most {most}")
        return value


def read_toml(path: Path, *, source: str | None = None) -> TomlTable:
    """Reads a TOML file.

    Args:
        path: the file.
        source: how errors name it; its own name by default.

    Raises:
        PackError: the file is missing, not UTF-8 or not TOML.
    """
    source = source or path.name
    try:
        with path.open("rb") as stream:
            return TomlTable(tomllib.load(stream), source=source)
    except FileNotFoundError:
        raise PackError(source, "", "the file is missing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackError(source, "", f"is not valid TOML: {error}") from None
