"""What waits for a person's decision: versions, held fine-tunes, releases.

Guarantees that only what the person may decide on by role is listed. That the same person may not decide on his own
work is said on the page and enforced by the actions.
"""

from django.db.models import QuerySet

from steward.accounts.models import User
from steward.accounts.roles import Permission
from steward.console.access import workspaces_for
from steward.datasets.models import DatasetVersion, VersionState
from steward.profiles.models import EntryState, ListEntry, ProfileState, ProfileVersion
from steward.releases.models import Release, ReleaseState
from steward.runs.models import FineTune, RunState


def waiting_versions(user: User) -> QuerySet[DatasetVersion]:
    """Redacted versions that nobody decided on, the oldest first."""
    rows = DatasetVersion.objects.filter(
        workspace__in=workspaces_for(user, Permission.APPROVE_DATASET), state=VersionState.REDACTED
    )
    return rows.select_related("workspace", "dataset__workspace", "redaction", "imported_by").order_by("created_at")


def waiting_fine_tunes(user: User) -> QuerySet[FineTune]:
    """Fine-tunes that the policy holds, the oldest first."""
    rows = FineTune.objects.filter(
        workspace__in=workspaces_for(user, Permission.APPROVE_DATASET), state=RunState.AWAITING_APPROVAL
    )
    return rows.select_related("workspace", "base_model", "dataset_version__dataset", "requested_by").order_by(
        "created_at"
    )


def waiting_releases(user: User) -> QuerySet[Release]:
    """Releases that were asked for, the oldest first."""
    rows = Release.objects.filter(
        workspace__in=workspaces_for(user, Permission.APPROVE_RELEASE), state=ReleaseState.REQUESTED
    )
    return rows.select_related("workspace", "model_version__fine_tune", "requested_by").order_by("requested_at")


def waiting_profiles(user: User) -> int:
    """How many profile versions and phrases wait for a decision."""
    workspaces = workspaces_for(user, Permission.MANAGE_POLICY)
    versions = ProfileVersion.objects.filter(workspace__in=workspaces, state=ProfileState.PROPOSED)
    return versions.count() + ListEntry.objects.filter(workspace__in=workspaces, state=EntryState.PROPOSED).count()


def waiting_count(user: User) -> int:
    """How many decisions wait."""
    return waiting_versions(user).count() + waiting_fine_tunes(user).count() + waiting_releases(user).count()
