"""What becomes of a model afterwards: compressed for comparison, exported after release, handed out."""

import uuid

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from steward.assurance.compression_actions import request_compression
from steward.releases.export_actions import request_export
from steward.releases.exports import EXPORTS, file_name, hand_out
from steward.releases.models import Release
from steward.web.pages import WorkspaceRequest, in_workspace, row_or_404
from steward.web.views.model_versions import MODELS


@require_POST
@in_workspace
def compress(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Asks for the figures of several ways of making a model smaller."""
    found = row_or_404(request, MODELS, pk)
    request_compression(actor=request.actor, model_version=found, ways=request.POST.getlist("ways"))
    messages.success(request, "The ways are measured one after the other; this takes a while.", extra_tags="good")
    return redirect("web:model_version", request.workspace.slug, pk)


@require_POST
@in_workspace
def ask_for_export(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Asks for a released model in one form."""
    found = row_or_404(request, Release.objects.select_related("workspace"), pk)
    form, _, way = request.POST.get("form", "").partition(" ")
    request_export(actor=request.actor, release=found, form=form, way=way)
    return redirect("web:model_version", request.workspace.slug, found.model_version_id)


@require_POST
@in_workspace
def download_export(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponseBase:
    """The model itself, as a file. A POST, since handing it out is an entry in the ledger, before and after."""
    found = row_or_404(request, EXPORTS, pk)
    response = StreamingHttpResponse(hand_out(actor=request.actor, export=found), content_type="application/x-tar")
    response["Content-Disposition"] = f'attachment; filename="{file_name(found)}"'
    return response
