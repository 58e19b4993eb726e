"""May this actor do that here? The only place that answers.

Guarantees that a person's permission comes from a role held in that very workspace, narrowed by the token's scopes if
a token acts. Does not remember answers between calls: a revoked role is gone at once.
"""

from django.db.models import QuerySet

from steward.accounts.models import Membership, Workspace
from steward.accounts.roles import PERMISSIONS, Permission, Role
from steward.audit.actor import Actor, Denied


def roles_of(actor: Actor, workspace: Workspace) -> frozenset[Role]:
    """The roles the actor holds in `workspace`; empty for strangers."""
    held = Membership.objects.filter(user_id=actor.user_id, workspace=workspace).values_list("role", flat=True)
    return frozenset(Role(role) for role in held)


def permissions_of(actor: Actor, workspace: Workspace) -> frozenset[Permission]:
    """All the actor may do in `workspace`. The platform itself may do everything a job of its own needs."""
    if actor.is_system:
        return frozenset(Permission)
    granted: frozenset[Permission] = frozenset()
    for role in roles_of(actor, workspace):
        granted |= PERMISSIONS[role]
    return granted if actor.scopes is None else granted & {Permission(scope) for scope in actor.scopes}


def can(actor: Actor, permission: Permission, workspace: Workspace) -> bool:
    """Whether the actor may do that in `workspace`."""
    return permission in permissions_of(actor, workspace)


def workspaces_where(actor: Actor, permission: Permission) -> QuerySet[Workspace]:
    """The workspaces in which the actor holds a permission. For a person or a token; jobs look at rows.

    Raises:
        Denied: the token's scopes leave the permission out altogether.
    """
    if actor.scopes is not None and permission not in actor.scopes:
        raise Denied(f"This token lacks the scope “{permission}”. Make one that has it.", code="scope_missing")
    roles = [role for role, permissions in PERMISSIONS.items() if permission in permissions]
    held = Membership.objects.filter(user_id=actor.user_id, role__in=roles)
    return Workspace.objects.filter(pk__in=held.values("workspace_id"))


def require(actor: Actor, permission: Permission, workspace: Workspace, subject: object | None = None) -> None:
    """Lets the action go on, or turns the actor away.

    Raises:
        Denied: naming the roles that would be allowed to; the caller's `@audited` records it.
    """
    if can(actor, permission, workspace):
        return
    allowed = sorted(role.label for role, permissions in PERMISSIONS.items() if permission in permissions)
    raise Denied(
        f"This needs the permission “{permission}” in this workspace, which these roles have: {', '.join(allowed)}. "
        "Ask an administrator of the workspace for one of them.",
        subject=subject if subject is not None else workspace,
    )
