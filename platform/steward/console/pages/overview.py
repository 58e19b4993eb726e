"""The first page: what waits, and whether the record is whole."""

from django.http import HttpRequest
from django.template.response import TemplateResponse

from steward.accounts.roles import Permission
from steward.audit.models import LedgerEntry
from steward.audit.proofs import latest_checkpoint
from steward.console import queue
from steward.console.access import holds, managed_workspaces, person, workspaces_for

RECENT_ENTRIES = 8


def overview(request: HttpRequest) -> TemplateResponse:
    """Counts of what waits, the workspaces, the newest entries and the state of the ledger."""
    from steward.console.site import site

    user = person(request)
    ledgers = [str(pk) for pk in workspaces_for(user, Permission.VIEW_LEDGER).values_list("pk", flat=True)]
    entries = LedgerEntry.objects.filter(workspace__in=ledgers)
    return site.page(
        request,
        "overview",
        "Overview",
        versions=queue.waiting_versions(user).count(),
        fine_tunes=queue.waiting_fine_tunes(user).count(),
        releases=queue.waiting_releases(user).count(),
        may_decide=holds(user, Permission.APPROVE_DATASET),
        may_read_ledger=bool(ledgers),
        workspaces=managed_workspaces(user).prefetch_related("memberships"),
        recent=entries.order_by("-index")[:RECENT_ENTRIES],
        denied=entries.filter(outcome__in=("denied", "refused")).count(),
        checkpoint=latest_checkpoint(),
    )
