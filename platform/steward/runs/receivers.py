"""Labels are counted as soon as there is a version to be trained on, and again when it has become smaller."""

from typing import Any

from django.dispatch import receiver

from steward.datasets.models import DatasetVersion
from steward.datasets.shapes import LABELLED_SHAPES, SPAN_SHAPES
from steward.datasets.signals import trainable_records_changed
from steward.runs.jobs import count_labels


@receiver(trainable_records_changed)
def _count(version: DatasetVersion, **_: Any) -> None:
    if version.mapping["shape"] in (*LABELLED_SHAPES, *SPAN_SHAPES, "workflow"):
        # One at a time: behind a row of erasures the first counts, and the others find it done.
        count_labels.configure(lock=f"labels-{version.redaction_id}").defer(version_id=str(version.pk))
