"""Claims on devices, and what each workspace may have of them.

A claim is made when work is asked for, waits until `dispatch` gives it devices, and ends with the work. The rows that
are over are the account: a workspace has used the sum of their device seconds.
"""

import uuid
from datetime import UTC, datetime

from django.db import models
from django.utils import timezone

from steward.accounts.models import Workspace
from steward.runs import scheduling


class Priority(models.IntegerChoices):
    LOW = scheduling.LOW, "Low"
    NORMAL = scheduling.NORMAL, "Normal"
    HIGH = scheduling.HIGH, "High"


class Pool(models.TextChoices):
    """Where devices are: this machine's, or those of a Ray cluster."""

    LOCAL = "local", "This machine"
    RAY = "ray", "The Ray cluster"


class DeviceClaim(models.Model):
    """Work that wants devices: waiting, then holding `devices`, then over."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="device_claims")
    subject = models.UUIDField(help_text="The fine-tune or evaluation that the devices are for.")
    task = models.CharField(max_length=60, help_text="The job that runs once the devices are there.")
    argument = models.CharField(max_length=40, help_text="The name under which the job takes the subject.")
    pool = models.CharField(max_length=8, choices=Pool.choices, default=Pool.LOCAL)
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    wanted = models.PositiveSmallIntegerField(default=1, help_text="How many devices.")
    devices = models.JSONField(default=list)
    job_id = models.BigIntegerField(null=True)
    requested_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["requested_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["subject"], condition=models.Q(ended_at__isnull=True), name="claim_once_for_a_subject"
            )
        ]
        indexes = [models.Index(fields=["ended_at"], name="claim_ended")]

    def __str__(self) -> str:
        return f"claim of {self.subject}"

    def seconds_between(self, start: datetime, end: datetime) -> float:
        """Device seconds within a span of time; those of a claim that still holds devices count up to `end`."""
        if self.started_at is None:
            return 0.0
        held = min(self.ended_at or end, end) - max(self.started_at, start)
        return max(0.0, held.total_seconds()) * self.wanted


class Allowance(models.Model):
    """What a workspace may have of the devices; null is no limit, and no row neither."""

    workspace = models.OneToOneField(Workspace, on_delete=models.PROTECT, primary_key=True, related_name="allowance")
    device_hours_per_month = models.PositiveIntegerField(null=True, help_text="In a calendar month, UTC.")
    runs_at_once = models.PositiveSmallIntegerField(null=True)

    def __str__(self) -> str:
        return f"allowance of {self.workspace}"


def month_start(moment: datetime) -> datetime:
    """The first moment of the calendar month, UTC, that allowances are counted in."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
