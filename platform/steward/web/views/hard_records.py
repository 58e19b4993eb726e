"""The records that a run finds hardest and easiest: where a wrong label or a bad record shows first."""

import uuid
from typing import Any

from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from compliance.vault import VaultError
from steward.accounts.roles import Permission
from steward.audit.actor import Refused
from steward.datasets.reading import RecordReader
from steward.profiles.composing import policy_of
from steward.runs.downloads import as_attachment, csv_lines, json_lines
from steward.runs.models import FineTune
from steward.runs.output_actions import show_record_losses
from steward.runs.sealed_outputs import PARTS, RecordLoss
from steward.web.marking import marked
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404

SHOWN = 10
FORMS = ("csv", "json")
COLUMNS = ("record", "loss", "first_loss", "units")
_RUNS = FineTune.objects.select_related(
    "workspace", "output_key", "dataset_version__dataset__key", "dataset_version__redaction__profile_version"
)


@require_safe
@in_workspace
def hard_records(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """What there is to see, in figures. The records are asked for with the button, since each look is recorded."""
    demand(request, Permission.VIEW_REDACTED)
    found = row_or_404(request, _RUNS, pk)
    return _page(request, found)


@require_POST
@in_workspace
def show(request: WorkspaceRequest, pk: uuid.UUID, part: str) -> HttpResponse:
    """The worst and the best records of a part, with their redacted text."""
    found = row_or_404(request, _RUNS, pk)
    losses = _losses(request, found, part)
    worst, best = losses[:SHOWN], losses[: SHOWN - 1 : -1][:SHOWN]
    texts = _texts(found, [*worst, *best])
    views = [
        ("worst", "Highest loss", [(each, texts.get(each.record_id)) for each in worst]),
        ("best", "Lowest loss", [(each, texts.get(each.record_id)) for each in best]),
    ]
    return _page(request, found, shown=part, views=views)


@require_POST
@in_workspace
def download(request: WorkspaceRequest, pk: uuid.UUID, part: str, form: str) -> HttpResponseBase:
    """The losses of all records of a part, without text, as CSV or JSON."""
    if form not in FORMS:
        raise Http404
    found = row_or_404(request, _RUNS, pk)
    rows = (
        {"record": each.record_id, "loss": each.loss, "first_loss": each.first_loss, "units": each.units}
        for each in _losses(request, found, part)
    )
    content = csv_lines(COLUMNS, rows) if form == "csv" else json_lines(rows)
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/json"
    return as_attachment(content, found, f"-{part}-losses.{form}", kind)


def _page(request: WorkspaceRequest, fine_tune: FineTune, **more: Any) -> HttpResponse:
    parts = [(part, title, fine_tune.facts[part]) for part, (_, title) in PARTS.items() if part in fine_tune.facts]
    return render(request, "web/hard_records.html", {"fine_tune": fine_tune, "parts": parts, "forms": FORMS, **more})


def _losses(request: WorkspaceRequest, fine_tune: FineTune, part: str) -> list[RecordLoss]:
    try:
        return show_record_losses(actor=request.actor, fine_tune=fine_tune, part=part)
    except (VaultError, OSError) as error:
        raise Refused(
            f"The losses cannot be opened ({type(error).__name__}). See `manage.py doctor`.", code="unreadable"
        ) from None


def _texts(fine_tune: FineTune, losses: list[RecordLoss]) -> dict[str, Any]:
    """The redacted records as they may be shown now, by id; those of shredded people are left out."""
    version = fine_tune.dataset_version
    ordinals = sorted({int(each.record_id) for each in losses if each.record_id.isdecimal()})
    if version.redaction is None or not ordinals:
        return {}
    policies = policy_of(version.redaction.profile, version.redaction.profile_version).entities
    return {
        str(record.ordinal): marked(record.payload, record.findings, "redacted", policies=policies)
        for record in RecordReader(version).redacted(version.redaction, ordinals=ordinals)
    }
