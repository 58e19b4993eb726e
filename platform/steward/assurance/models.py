"""Evaluations of base against tuned, and the gates a model version passed or failed."""

import uuid

from django.conf import settings
from django.db import models

from steward.accounts.models import Workspace
from steward.audit.actor import Actor
from steward.runs.models import ModelVersion
from steward.vault.models import DataKey, SealedObject


class EvaluationState(models.TextChoices):
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


class Evaluation(models.Model):
    """Base and tuned on the held-out records, with 95 % bootstrap intervals. Scores lie in 0 to 1."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="evaluations")
    state = models.CharField(max_length=8, choices=EvaluationState.choices, default=EvaluationState.RUNNING)
    metric = models.CharField(max_length=40)
    done_count = models.PositiveIntegerField(default=0)
    total_count = models.PositiveIntegerField(default=0)
    record_count = models.PositiveIntegerField(default=0)
    shortened_count = models.PositiveIntegerField(
        default=0, help_text="Held-out prompts that were cut to the longest record before they were answered."
    )
    base_score = models.FloatField(null=True)
    base_low = models.FloatField(null=True)
    base_high = models.FloatField(null=True)
    tuned_score = models.FloatField(null=True)
    tuned_low = models.FloatField(null=True)
    tuned_high = models.FloatField(null=True)
    gain_score = models.FloatField(null=True)
    gain_low = models.FloatField(null=True)
    gain_high = models.FloatField(null=True)
    base_loss = models.FloatField(null=True)
    tuned_loss = models.FloatField(null=True)
    scores = models.JSONField(default=dict, help_text="Record ids with both scores; no text.")
    measures = models.JSONField(default=list, help_text="Figures beside the metric, each with its interval.")
    baseline = models.JSONField(default=dict, help_text="What the base stands for where it is no answer of a model.")
    test_key = models.ForeignKey(
        DataKey,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="What the test shard is sealed with, until the end.",
    )
    predictions = models.ForeignKey(SealedObject, on_delete=models.PROTECT, null=True, related_name="+")
    failure = models.CharField(max_length=600, blank=True)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]


class CompressionQuerySet(models.QuerySet["Compression"]):
    def visible_to(self, actor: Actor) -> "CompressionQuerySet":
        """Compressions of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class Compression(models.Model):
    """The tuned model made smaller in several ways, with the figures of each. Nothing is kept but the figures."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="compressions")
    state = models.CharField(max_length=8, choices=EvaluationState.choices, default=EvaluationState.RUNNING)
    metric = models.CharField(max_length=40)
    ways = models.JSONField(help_text="Names of the ways, as the trainer knows them.")
    rows = models.JSONField(default=list, help_text="Figures of the tuned model, then of each way.")
    digest = models.CharField(max_length=71, blank=True, help_text="Of the trainer's report.")
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

    objects = CompressionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["model_version"], condition=models.Q(state="running"), name="compression_one_at_a_time"
            )
        ]


class GateState(models.TextChoices):
    PASSED = "passed", "Passed"
    FAILED = "failed", "Failed"
    ERROR = "error", "Could not run"


class GateResult(models.Model):
    """One check of a model version, bound to the adapter's digest. A gate that could not run has failed."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="gate_results")
    evaluation = models.ForeignKey(Evaluation, on_delete=models.PROTECT, null=True, related_name="gate_results")
    adapter_digest = models.CharField(max_length=71)
    gate = models.CharField(max_length=40)
    title = models.CharField(max_length=120)
    state = models.CharField(max_length=8, choices=GateState.choices)
    figure = models.FloatField(null=True)
    threshold = models.FloatField(null=True)
    explanation = models.CharField(max_length=400)
    limits = models.CharField(max_length=400, help_text="What this check cannot see.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["evaluation", "gate"], name="gate_once_per_evaluation")]

    @property
    def has_passed(self) -> bool:
        return self.state == GateState.PASSED
