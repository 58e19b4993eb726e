"""The lists and details of people, workspaces and roles; buttons lead to the pages that change them."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from steward.accounts.models import Membership, User, Workspace
from steward.accounts.policy import RULES
from steward.accounts.roles import Permission
from steward.console.access import holds, managed_workspaces, may_open, person, workspaces_for
from steward.console.reading import ReadingAdmin, WorkspaceFilter
from steward.console.showing import facts, pill
from steward.console.site import site
from steward.runs.dispatch import usage


class HouseAdmin(ReadingAdmin):
    """For whoever may open the console at all; the rows are narrowed below."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_open(request.user)


class WorkspaceAdmin(HouseAdmin):
    list_display = ["name", "slug", "domain", "policy_version", "created_at"]
    search_fields = ["name", "slug"]
    fields = [
        "name",
        "slug",
        "domain",
        "shown_policy",
        "policy_version",
        "shown_devices",
        "created_at",
        "shown_members",
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return managed_workspaces(person(request))

    def list_tools(self, request: HttpRequest) -> list[dict[str, str]]:
        return _only(person(request).is_superuser, "New workspace", reverse("admin:new_workspace"))

    def tools(self, request: HttpRequest, obj: Workspace) -> list[dict[str, str]]:
        user = person(request)
        may_set = workspaces_for(user, Permission.MANAGE_POLICY).filter(pk=obj.pk).exists()
        may_lend = user.is_superuser or workspaces_for(user, Permission.MANAGE_DEVICES).filter(pk=obj.pk).exists()
        grant = f"{reverse('admin:grant_role')}?workspace={obj.pk}"
        return [
            *_only(may_set, "Change the policy", reverse("admin:policy", args=[obj.pk])),
            *_only(may_lend, "Set the devices", reverse("admin:allowance", args=[obj.pk])),
            *_only(_may_manage(user), "Grant a role", grant),
        ]

    @admin.display(description="Policy")
    def shown_policy(self, row: Workspace) -> Any:
        return facts((rule.title, _worded(row.rules[name], rule.unit)) for name, rule in RULES.items())

    @admin.display(description="Devices")
    def shown_devices(self, row: Workspace) -> Any:
        used = usage(row)
        hours, runs = used.hours_a_month, used.runs_at_once
        return facts(
            [
                ("device hours this month", f"{used.hours_this_month:.1f}{_limit(hours)}"),
                ("runs at once", f"{used.runs_now}{_limit(runs)}"),
            ]
        )

    @admin.display(description="Members")
    def shown_members(self, row: Workspace) -> Any:
        members = row.memberships.select_related("user").order_by("user__username", "role")
        return facts((member.user, member.get_role_display()) for member in members)


class MembershipAdmin(HouseAdmin):
    list_title = "Members"
    list_display = ["user", "role", "workspace", "granted_by", "granted_at"]
    list_select_related = ["user", "workspace", "granted_by"]
    list_filter = ["role", WorkspaceFilter]
    search_fields = ["user__username", "user__display_name"]
    fields = ["user", "role", "workspace", "granted_by", "granted_at"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return self.model._default_manager.filter(workspace__in=managed_workspaces(person(request)))

    def list_tools(self, request: HttpRequest) -> list[dict[str, str]]:
        return _only(_may_manage(person(request)), "Grant a role", reverse("admin:grant_role"))

    def tools(self, request: HttpRequest, obj: Membership) -> list[dict[str, str]]:
        link = reverse("admin:revoke_role", args=[obj.pk])
        return _only(_may_manage(person(request)), "Revoke the role", link)


class UserAdmin(HouseAdmin):
    list_title = "People"
    list_display = ["username", "display_name", "shown_state", "shown_kind", "last_login", "date_joined"]
    search_fields = ["username", "display_name"]
    fields = [
        "username",
        "display_name",
        "email",
        "pseudonym",
        "shown_state",
        "shown_kind",
        "shown_roles",
        "last_login",
        "date_joined",
    ]
    ordering = ["username"]

    def get_queryset(self, request: HttpRequest) -> Any:
        user = person(request)
        rows = self.model._default_manager.all()
        if user.is_superuser:
            return rows
        near = Membership.objects.filter(workspace__in=workspaces_for(user)).values("user")
        return rows.filter(pk__in=near)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            found.roles_to_show = found.memberships.filter(workspace__in=managed_workspaces(person(request)))
        return found

    def list_tools(self, request: HttpRequest) -> list[dict[str, str]]:
        return _only(person(request).is_superuser, "New person", reverse("admin:new_person"))

    def tools(self, request: HttpRequest, obj: User) -> list[dict[str, str]]:
        user = person(request)
        link = {"title": "Make a one-time sign-in link", "link": reverse("admin:sign_in_link", args=[obj.pk])}
        grant = f"{reverse('admin:grant_role')}?user={obj.pk}"
        return [
            *([{**link, "method": "post"}] if user.is_superuser and obj.is_active else []),
            *_only(_may_manage(user) and obj.pk != user.pk, "Grant a role", grant),
        ]

    @admin.display(description="State")
    def shown_state(self, row: User) -> Any:
        return pill("active", "Active") if row.is_active else pill("revoked", "Inactive")

    @admin.display(description="Kind", ordering="is_superuser")
    def shown_kind(self, row: User) -> str:
        return "Administrator of the installation" if row.is_superuser else "Person"

    @admin.display(description="Roles")
    def shown_roles(self, row: Any) -> Any:
        return facts((member.workspace, member.get_role_display()) for member in row.roles_to_show)


def _only(condition: bool, title: str, link: str) -> list[dict[str, str]]:
    return [{"title": title, "link": link}] if condition else []


def _limit(most: int | None) -> str:
    return ", no limit" if most is None else f" of {most:,}"


def _worded(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,} {unit}"


def _may_manage(user: User) -> bool:
    return user.is_superuser or holds(user, Permission.MANAGE_WORKSPACE)


site.register(Workspace, WorkspaceAdmin)
site.register(Membership, MembershipAdmin)
site.register(User, UserAdmin)
