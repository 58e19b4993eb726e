"""Releases: asked for by one person, given by another, bound to an adapter's digest."""

import uuid

from django.conf import settings
from django.db import models

from steward.accounts.models import Workspace
from steward.audit.actor import Actor
from steward.runs.models import FineTune, ModelVersion
from steward.vault.models import DataKey, SealedObject


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


class ExportForm(models.TextChoices):
    """What a released model may leave the house as; the values are the trainer's."""

    ADAPTER = "adapter", "Adapter (peft)"
    MERGED = "merged", "Merged model (safetensors)"
    F16 = "gguf-f16", "GGUF F16"
    Q8_0 = "gguf-q8_0", "GGUF Q8_0"
    Q6_K = "gguf-q6_k", "GGUF Q6_K"
    Q5_K_M = "gguf-q5_k_m", "GGUF Q5_K_M"
    Q4_K_M = "gguf-q4_k_m", "GGUF Q4_K_M"
    COMPRESSED = "compressed", "Compressed"


def forms_of(fine_tune: FineTune) -> list[ExportForm]:
    """The forms that the result of a fine-tune can have: a soft prompt is part of no weight, GGUF holds no classifier.

    Source: trainers.export, trainers.gguf_file.
    """
    if fine_tune.way.name == "prompt":
        return [ExportForm.ADAPTER]
    return [ExportForm.ADAPTER, ExportForm.MERGED] if fine_tune.method.is_classifier else list(ExportForm)


class ExportState(models.TextChoices):
    RUNNING = "running", "Being made"
    READY = "ready", "Ready"
    WITHDRAWN = "withdrawn", "Withdrawn"
    FAILED = "failed", "Failed"


class ExportQuerySet(models.QuerySet["Export"]):
    def visible_to(self, actor: Actor) -> "ExportQuerySet":
        """Exports of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class Export(models.Model):
    """A released model in one form, sealed, with the proof that it answers as the trained one. Withdrawn where not.

    A compressed form is not meant to: its figures say how far it is, an officer chose it by those of a comparison, and
    it is withdrawn where its file does not give them, or loses more of the score than the workspace's policy allows.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="exports")
    form = models.CharField(max_length=12, choices=ExportForm.choices)
    way = models.CharField(max_length=40, blank=True, help_text="Of a compressed form: how it was made smaller.")
    state = models.CharField(max_length=9, choices=ExportState.choices, default=ExportState.RUNNING)
    sealed = models.ForeignKey(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    digest = models.CharField(max_length=71, blank=True, help_text="Of the content.")
    size_bytes = models.BigIntegerField(default=0)
    figures = models.JSONField(default=dict, help_text="How it answers beside the trained model, and the limits.")
    failure = models.CharField(max_length=600, blank=True)
    shard_key = models.ForeignKey(
        DataKey,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="Of what the trainer reads; destroyed.",
    )
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["release", "form", "way"],
                condition=models.Q(state__in=["running", "ready"]),
                name="export_once_per_form",
            )
        ]

    def __str__(self) -> str:
        return f"{self.title} of {self.release}"

    @property
    def named_in_ledger(self) -> dict[str, str]:
        """Form and way as an entry has them."""
        return {"form": self.form.replace("-", "_"), **({"way": self.way} if self.way else {})}

    @property
    def title(self) -> str:
        """Form and way for people."""
        return f"{self.get_form_display()}: {self.way}" if self.way else self.get_form_display()
