"""Who may open the console, and which rows it shows them.

Guarantees that a row is shown only for a workspace in which the person holds a role of the console that permits it, so
that an analyst's role elsewhere shows nothing here. An administrator of the installation sees people and workspaces,
never data. `is_staff` decides nothing.
"""

from typing import Any, cast

from django.db.models import QuerySet
from django.http import HttpRequest

from steward.accounts.models import Membership, User, Workspace
from steward.accounts.roles import CONSOLE_ROLES, PERMISSIONS, Permission
from steward.audit.actor import Actor


def person(request: HttpRequest) -> User:
    """The signed-in person; the console lets nobody else in."""
    return cast(User, request.user)


def actor_of(request: HttpRequest) -> Actor:
    """The signed-in person as the actor of an action."""
    return Actor.of(person(request))


def may_open(user: Any) -> bool:
    """True for an active administrator of the installation, and for whoever holds a console role anywhere."""
    return bool(user.is_authenticated and user.may_open_console)


def workspaces_for(user: User, permission: Permission = Permission.VIEW_WORKSPACE) -> QuerySet[Workspace]:
    """The workspaces in which a console role of the person's holds `permission`."""
    roles = [role for role in CONSOLE_ROLES if permission in PERMISSIONS[role]]
    held = Membership.objects.filter(user_id=user.pk, role__in=roles)
    return Workspace.objects.filter(pk__in=held.values("workspace"))


def managed_workspaces(user: User) -> QuerySet[Workspace]:
    """The workspaces whose members the person may see: all for an administrator of the installation."""
    return Workspace.objects.visible_to(Actor.system("console")) if user.is_superuser else workspaces_for(user)


def holds(user: User, permission: Permission) -> bool:
    """True if the person holds `permission` in some workspace through a role of the console."""
    return workspaces_for(user, permission).exists()
