"""A new model version is evaluated at once."""

from typing import Any

from django.dispatch import receiver

from steward.assurance.queueing import queue_evaluation
from steward.runs.models import ModelVersion
from steward.runs.signals import model_version_made


@receiver(model_version_made)
def _evaluate(model_version: ModelVersion, **_: Any) -> None:
    queue_evaluation(model_version, model_version.fine_tune.requested_by_id)
