"""People, workspaces, and who holds which role where."""

import uuid
from datetime import timedelta

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone

from steward.accounts.roles import CONSOLE_ROLES, Role
from steward.accounts.tokens import ApiToken
from steward.audit.actor import Actor


def default_policy() -> dict[str, int | bool]:
    """The rules a new workspace starts with; `accounts.policy` documents each."""
    return {
        "sample_size_min": 60,
        "missed_per_1000_max": 50,
        "confidence_percent": 95,
        "second_review_percent": 0,
        "is_fine_tune_approval_required": False,
        "residual_pii_per_1000_max": 10,
        "compressed_loss_percent_max": 30,
        "retention_days": 2190,
    }


__all__ = ["ApiToken", "IdempotentRequest", "Membership", "SignInLink", "User", "Workspace", "default_policy"]


class User(AbstractUser):
    """A person who signs in. The ledger knows them by `pseudonym` only, so that erasing the row erases the link."""

    pseudonym = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    display_name = models.CharField(max_length=120, blank=True)

    def __str__(self) -> str:
        return self.display_name or self.username

    @property
    def may_open_console(self) -> bool:
        """True for an active administrator of the installation, and for whoever holds a console role anywhere."""
        return self.is_active and (self.is_superuser or self.memberships.filter(role__in=CONSOLE_ROLES).exists())

    @property
    def initials(self) -> str:
        words = str(self).split()
        return "".join(word[0] for word in words[:2]).upper()


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def visible_to(self, actor: Actor) -> "WorkspaceQuerySet":
        """The workspaces the actor belongs to in any role; all of them for the platform itself."""
        if actor.is_system:
            return self
        return self.filter(memberships__user_id=actor.user_id).distinct()


class Workspace(models.Model):
    """A team or a matter: one domain, one policy, its own keys. A wall as in ABA Model Rule 1.10 screens."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.SlugField(unique=True, max_length=60)
    name = models.CharField(max_length=120)
    domain = models.CharField(max_length=40, help_text="Name of the domain pack this workspace uses.")
    policy = models.JSONField(default=default_policy)
    policy_version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WorkspaceQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def rules(self) -> dict[str, int | bool]:
        """The policy; a rule that is younger than the workspace's policy stands at its default."""
        return default_policy() | self.policy


class Membership(models.Model):
    """One role of one person in one workspace. A person may hold several."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=24, choices=Role.choices)
    granted_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    granted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "workspace", "role"], name="membership_once"),
            # Source: 5-rules "nobody grants himself"; the first grants of an installation come from no user.
            models.CheckConstraint(
                condition=models.Q(granted_by__isnull=True) | ~models.Q(granted_by=models.F("user")),
                name="membership_not_by_oneself",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} as {self.get_role_display()} in {self.workspace}"


class SignInLink(models.Model):
    """A link that signs one person in, once, for a short time. Only its SHA-256 is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    token_sha256 = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    @property
    def is_usable(self) -> bool:
        return self.used_at is None and self.expires_at > timezone.now()

    @staticmethod
    def lifetime() -> timedelta:
        return timedelta(hours=12)


class IdempotentRequest(models.Model):
    """One idempotency key of one owner, what it was used for, and the answer once there is one."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    credential = models.CharField(max_length=40, help_text="The token's id, or `session`.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=71, help_text="Digest of method, address and body.")
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.JSONField(null=True)
    started_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "credential", "key"], name="idempotency_key_once")]
        indexes = [models.Index(fields=["started_at"], name="idempotency_started")]
