"""What a fine-tune measured: in pieces for the live chart, and as a file to take away.

Guarantees that a spreadsheet runs nothing out of a downloaded table: a text that begins like a formula gets an
apostrophe in front. Does not thin out downloads; the chart gets at most `CHART_POINTS` of each curve.

Source: OWASP, CSV Injection (the characters = + - @ tab and carriage return).
"""

import csv
import json
import uuid
from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from steward.runs.models import FineTune, Measurement
from steward.web.pages import WorkspaceRequest, in_workspace, row_or_404, whole_number

CHART_POINTS = 1500
COLUMNS = (
    "split",
    "step",
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "memory_bytes",
    "eta_seconds",
    "attempt",
    "at",
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@require_safe
@in_workspace
def measurements(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Points behind the row `after`, with the run's state: what the live chart asks for again and again."""
    found = row_or_404(request, FineTune.objects.all(), pk)
    rows = Measurement.objects.filter(fine_tune=found, pk__gt=whole_number(request, "after", 0, 2**62)).order_by("pk")
    points: dict[str, list[list[float]]] = {"train": [], "validation": []}
    last = 0
    for row in rows.values_list("pk", "split", "step", "loss", "learning_rate", "grad_norm").iterator():
        last = row[0]
        points[row[1]].append([*row[2:]])
    answer = {
        "state": found.state,
        "is_over": found.is_over,
        "attempt": found.attempt,
        "step": found.step,
        "steps": found.steps,
        "best_step": found.best_step,
        "after": last or whole_number(request, "after", 0, 2**62),
        "train": _thinned(points["train"]),
        "validation": _thinned(points["validation"]),
    }
    return JsonResponse(answer)


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """At most about `CHART_POINTS` of them, evenly, the last among them; in order of their step."""
    points.sort(key=lambda point: point[0])
    stride = max(1, len(points) // CHART_POINTS)
    kept = points[::stride]
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]


@require_safe
@in_workspace
def download(request: WorkspaceRequest, pk: uuid.UUID, form: str) -> HttpResponseBase:
    """All measurements as CSV or JSON."""
    found = row_or_404(request, FineTune.objects.all(), pk)
    rows = Measurement.objects.filter(fine_tune=found).order_by("step", "split").values(*COLUMNS).iterator()
    name = f"{slugify(found.name) or 'fine-tune'}-measurements.{form}"
    content, kind = (
        (_csv_lines(rows), "text/csv; charset=utf-8") if form == "csv" else (_json_lines(rows), "application/json")
    )
    return StreamingHttpResponse(
        content, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


class _Line:
    """What csv.writer writes to: hands the line back."""

    def write(self, line: str) -> str:
        return line


def _csv_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow([neutral_cell(row[column]) for column in COLUMNS])


def neutral_cell(value: Any) -> Any:
    """The value, or, where it is a text that a spreadsheet would run, the text behind an apostrophe. Numbers stay."""
    if isinstance(value, int | float) or value is None:
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _json_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield "["
    for place, row in enumerate(rows):
        yield (",\n" if place else "\n") + json.dumps({**row, "at": row["at"].isoformat()})
    yield "\n]\n"
