"""The list of workspaces, and each one's board."""

from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from steward.accounts.models import Workspace
from steward.audit.models import LedgerEntry
from steward.web.board import build_board
from steward.web.ledger_entries import with_people
from steward.web.pages import WorkspaceRequest, in_workspace, signed_in

RECENT_ENTRIES = 8


@require_safe
@signed_in
def home(request: WorkspaceRequest) -> HttpResponse:
    """The person's workspaces; straight into the only one, unless the list was asked for."""
    workspaces = list(
        Workspace.objects.visible_to(request.actor).annotate(dataset_count=Count("datasets", distinct=True))
    )
    if len(workspaces) == 1 and "all" not in request.GET:
        return redirect("web:board", workspaces[0].slug)
    return render(request, "web/home.html", {"workspaces": workspaces})


@require_safe
@in_workspace
def board(request: WorkspaceRequest) -> HttpResponse:
    """The way of the data in one workspace. Asked for by htmx, only the board itself."""
    built = build_board(request.workspace, request.actor, request.permissions)
    if request.headers.get("HX-Request"):
        return render(request, "web/part_board.html", {"board": built})
    newest = LedgerEntry.objects.visible_to([request.workspace.pk]).defer("body", "leaf_hash")
    entries = with_people(newest[:RECENT_ENTRIES])
    return render(request, "web/board.html", {"board": built, "entries": entries})
