"""Handing out the evidence bundle of a release."""

from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from steward.console.access import actor_of, person, workspaces_for
from steward.console.deciding import attempt
from steward.releases import actions
from steward.releases.models import Release


@require_POST
def hand_out(request: HttpRequest, release_id: UUID) -> HttpResponse | FileResponse:
    """The bundle as a file; that it was handed out is recorded."""
    visible = workspaces_for(person(request))
    release = Release.objects.select_related("workspace").filter(workspace__in=visible, pk=release_id).first()
    if release is None:
        raise Http404
    path = attempt(
        request,
        lambda: actions.export_evidence(actor=actor_of(request), release=release),
        "The evidence was handed out; that it was is an entry in the ledger.",
    )
    if path is None:
        return redirect("admin:releases_release_change", release_id)
    return FileResponse(open(path, "rb"), as_attachment=True, filename=f"evidence-{release_id}.tar")
