"""Datasets: the list, a new one, one with its versions, and uploads that are sealed while they arrive."""

import uuid
from typing import Any

from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from domains.packs import load_pack
from steward.accounts.roles import Permission
from steward.audit.actor import Refused, UserError
from steward.datasets.actions import create_dataset
from steward.datasets.models import Dataset, DatasetVersion
from steward.datasets.shapes import SUBJECT_COLUMNS
from steward.datasets.uploads import SealedUpload, SealedUploadHandler
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404, wants_json

PAGE_ROWS = 50
MAPPED = "map."


@require_safe
@in_workspace
def dataset_list(request: WorkspaceRequest) -> HttpResponse:
    """Every dataset with its newest version."""
    datasets = list(Dataset.objects.filter(workspace=request.workspace).select_related("created_by")[:PAGE_ROWS])
    newest: dict[uuid.UUID, DatasetVersion] = {}
    versions = (
        DatasetVersion.objects.filter(dataset__in=datasets).order_by("dataset_id", "-number").distinct("dataset_id")
    )
    for version in versions.defer("problems"):
        newest[version.dataset_id] = version
    titles = {each.name: each.title for each in load_pack(request.workspace.domain).workflows}
    rows = [(dataset, newest.get(dataset.pk), titles.get(dataset.workflow, "Chat")) for dataset in datasets]
    return render(request, "web/dataset_list.html", {"rows": rows})


@require_http_methods(["GET", "HEAD", "POST"])
@in_workspace
def new_dataset(request: WorkspaceRequest) -> HttpResponse:
    """The form of a new dataset; afterwards its own page, where a file is dropped."""
    demand(request, Permission.IMPORT_DATA)
    error: UserError | None = None
    if request.method == "POST":
        given = {name: request.POST.get(name, "") for name in ("name", "purpose", "workflow")}
        try:
            dataset = create_dataset(actor=request.actor, workspace=request.workspace, **given)
            return redirect("web:dataset", request.workspace.slug, dataset.pk)
        except Refused as refused:
            error = refused
    pack = load_pack(request.workspace.domain)
    context = {"workflows": pack.workflows, "chosen": request.POST.get("workflow", pack.demo_workflow), "error": error}
    return render(request, "web/new_dataset.html", context, status=error.status if error else 200)


@require_safe
@in_workspace
def dataset(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """One dataset: what it is for, its versions, and where the next file goes."""
    found = row_or_404(request, Dataset.objects.select_related("created_by"), pk)
    versions = list(found.versions.select_related("imported_by", "redaction").defer("problems")[:PAGE_ROWS])
    for version in versions:
        version.dataset = found
    workflow = load_pack(request.workspace.domain).workflow(found.workflow) if found.workflow else None
    context = {
        "dataset": found,
        "versions": versions,
        "workflow": workflow,
        "subject_columns": ",".join(SUBJECT_COLUMNS),
        "is_live": any(version.state == "importing" for version in versions),
    }
    return render(request, "web/dataset.html", context)


@csrf_exempt  # until the sealing handler stands; `_receive` then checks the token
@require_POST
@in_workspace
def upload(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponseBase:
    """Takes a file as the dataset's next version. What arrives is sealed before it is looked at.

    The token is checked once the form was read, since reading it is what brings the token in; a file whose request
    turns out to be forged is given up.
    """
    demand(request, Permission.IMPORT_DATA)
    found = row_or_404(request, Dataset.objects.select_related("key", "workspace"), pk)
    request.upload_handlers = [SealedUploadHandler(request, request.actor, found)]
    response: HttpResponseBase = _receive(request, found)
    if not getattr(request, "was_received", False):
        for each in request.FILES.values():
            each.reception.abandon()
    return response


@csrf_protect
def _receive(request: Any, found: Dataset) -> HttpResponseBase:
    sealed = request.FILES.get("file")
    if not isinstance(sealed, SealedUpload):
        raise Refused("Choose a file first.", code="file_missing", subject=found)
    request.was_received = True
    columns = {
        name.removeprefix(MAPPED): value for name, value in request.POST.items() if name.startswith(MAPPED) and value
    }
    version = sealed.reception.finish(columns)
    address = reverse("web:version", args=[request.workspace.slug, version.pk])
    return JsonResponse({"url": address}) if wants_json(request) else redirect(address)
