"""Records that look privileged: a list, and one record at a time with the two decisions, keyboard first.

For compliance officers only: what is held back is shown to nobody else here.
"""

import uuid

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from steward.accounts.roles import Permission
from steward.audit.actor import Refused
from steward.datasets import privilege_actions
from steward.datasets.models import DatasetVersion, RedactedQuerySet, RedactedRecord, RedactionRun, Split
from steward.datasets.privilege import decisions_on, privilege_standing
from steward.datasets.reading import RecordReader
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404, whole_number
from steward.web.passages import in_passages, strongest
from steward.web.views.versions import PAGE_RECORDS, VERSIONS

DECISIONS = {
    "release": (privilege_actions.release_privileged, "released"),
    "withhold": (privilege_actions.withhold_privileged, "withheld for good"),
}


@require_safe
@in_workspace
def privileged(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Likely privileged records, a page at a time, from the one after `after`; all or those that wait."""
    demand(request, Permission.APPROVE_DATASET)
    found = row_or_404(request, VERSIONS, pk)
    after, is_all = whole_number(request, "after", 0), request.GET.get("show") == "all"
    rows = _rows(found)
    wanted = rows if is_all else rows.quarantined()
    page = list(wanted.filter(ordinal__gt=after).order_by("ordinal")[: PAGE_RECORDS + 1])
    shown = page[:PAGE_RECORDS]
    decided = decisions_on(shown)
    reader = RecordReader(found)
    opened = {each.ordinal: each for each in reader.redacted(_run(found), ordinals=[row.ordinal for row in shown])}
    items = []
    for row in shown:
        passages = opened[row.ordinal].privileged if row.ordinal in opened else []
        items.append(
            {
                "ordinal": row.ordinal,
                "split": Split(opened[row.ordinal].split).label if passages else "",
                "count": sum(len(each) for each in passages),
                "strongest": strongest(passages) if passages else None,
                "decision": decided.get(row.pk),
            }
        )
    context = {
        "version": found,
        "items": items,
        "is_all": is_all,
        "standing": privilege_standing(_run(found)),
        "after": after,
        "next_after": shown[-1].ordinal if len(page) > PAGE_RECORDS else None,
    }
    return render(request, "web/privileged.html", context)


@require_safe
@in_workspace
def one(request: WorkspaceRequest, pk: uuid.UUID, ordinal: int) -> HttpResponse:
    """One record with its passages marked, why, and the two decisions."""
    demand(request, Permission.APPROVE_DATASET)
    found = row_or_404(request, VERSIONS, pk)
    rows = _rows(found)
    row = get_object_or_404(rows, ordinal=ordinal)
    opened = next(RecordReader(found).redacted(_run(found), ordinals=[ordinal]), None)
    if opened is None:
        raise Http404
    context = {
        "version": found,
        "ordinal": ordinal,
        "split": Split(opened.split).label,
        "shown": in_passages(opened),
        "decision": decisions_on([row]).get(row.pk),
        "standing": privilege_standing(_run(found)),
        "is_own": found.imported_by_id == request.actor.user_id,
        "is_undecided": found.state == "redacted",
        "previous": rows.filter(ordinal__lt=ordinal).order_by("-ordinal").first(),
        "next": rows.filter(ordinal__gt=ordinal).order_by("ordinal").first(),
    }
    return render(request, "web/privileged_record.html", context)


@require_POST
@in_workspace
def decide(request: WorkspaceRequest, pk: uuid.UUID, ordinal: int) -> HttpResponse:
    """Takes a decision and shows the next record that waits, or the version once none does."""
    found = row_or_404(request, VERSIONS, pk)
    row = get_object_or_404(_rows(found).select_related("run__version__workspace"), ordinal=ordinal)
    chosen = DECISIONS.get(request.POST.get("decision", ""))
    if chosen is None:
        raise Refused("Release the record or withhold it.", code="decision_unknown", subject=found)
    act, word = chosen
    act(actor=request.actor, redacted=row, reason=request.POST.get("reason", ""))
    messages.success(request, f"Record {ordinal} is {word}.", extra_tags="good")
    waiting = _rows(found).quarantined().order_by("ordinal")
    following = waiting.filter(ordinal__gt=ordinal).first() or waiting.first()
    if following is None:
        return redirect("web:version", request.workspace.slug, pk)
    return redirect("web:privileged_record", request.workspace.slug, pk, following.ordinal)


def _run(found: DatasetVersion) -> RedactionRun:
    if found.redaction is None:
        raise Http404
    return found.redaction


def _rows(found: DatasetVersion) -> RedactedQuerySet:
    return RedactedRecord.objects.filter(run=_run(found), is_privileged=True)
