"""The review of a sample: one record at a time, keyboard first, with the bound that the verdicts so far allow.

A reader is shown the record and nothing of what others said of it. What the readers corrected, and where two of them
differ, has a page of its own.
"""

import json
import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from compliance.redaction.profile import ENTITY_TYPES
from steward.accounts.roles import Permission
from steward.audit.actor import Refused
from steward.datasets import actions, review_actions
from steward.datasets.models import DatasetVersion, Reading, RedactionRun, SampleItem, SpanFault, SpanLabel, Verdict
from steward.datasets.reading import RecordReader
from steward.datasets.residual import residual_risk
from steward.datasets.spans import MarkedSpan, parse_spans
from steward.datasets.verdicts import disagreements, waiting_for
from steward.profiles.composing import policy_of
from steward.web.marking import kind_of, marked, symbol_of
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404
from steward.web.views.versions import VERSIONS

MAX_MISSED = 999
MAX_SPANS_SHOWN = 500
# What reviewers meet most; the digits 1 to 9 name the first nine that the profile has.
FIRST_TYPES = (
    "PERSON",
    "LOCATION",
    "DATE",
    "ORGANIZATION",
    "ADDRESS",
    "PHONE",
    "AGE",
    "PROFESSION",
    "MRN",
    "ACCOUNT",
    "OTHER_ID",
)


@require_POST
@in_workspace
def draw(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Draws the sample that the policy's bound needs, or more of it."""
    found = row_or_404(request, VERSIONS, pk)
    size = request.POST.get("size", "")
    actions.draw_sample(actor=request.actor, run=_run(found), size=int(size[:6]) if size.isdecimal() else None)
    return redirect("web:review", request.workspace.slug, pk)


@require_safe
@in_workspace
def review(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """The next record of the sample that this person may read, or the one beside the one named by `from`."""
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
    spans = _spans(request)
    is_marked = any(span.fault == SpanFault.MISSED for span in spans)
    missed, kind = request.POST.get("missed", "0"), request.POST.get("type", "")
    count = min(int(missed[:6]), MAX_MISSED) if missed.isdecimal() else 0
    if is_marked or verdict != Verdict.MISSED:  # what is marked in the text is counted there
        count = 0
    is_typed = count > 0 and kind in ENTITY_TYPES
    actions.review_item(
        actor=request.actor,
        item=judged,
        verdict=Verdict(verdict),
        missed_count=0 if is_typed else count,
        missed_types={kind: count} if is_typed else None,
        spans=spans if verdict != Verdict.CLEAN else (),
    )
    return _next(request, found)


def _spans(request: HttpRequest) -> list[MarkedSpan]:
    try:
        given = json.loads(request.POST.get("spans", "") or "[]")
    except ValueError:
        raise Refused("The marked spans could not be read. Nothing was kept.", code="spans_invalid") from None
    return parse_spans(given)


@require_POST
@in_workspace
def undo(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Takes the person's own last verdict back and shows the record again."""
    found = row_or_404(request, VERSIONS, pk)
    last = _last_reading(request, _run(found))
    if last is None:
        raise Refused("There is no verdict of yours to take back.", code="not_last", subject=found)
    item = review_actions.withdraw_reading(actor=request.actor, item=last.item)
    return _next(request, found, item)


def _next(request: WorkspaceRequest, found: DatasetVersion, item: SampleItem | None = None) -> HttpResponse:
    if request.headers.get("HX-Request"):
        return _desk(request, found, item)
    return redirect("web:review", request.workspace.slug, found.pk)


def _run(found: DatasetVersion) -> RedactionRun:
    if found.redaction is None:
        raise Http404
    return found.redaction


def _last_reading(request: WorkspaceRequest, run: RedactionRun) -> Reading | None:
    mine = Reading.objects.standing().filter(item__run=run, reviewer_id=request.actor.user_id)
    return mine.select_related("item__workspace").order_by("given_at").last()


def _desk(request: WorkspaceRequest, found: DatasetVersion, item: SampleItem | None = None) -> HttpResponse:
    run = _run(found)
    waiting = item or _beside(request, run)
    opened = None
    if waiting is not None:
        opened = next(RecordReader(found).redacted(run, ordinals=[waiting.redacted.ordinal]))
    policies = policy_of(run.profile, run.profile_version).entities
    first = [name for name in FIRST_TYPES if name in policies][:9]
    context = {
        "version": found,
        "risk": residual_risk(run),
        "item": waiting,
        "slots": marked(opened.payload, opened.findings, "redacted", policies=policies) if opened else [],
        "types": [_type(name) for name in first],
        "other_types": [_type(name) for name in sorted(ENTITY_TYPES - set(first))],
        "has_last": _last_reading(request, run) is not None,
    }
    template = "web/part_desk.html" if request.headers.get("HX-Request") else "web/review.html"
    return render(request, template, context)


def _beside(request: WorkspaceRequest, run: RedactionRun) -> SampleItem | None:
    """The first record that waits, or the one before or behind the one that the person leaves for later."""
    rows = waiting_for(run, request.actor.user_id).select_related("redacted")
    here = request.GET.get("from", "")
    if not here:
        return rows.first()
    keys = [str(key) for key in rows.values_list("pk", flat=True)]
    if here not in keys:
        return rows.first()
    step = -1 if request.GET.get("step") == "previous" else 1
    return rows.get(pk=keys[(keys.index(here) + step) % len(keys)])


def _type(name: str) -> dict[str, str]:
    return {"name": name, "kind": kind_of(name), "symbol": symbol_of(name), "label": name.replace("_", " ").lower()}


@require_safe
@in_workspace
def corrections(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Where two readers differ, and the spans they marked; not those of records this person may still read blind."""
    demand(request, Permission.REVIEW_SAMPLE)
    found = row_or_404(request, VERSIONS, pk)
    run = _run(found)
    differing = disagreements(run)
    for item in differing:
        readers = {item.first.reviewer_id, item.second.reviewer_id}
        item.may_adjudicate = request.actor.user_id not in readers and found.state == "redacted"
    unread = list(waiting_for(run, request.actor.user_id).filter(is_read_twice=True).values_list("pk", flat=True))
    labels = SpanLabel.objects.filter(redacted__run=run, reading__withdrawn_at__isnull=True)
    rows = labels.exclude(reading__item__in=unread).select_related("redacted", "reading__reviewer", "list_entry")[
        :MAX_SPANS_SHOWN
    ]
    spans = [{"row": row, "kind": kind_of(row.entity_type), "symbol": symbol_of(row.entity_type)} for row in rows]
    context: dict[str, Any] = {"version": found, "risk": residual_risk(run), "differing": differing, "spans": spans}
    return render(request, "web/corrections.html", context)


@require_POST
@in_workspace
def adjudicate(request: WorkspaceRequest, pk: uuid.UUID, item: uuid.UUID) -> HttpResponse:
    """A third person decides between two readers."""
    found = row_or_404(request, VERSIONS, pk)
    judged = get_object_or_404(SampleItem.objects.filter(workspace=request.workspace, run=_run(found)), pk=item)
    verdict = request.POST.get("verdict", "")
    if verdict not in Verdict.values:
        raise Refused("Choose one of the three verdicts.", code="verdict_unknown", subject=judged)
    review_actions.adjudicate_item(actor=request.actor, item=judged, verdict=Verdict(verdict))
    return redirect("web:corrections", request.workspace.slug, pk)


@require_POST
@in_workspace
def promote(request: WorkspaceRequest, pk: uuid.UUID, span: uuid.UUID) -> HttpResponse:
    """Proposes a marked span for the workspace's lists."""
    found = row_or_404(request, VERSIONS, pk)
    rows = SpanLabel.objects.filter(workspace=request.workspace, redacted__run=_run(found))
    review_actions.promote_span(actor=request.actor, label=get_object_or_404(rows, pk=span))
    messages.success(request, "Proposed. An officer decides on it in the console.", extra_tags="good")
    return redirect("web:corrections", request.workspace.slug, pk)
