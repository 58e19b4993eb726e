"""Which model versions may be used from outside: released ones, and to those who judge models also the others.

Guarantees that a release counts only for the very adapter it was given for. Does not look at the audience: both may be
used inside the house.

Example: `offered_to(actor).filter(pk=...)` is the model version, or nothing.
"""

import uuid

from django.db.models import Exists, OuterRef, Q, QuerySet

from steward.accounts.permissions import workspaces_where
from steward.accounts.roles import Permission
from steward.audit.actor import Actor
from steward.releases.models import Release, ReleaseState
from steward.runs.models import ModelVersion


def offered_to(actor: Actor) -> QuerySet[ModelVersion]:
    """Model versions that the actor may ask, newest first.

    Released ones where the actor may chat; not yet released ones where the actor, and the token if one acts, may also
    evaluate models.

    Raises:
        Denied: the token lacks the scope to chat.
    """
    released = Release.objects.filter(
        model_version=OuterRef("pk"), state=ReleaseState.APPROVED, adapter_digest=OuterRef("adapter_digest")
    )
    may_use = Q(Exists(released), workspace__in=workspaces_where(actor, Permission.CHAT))
    if actor.scopes is None or Permission.EVALUATE_MODEL in actor.scopes:
        judged = workspaces_where(actor, Permission.EVALUATE_MODEL)
        may_use |= Q(workspace__in=judged) & Q(workspace__in=workspaces_where(actor, Permission.CHAT))
    rows = ModelVersion.objects.select_related("workspace", "fine_tune__base_model")
    return rows.filter(may_use).order_by("-created_at", "-id")


def is_uuid(text: str) -> bool:
    """Whether a text is the id of a row, in its usual form."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
