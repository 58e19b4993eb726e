"""Base models: which there are, how each came in, and the form by which an officer brings another in."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from steward.catalog import import_actions
from steward.catalog.intake import offered
from steward.catalog.models import BaseModel, ImportState, ModelImport
from steward.web.pages import WorkspaceRequest, in_workspace

SHOWN_IMPORTS = 20


@require_safe
@in_workspace
def base_model_list(request: WorkspaceRequest) -> HttpResponse:
    """All base models of the installation, and the imports asked for in this workspace."""
    imports = list(
        ModelImport.objects.filter(workspace=request.workspace).select_related("requested_by", "base_model")[
            :SHOWN_IMPORTS
        ]
    )
    context = {
        "base_models": list(BaseModel.objects.all()),
        "imports": imports,
        "offered": offered(),
        "intake": settings.STEWARD_INTAKE,
        "hub": settings.STEWARD_HUB,
        "is_live": any(each.state == ImportState.RUNNING for each in imports),
    }
    return render(request, "web/base_models.html", context)


@require_POST
@in_workspace
def import_model(request: WorkspaceRequest) -> HttpResponse:
    """Asks for a model of the intake folder, or of the hub where one is allowed."""
    is_hub = request.POST.get("from") == "hub"
    import_actions.import_base_model(
        actor=request.actor,
        workspace=request.workspace,
        name=request.POST.get("name", ""),
        licence=request.POST.get("licence", ""),
        location=request.POST.get("repository" if is_hub else "location", ""),
        revision=request.POST.get("revision", "") if is_hub else "",
    )
    messages.success(request, "The model is being judged and copied. It is listed once it is in.", extra_tags="good")
    return redirect("web:base_models", request.workspace.slug)
