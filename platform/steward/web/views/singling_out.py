"""How far columns of a version single people out: asked for on the version's page, shown there and here."""

import uuid

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from steward.datasets import review_actions
from steward.web.pages import WorkspaceRequest, in_workspace, row_or_404
from steward.web.views.versions import VERSIONS


@require_POST
@in_workspace
def measure(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Starts a measurement over the chosen columns."""
    found = row_or_404(request, VERSIONS, pk)
    sensitive = request.POST.get("sensitive", "")
    columns = [column for column in request.POST.getlist("columns") if column != sensitive]
    review_actions.measure_risk(actor=request.actor, version=found, quasi_identifiers=columns, sensitive=sensitive)
    return redirect("web:version", request.workspace.slug, pk)
