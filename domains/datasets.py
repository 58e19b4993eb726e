"""Dataset recipes: where a training set comes from, what it may be used for and how its raw rows become flat fields.

Guarantees that shaping a raw row gives every declared field as text, or an error that names the field and never its
content. Does not read files or fetch anything: the platform imports the file that a person provides and compares its
checksum with the recipe's.

Example:
    >>> from domains.packs import load_pack
    >>> recipe = load_pack("healthcare").dataset("mts_dialog")
    >>> row = {"id": "0", "dialogue": "Doctor: Any allergies?", "section_header": "ALLERGY", "section_text": "None."}
    >>> next(shape_record(recipe, row))["section_header"]
    'ALLERGY'
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.toml_table import TomlTable

KINDS = ("synthetic", "public")
FORMATS = ("jsonl", "csv", "json")
SPLITS = ("train", "validation", "test")
RESERVED_FIELDS = ("id", "subject", "group", "template")
GENERATORS = ("phrases", "pairs", "tables")
"""Names a recipe may give as its generator; `domains.synthetic` maps each to code."""


class ShapeError(Exception):
    """A raw row does not have what the recipe expects; `field` names where, the message never quotes content."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A file of a public set: a name to know it by, its SHA-256, how many rows it has, and what part it plays."""

    name: str
    sha256: str | None
    rows: int | None
    role: str
    note: str


@dataclass(frozen=True, slots=True)
class FieldSource:
    """How one field is taken from a raw row: the key `source` and the conversion `form` (see `FORMS`)."""

    name: str
    source: str
    form: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How raw rows become flat records.

    `explode` is a key that holds a list of questions, each becoming a record with the row's other keys beside its
    own. `join` is a key by which a row of a file of role `joined` is found and laid under it. `keep` lists, by key,
    the values with which a row is kept.
    """

    explode: str | None
    join: str | None
    keep: Mapping[str, tuple[str, ...]]
    sources: tuple[FieldSource, ...]


@dataclass(frozen=True, slots=True)
class DatasetRecipe:
    """One dataset of a pack. `phrases` is the file that feeds a synthetic set's generator, None for a public set."""

    name: str
    title: str
    description: str
    kind: str
    licence: str
    citation: str
    source: str
    revision: str | None
    revision_note: str
    is_verified: bool
    unverified: str
    format: str
    files: tuple[DatasetFile, ...]
    fields: tuple[str, ...]
    shape: Shape
    subject_field: str
    split_field: str | None
    label_schema: str | None
    generator: str | None
    phrases: Path | None


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    # bool is an int in Python, and True is no answer anyone wrote.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _as_lines(value: Any) -> str | None:
    parts = [_as_text(part) for part in value] if isinstance(value, list) else []
    return "\n".join(part for part in parts if part is not None) if parts and None not in parts else None


def _as_list(value: Any) -> str | None:
    joined = _as_lines(value if isinstance(value, list) else [value])
    return None if joined is None else ", ".join(joined.split("\n"))


def _as_table(value: Any) -> str | None:
    rows = [_as_lines(row) for row in value] if isinstance(value, list) else []
    if not rows or None in rows:
        return None
    cells = [[_as_text(cell) or "" for cell in row] for row in value]
    return "\n".join(" | ".join(cell.strip() for cell in row) for row in cells)


FORMS: dict[str, Callable[[Any], str | None]] = {
    "text": _as_text,
    "lines": _as_lines,
    "list": _as_list,
    "table": _as_table,
}
"""Conversions of a JSON value to text; None means that the value is not of the expected kind."""


def shape_record(
    recipe: DatasetRecipe, row: Mapping[str, Any], joined: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[dict[str, str]]:
    """The flat records of one raw row: the recipe's fields, `subject`, and `group`, `template` where the row has them.

    Args:
        recipe: the dataset's recipe.
        row: one row of the file, parsed.
        joined: rows of the file of role `joined` by the recipe's join key; needed where the recipe has one.

    Raises:
        ShapeError: a key is missing or its value is of another kind.
    """
    shape = recipe.shape
    outer = dict(row)
    if shape.join is not None:
        other = (joined or {}).get(str(row.get(shape.join)))
        if other is None:
            raise ShapeError(shape.join, "has no partner in the file that it is joined with")
        outer = {**other, **outer}
    for inner in _exploded(outer, shape.explode):
        if all(str(inner.get(key)) in values for key, values in shape.keep.items()):
            yield _flat(recipe, inner)


def _exploded(row: dict[str, Any], key: str | None) -> Iterator[dict[str, Any]]:
    if key is None:
        yield row
        return
    parts = row.get(key)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ShapeError(key, "must be a list of objects")
    rest = {name: value for name, value in row.items() if name != key}
    for part in parts:
        yield {**rest, **part}


def _flat(recipe: DatasetRecipe, row: Mapping[str, Any]) -> dict[str, str]:
    record: dict[str, str] = {}
    for field in recipe.shape.sources:
        value = FORMS[field.form](row.get(field.source)) if field.source in row else None
        if value is None and not field.is_optional:
            raise ShapeError(field.source, f"is missing or cannot be read as {field.form}")
        record[field.name] = value or ""
    subject = _as_text(row.get(recipe.subject_field))
    if not subject:
        raise ShapeError(recipe.subject_field, "is missing, and every record needs a subject to be split and erased by")
    record["subject"] = subject
    record.update({key: str(row[key]) for key in ("group", "template") if key in row})
    return record


def split_of(recipe: DatasetRecipe, record: Mapping[str, str], *, seed: int = 0) -> str:
    """The part of the data a record belongs to: `train`, `validation` or `test`.

    All records of a subject fall into the same part. Where the recipe declares a split field (the shipped synthetic
    sets do), that decides: a subject only has records of templates of its part, so test templates are unseen in
    training. Otherwise a hash of seed and subject decides, 70 / 10 / 20.

    Raises:
        ShapeError: the declared field does not hold the name of a part.
    """
    if recipe.split_field is not None:
        part = record.get(recipe.split_field)
        if part not in SPLITS:
            raise ShapeError(recipe.split_field, f"must be one of {', '.join(SPLITS)}")
        return part
    digest = hashlib.sha256(f"{seed}\x1f{record['subject']}".encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"


def read_dataset(table: TomlTable, folder: Path) -> DatasetRecipe:
    """Reads one file of `datasets/`.

    Args:
        table: the file.
        folder: the pack's folder, for the phrase file of a synthetic set.

    Raises:
        PackError: a key is missing, unknown or of the wrong type, or what it says does not fit together.
    """
    kind = table.text("kind", choices=KINDS)
    sources = _read_sources(table)
    keep = table.optional_table("keep")
    recipe = DatasetRecipe(
        name=table.name("name"),
        title=table.text("title"),
        description=table.text("description"),
        kind=kind,
        licence=table.text("licence"),
        citation=table.text("citation"),
        source=table.text("source"),
        revision=table.optional_text("revision"),
        revision_note=table.text("revision_note", ""),
        is_verified=table.flag("verified", kind == "synthetic"),
        unverified=table.text("unverified", ""),
        format=table.text("format", "jsonl", choices=FORMATS),
        files=tuple(_read_file(entry) for entry in table.tables("files", is_required=kind == "public")),
        fields=tuple(source.name for source in sources),
        shape=Shape(
            explode=table.optional_text("explode"),
            join=table.optional_text("join"),
            keep={key: keep.texts(key) for key in keep.names()} if keep else {},
            sources=sources,
        ),
        subject_field=table.text("subject_field"),
        split_field=table.optional_text("split_field"),
        label_schema=table.optional_text("label_schema"),
        generator=table.text("generator", choices=GENERATORS) if kind == "synthetic" else None,
        phrases=_phrase_file(table, folder) if kind == "synthetic" else None,
    )
    table.finish()
    _check_recipe(table, recipe)
    return recipe


def _check_recipe(table: TomlTable, recipe: DatasetRecipe) -> None:
    if recipe.kind == "public" and recipe.revision is None and not recipe.revision_note:
        raise table.error("revision_note", "must say why there is no revision")
    if not recipe.is_verified and not recipe.unverified:
        raise table.error("unverified", "must say what could not be verified and why")
    if recipe.shape.join is not None and not any(file.role == "joined" for file in recipe.files):
        raise table.error("join", "needs a file of role 'joined'")


def _read_sources(table: TomlTable) -> tuple[FieldSource, ...]:
    fields = table.table("fields")
    sources = []
    for name in fields.names():
        if name in RESERVED_FIELDS:
            raise fields.error(name, f"is reserved; a record always has {', '.join(RESERVED_FIELDS)}")
        entry = fields.table(name)
        sources.append(
            FieldSource(
                name=name,
                source=entry.text("from", name),
                form=entry.text("as", "text", choices=tuple(FORMS)),
                is_optional=entry.flag("optional", False),
            )
        )
        entry.finish()
    return tuple(sources)


def _read_file(table: TomlTable) -> DatasetFile:
    file = DatasetFile(
        name=table.text("name"),
        sha256=table.optional_text("sha256"),
        rows=table.optional_integer("rows", least=1),
        role=table.text("role", "train", choices=(*SPLITS, "all", "joined")),
        note=table.text("note", ""),
    )
    if file.sha256 is not None and (len(file.sha256) != 64 or set(file.sha256) - set("0123456789abcdef")):
        raise table.error("sha256", "must be 64 lower-case hexadecimal digits")
    if file.sha256 is None and not file.note:
        raise table.error("note", "must say why there is no checksum")
    table.finish()
    return file


def _phrase_file(table: TomlTable, folder: Path) -> Path:
    name = table.text("phrases")
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise table.error("phrases", "must lie inside the pack's folder")
    if not path.is_file():
        raise table.error("phrases", f"there is no file {name!r} in the pack's folder")
    return path
