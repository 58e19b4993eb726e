"""Who may have how much of the devices, and the fine-tunes that wait for them."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from steward.accounts.roles import Permission
from steward.console.access import actor_of, managed_workspaces, person, workspaces_for
from steward.console.deciding import attempt
from steward.console.forms import AllowanceForm, PriorityForm
from steward.runs import dispatch_actions
from steward.runs.dispatch import usage
from steward.runs.models import FineTune


def allowance(request: HttpRequest, workspace_id: UUID) -> HttpResponse:
    """The limits of a workspace, with what it used this month."""
    from steward.console.site import site

    user = person(request)
    rows = managed_workspaces(user) if user.is_superuser else workspaces_for(user, Permission.MANAGE_DEVICES)
    workspace = rows.filter(pk=workspace_id).first()
    if workspace is None:
        raise Http404
    used = usage(workspace)
    initial = {"device_hours_per_month": used.hours_a_month, "runs_at_once": used.runs_at_once}
    form = AllowanceForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        changed = attempt(
            request,
            lambda: dispatch_actions.change_allowance(
                actor=actor_of(request), workspace=workspace, **form.cleaned_data
            ),
            f"{workspace} may now use what is written here.",
        )
        if changed is not None:
            return redirect("admin:accounts_workspace_change", workspace.pk)
    note = f"Used this month: {used.hours_this_month:.1f} device hours. Running now: {used.runs_now}."
    return site.page(request, "form", f"Devices of {workspace}", form=form, submit="Set the limits", note=note)


def priority(request: HttpRequest, fine_tune_id: UUID) -> HttpResponse:
    """Moves a fine-tune that waits."""
    from steward.console.site import site

    rows = FineTune.objects.filter(workspace__in=workspaces_for(person(request), Permission.RAISE_PRIORITY))
    found = rows.filter(pk=fine_tune_id).first()
    if found is None:
        raise Http404
    form = PriorityForm(request.POST or None, initial={"priority": found.priority})
    if request.method == "POST" and form.is_valid():
        changed = attempt(
            request,
            lambda: dispatch_actions.change_priority(
                actor=actor_of(request), fine_tune=found, priority=int(form.cleaned_data["priority"])
            ),
            f"The priority of {found} is changed.",
        )
        if changed is not None:
            return redirect("admin:runs_finetune_change", found.pk)
    return site.page(request, "form", f"Priority of {found}", form=form, submit="Set the priority")
