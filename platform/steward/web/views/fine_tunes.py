"""Fine-tunes: the list, a new one with a preview of its spec, and one with what it measures while it runs."""

import uuid
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from domains.packs import Pack, load_pack
from steward.accounts.permissions import permissions_of
from steward.accounts.roles import Permission
from steward.audit.actor import Refused, UserError
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion, VersionState
from steward.runs import actions, dispatch_actions
from steward.runs.claims import Priority
from steward.runs.curves import QUANTITIES
from steward.runs.dispatch import standing
from steward.runs.models import FineTune, ModelVersion
from steward.runs.recipes import differences, merged_recipe, with_changes
from steward.runs.specs import planned_spec
from steward.web.command_line import fine_tune_command
from steward.web.hyperparameters import changes_of, shown_values
from steward.web.launching import clone_source, command_of, shown_command
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404

PAGE_ROWS = 50
FINE_TUNES = FineTune.objects.select_related(
    "dataset_version__dataset", "base_model", "requested_by", "workspace", "cloned_from"
)


@require_safe
@in_workspace
def fine_tune_list(request: WorkspaceRequest) -> HttpResponse:
    """The newest fine-tunes."""
    rows = list(FINE_TUNES.filter(workspace=request.workspace).order_by("-created_at")[:PAGE_ROWS])
    return render(request, "web/fine_tune_list.html", {"rows": rows, "is_live": any(not row.is_over for row in rows)})


@require_http_methods(["GET", "HEAD", "POST"])
@in_workspace
def new_fine_tune(request: WorkspaceRequest) -> HttpResponse:
    """The form: version, base model, workflow, settings. A POST queues the fine-tune."""
    demand(request, Permission.START_FINE_TUNE)
    error: UserError | None = None
    if request.method == "POST":
        try:
            return _start(request)
        except Refused as refused:
            error = refused
    context = {**_form(request), "error": error}
    return render(request, "web/new_fine_tune.html", context, status=error.status if error else 200)


def _start(request: WorkspaceRequest) -> HttpResponse:
    version, model = _chosen(request)
    fine_tune = actions.request_fine_tune(
        actor=request.actor,
        version=version,
        base_model=model,
        name=request.POST.get("name", ""),
        workflow=request.POST.get("workflow", ""),
        changes=changes_of(request.POST),
        priority=_priority(request),
        cloned_from=clone_source(request, request.POST),
    )
    return redirect("web:fine_tune", request.workspace.slug, fine_tune.pk)


def _chosen(request: WorkspaceRequest) -> tuple[DatasetVersion, BaseModel]:
    """The version and base model of the form; 404 for ids that the form did not offer."""
    versions = DatasetVersion.objects.select_related("dataset", "workspace").filter(workspace=request.workspace)
    version = get_object_or_404(versions, pk=_id(request.POST.get("version", "")))
    return version, get_object_or_404(BaseModel.objects.all(), pk=_id(request.POST.get("base_model", "")))


def _priority(request: WorkspaceRequest) -> int:
    chosen = request.POST.get("priority", str(Priority.NORMAL.value))
    if chosen not in map(str, Priority.values):
        raise Refused("Choose low, normal or high.", code="priority_unknown")
    return int(chosen)


def _priorities(request: WorkspaceRequest, most: int) -> list[tuple[int, str]]:
    """The priorities that the person may choose from: up to `most` without the permission to raise it."""
    may_raise = Permission.RAISE_PRIORITY in permissions_of(request.actor, request.workspace)
    return [(value, label) for value, label in Priority.choices if may_raise or value <= most]


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Refused("Choose a dataset version and a base model.", code="choice_missing") from None


def _form(request: WorkspaceRequest) -> dict[str, Any]:
    """What the form shows: the choices, and the values of the workflow's recipe or those that were typed."""
    pack = load_pack(request.workspace.domain)
    given = request.POST if request.method == "POST" else request.GET
    versions = list(
        DatasetVersion.objects.filter(workspace=request.workspace, state=VersionState.APPROVED)
        .select_related("dataset")
        .defer("problems")[:PAGE_ROWS]
    )
    source = clone_source(request, given)
    wanted = given.get("version") or (str(source.dataset_version_id) if source else "")
    version = next((each for each in versions if str(each.pk) == wanted), versions[0] if versions else None)
    workflow = given.get("workflow") or (source.workflow if source else "")
    workflow = workflow or (version.dataset.workflow if version else "") or pack.demo_workflow
    recipe = source.recipe if source and source.workflow == workflow else _recipe(pack, workflow)
    number = FineTune.objects.filter(workspace=request.workspace).count() + 1
    named = f"{version.dataset.name if version else workflow} #{number}"
    return {
        "versions": versions,
        "version": version,
        "base_models": list(BaseModel.objects.all()),
        "workflows": pack.workflows,
        "workflow": workflow,
        "name": request.POST.get("name") or (f"{source.name}, changed" if source else named),
        "clone_source": source,
        "fields": [(each, given.get(each.path) or value) for each, value in shown_values(recipe)],
        "chosen_model": given.get("base_model") or (str(source.base_model_id) if source else ""),
        "priorities": _priorities(request, Priority.NORMAL),
        "chosen_priority": given.get("priority", str(Priority.NORMAL.value)),
    }


def _recipe(pack: Pack, workflow: str) -> dict[str, Any]:
    known = [each for each in pack.workflows if each.name == workflow]
    return (known[0] if known else pack.workflow(pack.demo_workflow)).recipe.spec_fields()


@require_POST
@in_workspace
def preview(request: WorkspaceRequest) -> HttpResponse:
    """The settings part, after a change: the recipe as it will be written and the command that equals it."""
    demand(request, Permission.START_FINE_TUNE)
    pack, workflow = load_pack(request.workspace.domain), request.POST.get("workflow", "")
    recipe = _recipe(pack, workflow)
    context: dict[str, Any] = {"workflow": workflow}
    is_new_workflow = request.POST.get("took") != workflow
    if is_new_workflow:
        context["fields"] = shown_values(recipe)
    try:
        changes = {} if is_new_workflow else changes_of(request.POST)
        source = clone_source(request, request.POST)
        if source and source.workflow == workflow:
            changes = with_changes(source.recipe, changes)
        planned = merged_recipe(request.workspace.domain, workflow, changes)
        if source:
            context |= {"clone_source": source, "changed": differences(source.recipe, planned)}
        version, model = _chosen(request)
        context |= shown_command(planned_spec(version, model, planned))
        person, named = request.user.get_username(), "" if model.is_bundled else model.name
        context["command"] = fine_tune_command(person, request.POST, named, recipe, changes)
    except Refused as refused:
        context["error"] = refused
    return render(request, "web/part_preview.html", context)


@require_safe
@in_workspace
def fine_tune(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """One fine-tune: where it is, its curves, its settings, and what went wrong if something did."""
    found = row_or_404(request, FINE_TUNES, pk)
    latest = found.measurements.filter(split="train").order_by("-event_offset", "-step").first()
    data = [(part, found.facts.get(f"data_{part}")) for part in ("train", "validation")]
    context = {
        "fine_tune": found,
        "latest": latest,
        "quantities": QUANTITIES[1:],
        "model_version": ModelVersion.objects.filter(fine_tune=found).first(),
        **command_of(found),
        "settings": [(field, value) for field, value in shown_values(found.recipe) if value is not None],
        "data": [(part, counts) for part, counts in data if counts],
        "waits": standing(found.pk),
        "priorities": _priorities(request, found.priority),
        "is_own": found.requested_by_id == request.actor.user_id,
    }
    template = "web/part_fine_tune.html" if request.headers.get("HX-Target") == "run" else "web/fine_tune.html"
    return render(request, template, context)


@require_POST
@in_workspace
def approve(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Lets a held fine-tune start."""
    actions.approve_fine_tune(actor=request.actor, fine_tune=row_or_404(request, FINE_TUNES, pk))
    return redirect("web:fine_tune", request.workspace.slug, pk)


@require_POST
@in_workspace
def prioritise(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Moves a fine-tune that waits."""
    found = row_or_404(request, FINE_TUNES, pk)
    dispatch_actions.change_priority(actor=request.actor, fine_tune=found, priority=_priority(request))
    return redirect("web:fine_tune", request.workspace.slug, pk)


@require_POST
@in_workspace
def cancel(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Stops a fine-tune."""
    actions.cancel_fine_tune(actor=request.actor, fine_tune=row_or_404(request, FINE_TUNES, pk))
    return redirect("web:fine_tune", request.workspace.slug, pk)
