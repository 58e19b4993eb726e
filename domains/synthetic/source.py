"""What every generator of synthetic records offers, and the slots they share.

Guarantees that filling a text draws each slot at most once a record, so that a drug named twice is the same drug.
Does not choose labels or frames.

Example:
    >>> from random import Random
    >>> Slots({"fruit": ("pear",)}).fill("a {fruit}, the {fruit}", Random(1), {})
    'a pear, the pear'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

from domains.synthetic.people import PERSON_SLOTS, RECORD_SLOTS
from domains.templates import fill, placeholders
from domains.toml_table import PackError, TomlTable, read_toml

GROUPS_WITH_OWN_TEMPLATES = ("train", "test")
MAX_NESTING = 6


@dataclass(frozen=True, slots=True)
class MadeRecord:
    """The fields of one record, the id of the template that made it and the values of the slots it used."""

    template: str
    fields: dict[str, str]
    slots: Mapping[str, str]


class RecordSource(Protocol):
    """A generator with its phrases loaded."""

    def make(self, source: Random, group: str, person: Mapping[str, str]) -> MadeRecord:
        """One record of the group about the person."""


class Slots:
    """Named lists of phrases, which may use one another and the slots of a person and a record."""

    def __init__(self, lists: Mapping[str, tuple[str, ...]]) -> None:
        self._lists = lists

    def fill(self, text: str, source: Random, bound: dict[str, str]) -> str:
        """The text with its slots filled; `bound` holds the values so far and receives the new ones."""
        for name in placeholders(text):
            if name not in bound:
                bound[name] = self.fill(source.choice(self._lists[name]), source, bound)
        return fill(text, bound)

    def check(self, table: TomlTable, key: str, text: str, extra: tuple[str, ...] = ()) -> None:
        """Raises PackError where a text uses a slot that does not exist or slots go round in a circle."""
        try:
            self._check(text, extra, MAX_NESTING)
        except ValueError as error:
            raise table.error(key, str(error)) from None

    def _check(self, text: str, extra: tuple[str, ...], depth: int) -> None:
        if depth == 0:
            raise ValueError(f"slots are nested more than {MAX_NESTING} deep or go round in a circle")
        for name in placeholders(text):
            if name in self._lists:
                for phrase in self._lists[name]:
                    self._check(phrase, extra, depth - 1)
            elif name not in PERSON_SLOTS and name not in RECORD_SLOTS and name not in extra:
                raise ValueError(f"there is no slot {name!r}")


def read_slots(table: TomlTable) -> Slots:
    """Reads the `[slots]` table of a phrase file.

    Raises:
        PackError: a slot is empty, hides one of a person or a record, or uses one that does not exist.
    """
    lists: dict[str, tuple[str, ...]] = {}
    nested = table.optional_table("slots")
    for name in nested.names() if nested else ():
        assert nested is not None
        if name in PERSON_SLOTS or name in RECORD_SLOTS:
            raise nested.error(name, "is the name of a slot that every record has")
        lists[name] = nested.texts(name)
        if not lists[name]:
            raise nested.error(name, "is empty")
    slots = Slots(lists)
    if nested is not None:
        for name, phrases in lists.items():
            for phrase in phrases:
                slots.check(nested, name, phrase)
    return slots


def template_group(group: str) -> str:
    """Which templates a group uses: validation shares those of train, test has its own."""
    return "test" if group == "test" else "train"


def read_split_texts(table: TomlTable, slots: Slots, extra: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Reads `train` and `test` lists of texts that share no text; `extra` names slots that the generator fills itself.

    Raises:
        PackError: a list is missing or empty, a text is in both, or uses a slot that does not exist.
    """
    parts = {part: table.texts(part) for part in GROUPS_WITH_OWN_TEMPLATES}
    for part, texts in parts.items():
        if not texts:
            raise table.error(part, "is empty")
    if set(parts["train"]) & set(parts["test"]):
        raise PackError(table.source, table.path, "a text is in train and in test: test templates must be unseen")
    for part, texts in parts.items():
        for position, text in enumerate(texts):
            slots.check(table, f"{part}[{position}]", text, extra)
    table.finish()
    return parts


def phrase_table(path: Path) -> TomlTable:
    """A phrase file, named in errors by pack, folder and file."""
    return read_toml(path, source="/".join(path.parts[-3:]))


class Deck:
    """Draws the given things in random order, all of them before any comes again, which keeps them balanced."""

    def __init__(self, things: Iterable[Any]) -> None:
        self._things = tuple(things)
        self._left: list[Any] = []

    def draw(self, source: Random) -> Any:
        """The next thing."""
        if not self._left:
            self._left = list(self._things)
            source.shuffle(self._left)
        return self._left.pop()
