"""Granting roles and taking them away."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from steward.accounts import actions
from steward.accounts.models import Membership, User
from steward.accounts.roles import Permission, Role
from steward.console.access import actor_of, managed_workspaces, person, workspaces_for
from steward.console.deciding import attempt
from steward.console.forms import Grant


def grant(request: HttpRequest) -> HttpResponse:
    """A form that gives a person a role in a workspace."""
    from steward.console.site import site

    user = person(request)
    workspaces = managed_workspaces(user) if user.is_superuser else workspaces_for(user, Permission.MANAGE_WORKSPACE)
    if not workspaces.exists():
        raise Http404
    people = User.objects.filter(is_active=True).exclude(pk=user.pk).order_by("username")
    chosen = {"workspace": request.GET.get("workspace"), "user": request.GET.get("user")}
    form = Grant(request.POST or None, workspaces=workspaces, people=people, initial=chosen)
    if request.method == "POST" and form.is_valid():
        asked = {**form.cleaned_data, "role": Role(form.cleaned_data["role"])}
        done = f"{asked['user']} is {asked['role'].label} in {asked['workspace']} from now on."
        if attempt(request, lambda: actions.grant_role(actor=actor_of(request), **asked), done) is not None:
            return redirect("admin:accounts_membership_changelist")
    return site.page(request, "form", "Grant a role", form=form, submit="Grant the role")


def revoke(request: HttpRequest, membership_id: int) -> HttpResponse:
    """Asks, then takes the role away at once."""
    from steward.console.site import site

    user = person(request)
    workspaces = managed_workspaces(user) if user.is_superuser else workspaces_for(user, Permission.MANAGE_WORKSPACE)
    rows = Membership.objects.select_related("user", "workspace").filter(workspace__in=workspaces)
    membership = rows.filter(pk=membership_id).first()
    if membership is None:
        raise Http404
    if request.method == "POST":
        done = f"{membership} no longer."
        attempt(request, lambda: actions.revoke_role(actor=actor_of(request), membership=membership) or True, done)
        return redirect("admin:accounts_membership_changelist")
    question = f"{membership}: take this role away? It ends at once, in the middle of whatever is open."
    back = "admin:accounts_membership_changelist"
    return site.page(request, "confirm", "Revoke a role", question=question, submit="Revoke the role", back=back)
