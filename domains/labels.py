"""Label schemas: the closed lists that annotators, workflows and metrics share.

Guarantees unique names and keyboard keys within a schema. Does not hold annotations.

Example:
    >>> schema = LabelSchema("sections", "class", "Sections", (Label("ALLERGY", "Allergies", "Reactions", "a"),))
    >>> schema.names
    ('ALLERGY',)
"""

from __future__ import annotations

from dataclasses import dataclass

from domains.toml_table import TomlTable

SCHEMA_KINDS = ("class", "span")


@dataclass(frozen=True, slots=True)
class Label:
    """One label: the text a model answers with, a title for people, a definition for annotators, a key to press."""

    name: str
    title: str
    description: str
    key: str


@dataclass(frozen=True, slots=True)
class LabelSchema:
    """A closed list of labels, of kind `class` (for a whole record) or `span` (for a part of its text)."""

    name: str
    kind: str
    title: str
    labels: tuple[Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels' names in the order of the file."""
        return tuple(label.name for label in self.labels)


def read_label_schema(table: TomlTable) -> LabelSchema:
    """Reads one `[[schemas]]` table of labels.toml.

    Raises:
        PackError: a key is missing, unknown or of the wrong type, or a name or a keyboard key is used twice.
    """
    labels = tuple(_read_label(entry) for entry in table.tables("labels"))
    for what in ("name", "key"):
        used = [getattr(label, what).casefold() if what == "name" else getattr(label, what) for label in labels]
        if len(set(used)) != len(used):
            raise table.error("labels", f"two labels have the same {what}")
    if len(labels) < 2:
        raise table.error("labels", "a schema needs at least two labels")
    schema = LabelSchema(
        name=table.name("name"), kind=table.text("kind", choices=SCHEMA_KINDS), title=table.text("title"), labels=labels
    )
    table.finish()
    return schema


def _read_label(table: TomlTable) -> Label:
    label = Label(table.text("name"), table.text("title"), table.text("description"), table.text("key"))
    if len(label.key) != 1:
        raise table.error("key", "must be a single character")
    table.finish()
    return label
