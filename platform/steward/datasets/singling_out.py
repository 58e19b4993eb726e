"""The job that measures how far the redacted values of some columns single people out.

Guarantees that the values are compared as they would be trained on, without what is held back as privileged, and that
figures and counts are kept, never a value. Does not see columns that were not imported, nor what stands in free text.
"""

from compliance.redaction.reidentification import singling_out
from steward.audit.actor import Actor
from steward.datasets import review_actions
from steward.datasets.models import RedactionState, RiskMeasurement
from steward.datasets.reading import RecordReader
from steward.recovery import CONNECTION_LOST, unforeseen

WORKER = Actor.system("worker")
PPM = 1_000_000


def measure_risk(measurement_id: str) -> RiskMeasurement:
    """Carries out a measurement; does nothing if it is over."""
    rows = RiskMeasurement.objects.select_related("version__dataset__key", "run", "workspace")
    measurement = rows.get(pk=measurement_id)
    if measurement.state != RedactionState.RUNNING:
        return measurement
    try:
        figures = _figures(measurement)
    except CONNECTION_LOST:
        raise
    except Exception as error:
        review_actions.fail_risk(
            actor=WORKER, measurement=measurement, code=type(error).__name__, message=unforeseen(error)
        )
        raise
    return review_actions.finish_risk(actor=WORKER, measurement=measurement, figures=figures)


def _figures(measurement: RiskMeasurement) -> dict[str, int]:
    columns, sensitive = measurement.quasi_identifiers, measurement.sensitive
    records = RecordReader(measurement.version).redacted(measurement.run, is_for_training=True)
    found = singling_out(
        (
            tuple(record.payload["fields"][column] for column in columns),
            record.payload["fields"][sensitive] if sensitive else "",
        )
        for record in records
    )
    return {
        "records": found.records,
        "classes": found.classes,
        "k": found.k,
        "l": found.l if sensitive else 0,
        "unique": found.unique,
        "small_cells": found.small_cells,
        "records_in_small_cells": found.records_in_small_cells,
        "max_risk_ppm": round(PPM * found.max_risk),
        "average_risk_ppm": round(PPM * found.average_risk),
        "records_over_risk": found.records_over_risk,
    }
