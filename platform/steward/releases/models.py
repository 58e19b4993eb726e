"""Releases: asked for by one person, given by another, bound to an adapter's digest."""

import uuid

from django.conf import settings
from django.db import models

from steward.accounts.models import Workspace
from steward.audit.actor import Actor
from steward.runs.models import ModelVersion


class Audience(models.TextChoices):
    INTERNAL = "internal", "Internal use"
    EXTERNAL = "external", "Handed outside"


class ReleaseState(models.TextChoices):
    REQUESTED = "requested", "Requested"
    APPROVED = "approved", "Released"
    REFUSED = "refused", "Refused"


class ReleaseQuerySet(models.QuerySet["Release"]):
    def visible_to(self, actor: Actor) -> "ReleaseQuerySet":
        """Releases of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class Release(models.Model):
    """A request to use one model version, and the decision on it.

    The requester, the trainer and the importer are copied into the row so that the database itself can refuse a
    decision by any of them. Source: NIST SP 800-53 AC-5.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="releases")
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="releases")
    adapter_digest = models.CharField(max_length=71)
    audience = models.CharField(max_length=10, choices=Audience.choices)
    state = models.CharField(max_length=10, choices=ReleaseState.choices, default=ReleaseState.REQUESTED)
    purpose = models.CharField(max_length=300)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    trained_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    reason = models.CharField(max_length=500, blank=True)
    evidence_failure = models.CharField(max_length=60, blank=True, help_text="Why the bundle could not be built.")
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True)

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-requested_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(decided_by__isnull=True)
                | (
                    ~models.Q(decided_by=models.F("requested_by"))
                    & (models.Q(trained_by__isnull=True) | ~models.Q(decided_by=models.F("trained_by")))
                ),
                name="release_decided_by_another",
            ),
            models.CheckConstraint(
                condition=models.Q(state="requested", decided_by__isnull=True)
                | (~models.Q(state="requested") & models.Q(decided_by__isnull=False)),
                name="release_decision_has_person",
            ),
            models.UniqueConstraint(
                fields=["model_version", "audience"],
                condition=models.Q(state="requested"),
                name="release_one_open_request",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_audience_display()}: {self.model_version}"


class EvidenceBundle(models.Model):
    """A deterministic tar that an auditor verifies offline. Holds digests and documents, no records."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    release = models.OneToOneField(Release, on_delete=models.PROTECT, related_name="evidence")
    path = models.CharField(max_length=500)
    digest = models.CharField(max_length=71)
    size_bytes = models.BigIntegerField()
    tree_size = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
