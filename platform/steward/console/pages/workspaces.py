"""Making workspaces and setting their policies."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from domains.packs import available_packs
from steward.accounts import actions
from steward.accounts.roles import Permission
from steward.console.access import actor_of, person, workspaces_for
from steward.console.deciding import attempt
from steward.console.forms import NewWorkspace, PolicyForm


def new_workspace(request: HttpRequest) -> HttpResponse:
    """A form for a workspace of one of the installed domains."""
    from steward.console.site import site

    if not person(request).is_superuser:
        raise Http404
    form = NewWorkspace(request.POST or None, domains=sorted(available_packs()))
    if request.method == "POST" and form.is_valid():
        done = f"{form.cleaned_data['name']} is there. Now grant roles in it."
        made = attempt(request, lambda: actions.create_workspace(actor=actor_of(request), **form.cleaned_data), done)
        if made is not None:
            return redirect("admin:accounts_workspace_change", made.pk)
    return site.page(request, "form", "New workspace", form=form, submit="Make the workspace")


def policy(request: HttpRequest, workspace_id: UUID) -> HttpResponse:
    """The workspace's rules, each with its range and its reason."""
    from steward.console.site import site

    workspace = workspaces_for(person(request), Permission.MANAGE_POLICY).filter(pk=workspace_id).first()
    if workspace is None:
        raise Http404
    form = PolicyForm(request.POST if request.method == "POST" else None, initial=workspace.rules)
    if request.method == "POST" and form.is_valid():
        changed = attempt(
            request,
            lambda: actions.change_policy(actor=actor_of(request), workspace=workspace, policy=dict(form.cleaned_data)),
            f"The policy of {workspace} is changed; the ledger keeps its digest before and after.",
        )
        if changed is not None:
            return redirect("admin:accounts_workspace_change", workspace.pk)
    title = f"Policy of {workspace}"
    return site.page(request, "form", title, form=form, submit="Change the policy", version=workspace.policy_version)
