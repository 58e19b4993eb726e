"""What a run measured, as a file to take away: CSV, JSON, or an event file of TensorBoard.

Guarantees every measurement, in order of its step and in a stream, and that a spreadsheet runs nothing out of the
table: a text that begins like a formula gets an apostrophe in front. Does not ask who asks: the doors do.

Source: OWASP, CSV Injection (the characters = + - @ tab and carriage return).
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import StreamingHttpResponse
from django.utils.text import slugify

from steward.runs.curves import QUANTITIES
from steward.runs.models import FineTune, Measurement
from steward.runs.tensorboard_file import event_file

COLUMNS = ("split", "step", *QUANTITIES, "eta_seconds", "attempt", "at")
CHUNK_ROWS = 2_000
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
Rows = Iterable[Mapping[str, Any]]


def csv_lines(columns: Iterable[str], rows: Rows) -> Iterator[str]:
    """A table with a head, line by line."""
    names = list(columns)
    writer = csv.writer(_Line())
    yield writer.writerow(names)
    for row in rows:
        yield writer.writerow([neutral_cell(row[name]) for name in names])


class _Line:
    """What csv.writer writes to: hands the line back."""

    def write(self, line: str) -> str:
        return line


def neutral_cell(value: Any) -> Any:
    """The value, or, where it is a text that a spreadsheet would run, the text behind an apostrophe. Numbers stay."""
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def json_lines(rows: Rows) -> Iterator[str]:
    """A JSON list, one row a line; times as ISO 8601."""
    yield "["
    for place, row in enumerate(rows):
        yield (",\n" if place else "\n") + json.dumps(row, default=lambda value: value.isoformat())
    yield "\n]\n"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a download: how the file is called behind the run's name, its type, and what makes it."""

    ending: str
    content_type: str
    write: Callable[[Rows], Iterator[str] | Iterator[bytes]]


FORMS = {
    "csv": Form("-measurements.csv", "text/csv; charset=utf-8", lambda rows: csv_lines(COLUMNS, rows)),
    "json": Form("-measurements.json", "application/json", json_lines),
    # TensorBoard reads files only that have this word in their name.
    "tensorboard": Form(".tfevents", "application/octet-stream", event_file),
}


def measurements_file(fine_tune: FineTune, form: str) -> StreamingHttpResponse:
    """All measurements of a run in one of `FORMS`, as an attachment."""
    chosen = FORMS[form]
    rows = Measurement.objects.filter(fine_tune=fine_tune).order_by("step", "split").values(*COLUMNS)
    return as_attachment(
        chosen.write(rows.iterator(chunk_size=CHUNK_ROWS)), fine_tune, chosen.ending, chosen.content_type
    )


def as_attachment(content: Iterator[Any], fine_tune: FineTune, ending: str, content_type: str) -> StreamingHttpResponse:
    """A streamed file that is called after the run."""
    name = f"{slugify(fine_tune.name) or 'fine-tune'}{ending}"
    return StreamingHttpResponse(
        content, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
