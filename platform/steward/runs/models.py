"""Fine-tunes, what they measured while they ran, and the model versions they yield."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from steward.accounts.models import Workspace
from steward.audit.actor import Actor
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion, RedactionRun
from steward.runs.claims import Allowance, DeviceClaim, Pool, Priority
from steward.runs.methods import Method, Way, method_of, way_of
from steward.vault.models import DataKey, SealedObject

__all__ = ["Allowance", "DeviceClaim", "FineTune", "Measurement", "ModelVersion", "Pool", "Priority", "RunState"]


class RunState(models.TextChoices):
    AWAITING_APPROVAL = "awaiting", "Awaiting approval"
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PAUSING = "pausing", "Pausing"
    PAUSED = "paused", "Paused"
    CANCELLING = "cancelling", "Cancelling"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


# A trainer is there, or is to be.
DRIVEN_STATES = (RunState.RUNNING, RunState.PAUSING, RunState.CANCELLING)
TERMINAL_STATES = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class FineTuneQuerySet(models.QuerySet["FineTune"]):
    def visible_to(self, actor: Actor) -> "FineTuneQuerySet":
        """Fine-tunes of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class FineTune(models.Model):
    """One training job: an approved dataset version, a base model, a recipe."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="fine_tunes")
    name = models.CharField(max_length=120)
    dataset_version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="fine_tunes")
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="fine_tunes")
    workflow = models.CharField(max_length=60)
    cloned_from = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        related_name="clones",
        help_text="The fine-tune whose settings this one began with; it trains from the start all the same.",
    )
    parent = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        related_name="continuations",
        help_text="The finished fine-tune whose result this one goes on from.",
    )
    recipe = models.JSONField(help_text="The part of the training spec that a person decides.")
    state = models.CharField(max_length=12, choices=RunState.choices, default=RunState.QUEUED)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    pool = models.CharField(max_length=8, choices=Pool.choices, default=Pool.LOCAL)
    run_key = models.ForeignKey(DataKey, on_delete=models.PROTECT, null=True, related_name="+")
    output_key = models.ForeignKey(DataKey, on_delete=models.PROTECT, null=True, related_name="+")
    attempt = models.PositiveSmallIntegerField(default=0)
    process_id = models.PositiveIntegerField(null=True)
    process_started_at = models.FloatField(null=True, help_text="Tells the trainer from a later process of that id.")
    cluster_job = models.CharField(max_length=60, blank=True, help_text="The trainer as a Ray cluster knows it.")
    event_offset = models.BigIntegerField(default=0, help_text="Bytes of the event file read so far.")
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    best_step = models.PositiveIntegerField(null=True)
    best_loss = models.FloatField(null=True)
    tokens = models.BigIntegerField(default=0)
    train_seconds = models.FloatField(default=0)
    flops = models.FloatField(default=0)
    facts = models.JSONField(default=dict, help_text="What the trainer said of device, precision and data.")
    failure_code = models.CharField(max_length=60, blank=True)
    failure = models.CharField(
        max_length=600, blank=True, help_text="Why it failed; of a paused one why it cannot go on, and what to do."
    )
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)

    objects = FineTuneQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def was_launched(self) -> bool:
        """Whether a trainer is remembered, alive or dead."""
        return self.process_id is not None or bool(self.cluster_job)

    @property
    def method(self) -> Method:
        """What is learnt."""
        return method_of(self.recipe)

    @property
    def way(self) -> Way:
        """What is trained."""
        return way_of(self.recipe)

    @property
    def is_compressible(self) -> bool:
        """Whether the trainer makes the result smaller. Source: trainers.compression."""
        return not self.method.is_classifier and self.way.name != "prompt"

    @property
    def progress_percent(self) -> int:
        return min(100, round(100 * self.step / self.steps)) if self.steps else 0


class Measurement(models.Model):
    """One point of a run's curves. `split` is train (every step) or validation (at each evaluation)."""

    fine_tune = models.ForeignKey(FineTune, on_delete=models.CASCADE, related_name="measurements")
    attempt = models.PositiveSmallIntegerField()
    split = models.CharField(max_length=12)
    step = models.PositiveIntegerField()
    loss = models.FloatField()
    learning_rate = models.FloatField(null=True)
    grad_norm = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    memory_bytes = models.BigIntegerField(null=True)
    temperature_celsius = models.FloatField(null=True)
    power_watts = models.FloatField(null=True)
    score = models.FloatField(null=True, help_text="Of the sample answers, by the workflow's metric.")
    eta_seconds = models.FloatField(null=True)
    event_offset = models.BigIntegerField(default=0, help_text="Behind which byte of the event file it was read.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["step"]
        # A step repeated after a resume replaces its first measurement, and gets its place in the event file.
        constraints = [models.UniqueConstraint(fields=["fine_tune", "split", "step"], name="measurement_once")]
        indexes = [models.Index(fields=["fine_tune", "event_offset"], name="measurement_news")]


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def visible_to(self, actor: Actor) -> "ModelVersionQuerySet":
        """Model versions of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class ModelVersion(models.Model):
    """What a fine-tune yields: an adapter, sealed, known by the digest of its plaintext."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="model_versions")
    fine_tune = models.OneToOneField(FineTune, on_delete=models.PROTECT, related_name="model_version")
    adapter = models.ForeignKey(SealedObject, on_delete=models.PROTECT, related_name="+")
    adapter_digest = models.CharField(max_length=71, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.fine_tune.name} model"


class LabelCount(models.Model):
    """The labels of a redacted version, as they were counted; see `label_counts`. Only what may be told."""

    redaction = models.ForeignKey(RedactionRun, on_delete=models.CASCADE, related_name="+")
    rules = models.CharField(max_length=71, help_text="Digest of what decides which labels there are.")
    gone = models.PositiveIntegerField(help_text="People erased and records withheld when they were counted.")
    labels = models.JSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["redaction", "rules"], name="labels_counted_once")]
