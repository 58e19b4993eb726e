"""Fine-tunes: the list, a new one with a preview of its spec, and one with what it measures while it runs."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from domains.packs import Pack, load_pack
from domains.workflows import Workflow
from steward.accounts.permissions import permissions_of
from steward.accounts.roles import Permission
from steward.audit.actor import Refused, UserError
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion, VersionState
from steward.runs import actions, dispatch_actions
from steward.runs.claims import Priority
from steward.runs.curves import QUANTITIES
from steward.runs.dispatch import (
    gathering,
    present_pool,
    refuse_hopeless,
    standing,
    usable_parallel,
    wanted_devices,
    wanted_nodes,
)
from steward.runs.fitting import check_shape, check_tools, usual_method
from steward.runs.forecast import foretell, told_and_taken
from steward.runs.left_out import left_out
from steward.runs.methods import METHODS, WAYS, Method, Way
from steward.runs.models import FineTune, ModelVersion
from steward.runs.recipes import (
    decided,
    differences,
    merged_recipe,
    spec_of,
    with_changes,
    within_positions,
    workflow_of,
)
from steward.runs.specs import planned_spec
from steward.web.command_line import fine_tune_command
from steward.web.hyperparameters import Field, changes_of, further_values, shown_values, typed
from steward.web.launching import clone_source, command_of, shown_command
from steward.web.pages import WorkspaceRequest, demand, in_workspace, row_or_404

PAGE_ROWS = 50
FINE_TUNES = FineTune.objects.select_related(
    "dataset_version__dataset", "base_model", "requested_by", "workspace", "cloned_from", "parent"
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
    _check_took(request)
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


def _check_took(request: WorkspaceRequest) -> None:
    """The settings must be those of the method and way chosen: a click may be faster than their fields."""
    took = request.POST.get("took")
    pack = load_pack(request.workspace.domain)
    names = [request.POST.get(name, "") for name in ("workflow", "method", "way")]
    if took is not None and took != _Settings.of(pack, *names, clone_source(request, request.POST)).took:
        raise Refused(
            "The settings below are now those of what you chose. Look at them, then start.", code="settings_changed"
        )


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
    workflow = workflow_of(pack.name, version.dataset.workflow if version else pack.demo_workflow, workflow)
    method = given.get("method", "") or ("" if source else _usual_method(version, pack, workflow))
    settings = _Settings.of(pack, workflow, method, given.get("way", ""), source)
    number = FineTune.objects.filter(workspace=request.workspace).count() + 1
    named = f"{version.dataset.name if version else workflow} #{number}"
    return {
        "versions": versions,
        "version": version,
        "base_models": list(BaseModel.objects.all()),
        "workflows": pack.all_workflows,
        "general_workflow": pack.conversations.name,
        "workflow": workflow,
        "number": number,
        "name": request.POST.get("name") or (f"{source.name}, changed" if source else named),
        "clone_source": source,
        **settings.shown(settings.kept(given)),
        "chosen_model": given.get("base_model") or (str(source.base_model_id) if source else ""),
        "priorities": _priorities(request, Priority.NORMAL),
        "chosen_priority": given.get("priority", str(Priority.NORMAL.value)),
    }


def _version(request: WorkspaceRequest) -> DatasetVersion | None:
    """The version of the form, if it names one."""
    try:
        pk = _id(request.POST.get("version", ""))
    except Refused:
        return None
    return DatasetVersion.objects.filter(workspace=request.workspace, pk=pk).first()


def _usual_method(version: DatasetVersion | None, pack: Pack, workflow: str) -> str:
    """The method that suits a version's records; empty where there is none to ask."""
    known = next((each for each in pack.all_workflows if each.name == workflow), None)
    return usual_method(version, known).name if version is not None and known is not None else ""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the settings part of the form shows: workflow, method, way, and the recipe that they bring with them.

    Names that are not known, or do not go together, give way to the workflow's own.
    """

    domain: str
    workflow: Workflow
    method: Method
    way: Way
    recipe: dict[str, Any]
    source: FineTune | None

    @classmethod
    def of(cls, pack: Pack, workflow: str, method: str, way: str, source: FineTune | None) -> "_Settings":
        chosen = next((each for each in pack.all_workflows if each.name == workflow), pack.workflow(pack.demo_workflow))
        cloned = source if source is not None and source.workflow == chosen.name else None
        own = (chosen.recipe.method, chosen.recipe.way) if cloned is None else (cloned.method.name, cloned.way.name)
        learns, trains = METHODS.get(method, METHODS[own[0]]), WAYS.get(way, WAYS[own[1]])
        if trains.name in learns.excluded_ways:
            trains = WAYS["lora"]
        changes: dict[str, Any] = {"method": learns.name, "way": trains.name}
        if cloned is not None:
            changes = with_changes(cloned.recipe, changes)
        return cls(pack.name, chosen, learns, trains, merged_recipe(pack.name, chosen.name, changes), cloned)

    def planned(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe with what was typed; of a clone, its source's settings otherwise."""
        asked = {**changes, "method": self.method.name, "way": self.way.name}
        if self.source is not None:
            asked = with_changes(self.source.recipe, asked)
        return merged_recipe(self.domain, self.workflow.name, asked)

    @property
    def took(self) -> str:
        """What the fields on the page belong to."""
        return f"{self.workflow.name} {self.method.name} {self.way.name}"

    @property
    def values(self) -> list[tuple[Field, Any]]:
        """The fields of the form, as the recipe fills them."""
        return shown_values(self.recipe, usable_parallel())

    def kept(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """What a form that may have had other fields says of these: what somebody typed, not what its recipe said.

        Nothing where it followed another workflow, whose epochs and lengths are of other records.
        """
        took = given.get("took", self.took)
        if took == self.took:
            return given
        if _names(took)[0] != self.workflow.name:
            return {}
        before = _Settings.of(load_pack(self.domain), *_names(took), self.source)
        here = {field.path for field, _ in self.values}
        return {path: text for path, text in typed(before.values, given).items() if path in here}

    def shown(self, given: Mapping[str, str]) -> dict[str, Any]:
        """For the template; `given` are values that were typed."""
        return {
            "took": self.took,
            "methods": METHODS.values(),
            "method": self.method,
            "ways": [way for way in WAYS.values() if way.name not in self.method.excluded_ways],
            "way": self.way,
            "fields": [(each, given.get(each.path, value)) for each, value in self.values],
        }

    def others(self) -> dict[str, str]:
        """Method and way where they are not the workflow's own."""
        own = self.workflow.recipe
        chosen = {"method": (self.method.name, own.method), "way": (self.way.name, own.way)}
        return {option: name for option, (name, usual) in chosen.items() if name != usual}


def _names(took: str) -> list[str]:
    """Workflow, method and way of which a form says that its fields belong to them; empty where it does not say."""
    return [*took.split(" "), "", ""][:3]


@require_POST
@in_workspace
def preview(request: WorkspaceRequest) -> HttpResponse:
    """The settings part, after a change: the recipe as it will be written and the command that equals it."""
    demand(request, Permission.START_FINE_TUNE)
    pack, workflow = load_pack(request.workspace.domain), request.POST.get("workflow", "")
    took = request.POST.get("took", "")
    is_new_workflow = _names(took)[0] != workflow
    source = clone_source(request, request.POST)
    chosen = (request.POST.get("method", ""), request.POST.get("way", ""))
    if is_new_workflow:  # it brings its own way with it, and its own method where the records have what that needs
        chosen = ("" if source else _usual_method(_version(request), pack, workflow), "")
    settings = _Settings.of(pack, workflow, *chosen, source)
    given = settings.kept(request.POST)
    context: dict[str, Any] = settings.shown(given) if settings.took != took else {}
    try:
        planned = settings.planned(changes_of(given))
        if source:
            context |= {"clone_source": source, "changed": differences(decided(source.recipe), planned)}
        version, model = _chosen(request)
        planned = within_positions(planned, model)
        context |= shown_command(planned_spec(version, model, planned))
        person, named = request.user.get_username(), "" if model.is_bundled else model.name
        others = settings.others()
        usual = within_positions(merged_recipe(pack.name, workflow, others), model)
        asked = others | {name: value for name, value in planned.items() if name not in ("method", "way")}
        context["command"] = fine_tune_command(person, request.POST, named, usual, asked)
        context["unfit"] = _unfit(version, model, settings)
        context["hopeless"] = _hopeless(request, planned)
        context["fit"] = foretell(version, model, spec_of(planned, settings.method))
    except Refused as refused:
        context["error"] = refused
    return render(request, "web/part_preview.html", context)


def _unfit(version: DatasetVersion, model: BaseModel, settings: _Settings) -> str:
    """Why a version cannot be trained on this way, as far as that is known without opening its records."""
    try:
        check_shape(version, settings.workflow, settings.method)
        check_tools(version, model)
    except Refused as refused:
        return str(refused)
    return ""


def _hopeless(request: WorkspaceRequest, recipe: Mapping[str, Any]) -> str:
    """Why the installation could never start it, as the start would say."""
    wanted, nodes = wanted_devices(recipe), wanted_nodes(recipe)
    try:
        refuse_hopeless(request.workspace, present_pool(), wanted, subject=None, nodes=nodes)
    except Refused as refused:
        return str(refused)
    return ""


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
        "further": further_values(found.recipe),
        "data": [(part, counts) for part, counts in data if counts],
        "left_out": left_out(found),
        "fit": told_and_taken(found),
        "waits": standing(found.pk),
        "gathers": gathering(found),
        "priorities": _priorities(request, found.priority),
        "continuations": list(found.continuations.order_by("created_at")),
        "is_own": found.requested_by_id == request.actor.user_id,
        "seen": f"{found.state}-{found.attempt}-{len(found.facts)}",
    }
    is_part = request.headers.get("HX-Target") == "run"
    context["has_news"] = is_part and request.GET.get("seen") != context["seen"]
    template = "web/part_fine_tune.html" if is_part else "web/fine_tune.html"
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


@require_POST
@in_workspace
def pause(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Frees the device and keeps what was learnt."""
    actions.pause_fine_tune(actor=request.actor, fine_tune=row_or_404(request, FINE_TUNES, pk))
    return redirect("web:fine_tune", request.workspace.slug, pk)


@require_POST
@in_workspace
def resume(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Queues a paused fine-tune."""
    actions.resume_fine_tune(actor=request.actor, fine_tune=row_or_404(request, FINE_TUNES, pk))
    return redirect("web:fine_tune", request.workspace.slug, pk)


@require_POST
@in_workspace
def go_on(request: WorkspaceRequest, pk: uuid.UUID) -> HttpResponse:
    """Queues a fine-tune that goes on from the result of a finished one."""
    parent = row_or_404(request, FINE_TUNES, pk)
    text = request.POST.get("epochs", "").strip()
    epochs = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0  # which no recipe has, as whoever may ask is told
    child = actions.continue_fine_tune(actor=request.actor, parent=parent, epochs=epochs)
    return redirect("web:fine_tune", request.workspace.slug, child.pk)
