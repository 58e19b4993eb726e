"""Rows out of an uploaded file, one at a time, whatever is in it.

Guarantees bounded memory whatever the file holds (a line of a gigabyte, a depth of 10⁵), and that every bad line is
reported with its number, never its content. Reads JSONL, CSV and TSV. Does not decide what a row means: see `shapes`.

Example:
    >>> list(rows(io.BytesIO(b'{"a": "1"}\\n'), "jsonl", Problems()))
    [(1, {'a': '1'})]
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from steward.audit.actor import Refused

MAX_LINE_BYTES = 4 << 20
MAX_COLUMNS = 500
FORMATS = ("jsonl", "csv", "tsv")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: `line` from 1, `column` a field's name or empty, `code` stable, `message` with what to do."""

    line: int
    column: str
    code: str
    message: str

    def as_json(self) -> dict[str, Any]:
        return {"line": self.line, "column": self.column, "code": self.code, "message": self.message}


class ImportedBefore(Refused):
    """The version is no longer being imported: another process has done it, or has failed at it."""


class ImportProblems(Exception):
    """The file has problems; nothing of it is kept."""


@dataclass(slots=True)
class Problems:
    """All that is wrong with a file: the first `limit` in full, the rest counted."""

    limit: int = 200
    kept: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, column: str, code: str, message: str) -> None:
        self.count += 1
        if len(self.kept) < self.limit:
            self.kept.append(Problem(line, column, code, message))


def detect_format(filename: str, head: bytes) -> str | None:
    """`jsonl`, `csv` or `tsv` from the first bytes, the name only as a hint; None if it is none of them."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"{"):
        return "jsonl"
    first = text.split(b"\n", 1)[0]
    if b"\x00" in head or text.startswith((b"PK\x03\x04", b"%PDF", b"\x1f\x8b", b"[")):
        return None
    suffix = filename.rsplit(".", 1)[-1].lower()
    if suffix == "tsv" or first.count(b"\t") > first.count(b","):
        return "tsv"
    return "csv" if suffix == "csv" or b"," in first or b";" in first else None


def rows(source: BinaryIO, source_format: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, row) for each good line and reports the others to `problems`."""
    if source_format == "jsonl":
        return _json_rows(source, problems)
    return _csv_rows(source, "\t" if source_format == "tsv" else None, problems)


def _lines(source: BinaryIO, problems: Problems) -> Iterator[tuple[int, str]]:
    """Decoded lines with their numbers. A file that is not UTF-8 at all stops at its first bytes."""
    number = 0
    while raw := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            if raw[:2] in _BOMS:
                message = "The file is UTF-16. Save it as UTF-8 and import it again."
                problems.add(1, "", "wrong_encoding", message)
                return
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if len(raw) > MAX_LINE_BYTES:
            problems.add(number, "", "line_too_long", f"The line is longer than {MAX_LINE_BYTES:,} bytes. Split it.")
            _skip_line(source)
            continue
        if b"\x00" in raw:
            problems.add(number, "", "nul_character", "The line holds a NUL character. Remove it.")
            continue
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            problems.add(
                number,
                "",
                "wrong_encoding",
                f"Byte {error.start + 1} of the line is not UTF-8. Save the file as UTF-8 (it may be Windows-1252).",
            )


def _skip_line(source: BinaryIO) -> None:
    while chunk := source.readline(1 << 20):
        if chunk.endswith(b"\n"):
            return


def _json_rows(source: BinaryIO, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    loads = json.loads
    for number, line in _lines(source, problems):
        if line.isspace():
            continue
        try:
            row = loads(line)
        except json.JSONDecodeError as error:
            problems.add(number, "", "invalid_json", f"Not valid JSON: {error.msg} at character {error.pos + 1}.")
        except RecursionError:
            problems.add(number, "", "too_deep", "The JSON is nested too deeply.")
        except ValueError:  # Python reads no numbers of thousands of digits
            problems.add(number, "", "invalid_json", "Not valid JSON: a number has too many digits.")
        else:
            if not isinstance(row, dict):
                kind = type(row).__name__
                problems.add(number, "", "not_an_object", f"A line must be a JSON object, this one is a {kind}.")
            elif "\\u" in line and not _is_encodable(line, row):
                problems.add(number, "", "lone_surrogate", "A text holds half of a surrogate pair. Remove it.")
            else:
                yield number, row


def _is_encodable(line: str, row: dict[str, Any]) -> bool:
    """False if an escape gave a lone surrogate or a NUL, which UTF-8 and the database cannot hold."""
    try:
        dumped = json.dumps(row, ensure_ascii=False)
        dumped.encode()
    except UnicodeEncodeError:
        return False
    return "\\u0000" not in dumped


def _csv_rows(source: BinaryIO, delimiter: str | None, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = _lines(source, problems)
    first = next(lines, None)
    if first is None:
        return
    number, header_line = first
    delimiter = delimiter or max(",;\t|", key=header_line.count)
    reader = csv.reader(_chain(header_line, lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(number, "", "invalid_csv", f"The line is not valid CSV: {error}. Nothing after it was read.")
            return
        if header is None:
            header = [name.strip() for name in cells]
            if not _check_header(header, problems):
                return
            continue
        if not cells:
            continue
        if len(cells) != len(header):
            message = f"The row has {len(cells)} cells, the header has {len(header)}."
            problems.add(number, "", "wrong_cell_count", message)
            continue
        yield number, dict(zip(header, cells, strict=True))


def _chain(first: str, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    yield first
    for _, line in lines:
        yield line


def _check_header(header: list[str], problems: Problems) -> bool:
    before = problems.count
    if len(header) > MAX_COLUMNS:
        problems.add(
            1, "", "too_many_columns", f"The header has {len(header)} columns; at most {MAX_COLUMNS} are read."
        )
    if "" in header:
        problems.add(1, "", "unnamed_column", f"Column {header.index('') + 1} has no name.")
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        problems.add(1, name, "duplicate_column", "Two columns have the same name.")
    return problems.count == before
