"""The review of a sample: one record at a time, keyboard first, with the bound that the verdicts so far allow."""

import uuid

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from steward.accounts.roles import Permission
from steward.audit.actor import Refused
from steward.datasets import actions
from steward.datasets.models import DatasetVersion, RedactionRun, SampleItem, Verdict
from steward.datasets.reading import RecordReader
from steward.datasets.residual import residual_risk
from steward.web.marking import marked
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404
from steward.web.views.versions import VERSIONS

MAX_MISSED = 999


@require_POST
@in_workspace
def draw(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Draws the sample the policy asks for, or more of it."""
    found = row_or_404(request, VERSIONS, pk)
    size = request.POST.get("size", "")
    actions.draw_sample(actor=request.actor, run=_run(found), size=int(size[:6]) if size.isdecimal() else None)
    return redirect("web:review", request.workspace.slug, pk)


@require_safe
@in_workspace
def review(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The next record of the sample that has no verdict."""
    demand(request, Permission.REVIEW_SAMPLE)
    return _desk(request, row_or_404(request, VERSIONS, pk))


@require_POST
@in_workspace
def judge(request: WorkspaceRequest, pk: uuid.UUID, item: uuid.UUID) -> HttpResponse:
    """Takes one verdict and shows the next record."""
    found = row_or_404(request, VERSIONS, pk)
    judged = get_object_or_404(SampleItem.objects.filter(workspace=request.workspace, run=_run(found)), pk=item)
    verdict = request.POST.get("verdict", "")
    if verdict not in Verdict.values:
        raise Refused("Choose one of the three verdicts.", code="verdict_unknown", subject=judged)
    missed = request.POST.get("missed", "0")
    count = min(int(missed[:6]), MAX_MISSED) if missed.isdecimal() and verdict == Verdict.MISSED else 0
    actions.review_item(actor=request.actor, item=judged, verdict=Verdict(verdict), missed_count=count)
    if request.headers.get("HX-Request"):
        return _desk(request, found)
    return redirect("web:review", request.workspace.slug, pk)


def _run(found: DatasetVersion) -> RedactionRun:
    if found.redaction is None:
        raise Http404
    return found.redaction


def _desk(request: WorkspaceRequest, found: DatasetVersion) -> HttpResponse:
    run = _run(found)
    # Records of people who were shredded meanwhile cannot be looked at any more; they get no verdict.
    readable = SampleItem.objects.filter(run=run, verdict="", redacted__record__subject__wrapped__isnull=False)
    waiting = readable.select_related("redacted").first()
    opened = None
    if waiting is not None:
        opened = next(RecordReader(found).redacted(run, ordinals=[waiting.redacted.ordinal]))
    context = {
        "version": found,
        "risk": residual_risk(run),
        "item": waiting,
        "slots": marked(opened.payload, opened.findings, "redacted") if opened else [],
    }
    template = "web/part_desk.html" if request.headers.get("HX-Request") else "web/review.html"
    return render(request, template, context)
