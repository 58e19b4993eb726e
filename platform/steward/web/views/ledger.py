"""The ledger of a workspace: entries with filters, one entry with its proof, and how to check without this program."""

import json

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from steward.accounts.roles import Permission
from steward.audit.events import Event
from steward.audit.models import LedgerEntry
from steward.audit.proofs import latest_checkpoint
from steward.keyring import verification_key
from steward.web.ledger_entries import check_entry, with_people
from steward.web.pages import WorkspaceRequest, demand, in_workspace, whole_number

PAGE_ENTRIES = 50
OUTCOMES = ("done", "denied", "refused", "intent")


@require_safe
@in_workspace
def ledger(request: WorkspaceRequest) -> HttpResponse:
    """Entries of the workspace, the newest first; by event, outcome, actor or object where asked."""
    demand(request, Permission.VIEW_LEDGER)
    before = whole_number(request, "before", 0, 2**62)
    asked = {name: request.GET.get(name, "")[:80] for name in ("event", "outcome", "actor", "object")}
    columns = {"event": "action", "outcome": "outcome", "actor": "actor", "object": "object_id"}
    rows = LedgerEntry.objects.visible_to([request.workspace.pk])
    rows = rows.filter(**{columns[name]: value for name, value in asked.items() if value})
    if before:
        rows = rows.filter(index__lt=before)
    page = list(rows.defer("body", "leaf_hash")[: PAGE_ENTRIES + 1])
    shown = with_people(page[:PAGE_ENTRIES])
    kept = request.GET.copy()
    kept.pop("before", None)
    context = {
        "entries": shown,
        "asked": asked,
        "is_filtered": any(asked.values()),
        "events": [event.value for event in Event],
        "outcomes": OUTCOMES,
        "query": kept.urlencode(),
        "next_before": shown[-1].index if len(page) > PAGE_ENTRIES else None,
        "before": before,
        "checkpoint": latest_checkpoint(),
        "key": str(verification_key()),
        "origin": settings.LEDGER_ORIGIN,
    }
    return render(request, "web/ledger.html", context)


@require_safe
@in_workspace
def ledger_entry(request: WorkspaceRequest, index: int) -> HttpResponse:
    """One entry, its own bytes, and its inclusion proof, checked while the page is made."""
    demand(request, Permission.VIEW_LEDGER)
    entry = get_object_or_404(LedgerEntry.objects.visible_to([request.workspace.pk]), index=index)
    try:
        body = json.dumps(json.loads(bytes(entry.body)), indent=2)
    except ValueError:
        body = ""
    context = {
        "entry": with_people([entry])[0],
        "body": body,
        "leaf": bytes(entry.leaf_hash).hex(),
        "proof": check_entry(entry),
        "key": str(verification_key()),
    }
    return render(request, "web/ledger_entry.html", context)
