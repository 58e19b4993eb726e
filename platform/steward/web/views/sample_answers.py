"""What a model in training answers to some held-out prompts, step by step, while it runs and afterwards."""

import uuid
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from compliance.vault import VaultError
from domains.metrics import METRICS
from steward.accounts.roles import Permission
from steward.audit.actor import Refused
from steward.runs.models import FineTune
from steward.runs.output_actions import show_sample_answers
from steward.runs.sample_answers import SampleAnswers
from steward.runs.sealed_outputs import answers_of
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404

_RUNS = FineTune.objects.select_related("workspace", "output_key", "dataset_version__dataset__key")
_RUNS = _RUNS.select_related("dataset_version__redaction")


@require_safe
@in_workspace
def sample_answers(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """What there is to see, in figures. The texts are asked for with the button, since each look is recorded."""
    demand(request, Permission.VIEW_REDACTED)
    return _page(request, row_or_404(request, _RUNS, pk))


@require_POST
@in_workspace
def show(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The answers of all evaluations so far. Asked again by a page that has them, it answers only if there are more."""
    found = row_or_404(request, _RUNS, pk)
    if request.POST.get("seen") == _seen(found) and Permission.VIEW_REDACTED in request.permissions:
        return HttpResponse(status=204)
    return _page(request, found, shown=_shown(request, found))


def _page(request: WorkspaceRequest, fine_tune: FineTune, **more: Any) -> HttpResponse:
    sheets = answers_of(fine_tune)
    context = {
        "fine_tune": fine_tune,
        "sheets": sheets,
        "first": sheets[0] if sheets else None,
        "last": sheets[-1] if sheets else None,
        "metric": METRICS.get(sheets[-1]["metric"]) if sheets else None,
        "seen": _seen(fine_tune),
        **more,
    }
    is_part = request.headers.get("HX-Target") == "answers"
    return render(request, f"web/{'part_' if is_part else ''}sample_answers.html", context)


def _seen(fine_tune: FineTune) -> str:
    """Names what a page shows, so that it can be told whether there is more."""
    sheets = answers_of(fine_tune)
    return f"{len(sheets)} {sheets[-1]['sealed_digest'] if sheets else ''} {fine_tune.is_over}"


def _shown(request: WorkspaceRequest, fine_tune: FineTune) -> SampleAnswers:
    try:
        return show_sample_answers(actor=request.actor, fine_tune=fine_tune)
    except (VaultError, OSError) as error:
        raise Refused(
            f"The answers cannot be opened ({type(error).__name__}). See `manage.py doctor`.", code="unreadable"
        ) from None
