"""Versions of a workspace's redaction profile, and phrases that are always or never masked.

A version is what differs from a shipped profile; a phrase is sealed, since it may be a name. Neither takes effect
before a second person approved it, and neither changes after that: triggers and constraints say so again.
"""

import uuid

from django.conf import settings
from django.db import models

from steward.accounts.models import Workspace
from steward.audit.actor import Actor

_NOT_BY_PROPOSER = models.Q(decided_by__isnull=True) | ~models.Q(decided_by=models.F("proposed_by"))


class ProfileState(models.TextChoices):
    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"


class ProfileQuerySet(models.QuerySet["ProfileVersion"]):
    def visible_to(self, actor: Actor) -> "ProfileQuerySet":
        """Versions of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))

    def in_force(self, workspace: Workspace, base: str) -> "ProfileVersion | None":
        """The newest approved version over that shipped profile; None where the shipped one itself is used."""
        rows = self.filter(workspace=workspace, base=base, state=ProfileState.APPROVED)
        return rows.order_by("-number").first()


class ProfileVersion(models.Model):
    """A shipped profile with the workspace's changes. `digest` covers both, so that neither changes unnoticed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="profile_versions")
    base = models.CharField(max_length=60, help_text="Name of the shipped profile.")
    number = models.PositiveIntegerField()
    overrides = models.JSONField(help_text="Entity type → the settings that differ from the shipped profile.")
    digest = models.CharField(max_length=71, help_text="Of the whole policy, as it was proposed.")
    reason = models.CharField(max_length=500)
    state = models.CharField(max_length=8, choices=ProfileState.choices, default=ProfileState.PROPOSED)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    proposed_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=500, blank=True)

    objects = ProfileQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "number"], name="profile_number_once"),
            models.UniqueConstraint(
                fields=["workspace"], condition=models.Q(state="proposed"), name="profile_one_proposal"
            ),
            # Source: NIST SP 800-53 AC-5, separation of duties.
            models.CheckConstraint(condition=_NOT_BY_PROPOSER, name="profile_decided_by_another"),
            models.CheckConstraint(
                condition=models.Q(state="proposed", decided_at__isnull=True)
                | (~models.Q(state="proposed") & models.Q(decided_at__isnull=False)),
                name="profile_decision_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.base} v{self.number}"


class ListKind(models.TextChoices):
    DENY = "deny", "Always mask"
    ALLOW = "allow", "Never mask"


class EntryState(models.TextChoices):
    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "In force"
    REJECTED = "rejected", "Rejected"
    RETIRED = "retired", "No longer in force"
    ERASED = "erased", "Erased with its person"


class EntryQuerySet(models.QuerySet["ListEntry"]):
    def visible_to(self, actor: Actor) -> "EntryQuerySet":
        """Entries of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))

    def in_force(self, workspace: Workspace) -> "EntryQuerySet":
        """What a redaction of this workspace uses, in the order it was decided."""
        return self.filter(workspace=workspace, state=EntryState.APPROVED).order_by("decided_at", "id")


class ListEntry(models.Model):
    """A phrase of the deny or allow list, sealed under the workspace's key. Without `ciphertext` it was erased."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="list_entries")
    kind = models.CharField(max_length=5, choices=ListKind.choices)
    entity_type = models.CharField(max_length=24, help_text="What a denied phrase is masked as; what an allowed was.")
    digest = models.CharField(max_length=69, help_text="Keyed digest of the phrase, case aside.")
    ciphertext = models.BinaryField(null=True)
    origin = models.CharField(max_length=40, blank=True, help_text="The subject's row it was met in; dies with them.")
    state = models.CharField(max_length=8, choices=EntryState.choices, default=EntryState.PROPOSED)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    proposed_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    decided_at = models.DateTimeField(null=True)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["-proposed_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "digest"],
                condition=models.Q(state__in=("proposed", "approved")),
                name="list_entry_once",
            ),
            models.CheckConstraint(condition=_NOT_BY_PROPOSER, name="list_entry_decided_by_another"),
            models.CheckConstraint(
                condition=~models.Q(state__in=("approved", "rejected")) | models.Q(decided_at__isnull=False),
                name="list_entry_decision_is_whole",
            ),
            models.CheckConstraint(
                condition=models.Q(state="erased", ciphertext__isnull=True)
                | (~models.Q(state="erased") & models.Q(ciphertext__isnull=False)),
                name="list_entry_erased_has_no_bytes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.entity_type}"
