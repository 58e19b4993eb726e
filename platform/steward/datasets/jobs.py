"""Background work on datasets. Every job is idempotent; the queue may run it again after a crash.

The modules that do the work are loaded when a job runs: the web process imports this file too, and has no use for a
detector in its memory.
"""

from procrastinate.contrib.django import app

from steward.recovery import RECONNECT


@app.task(name="datasets.import_version", queue="data", retry=RECONNECT)
def import_version(version_id: str) -> None:
    """Imports an uploaded version."""
    from steward.datasets import importing

    importing.import_version(version_id)


@app.task(name="datasets.redact_version", queue="data", retry=RECONNECT)
def redact_version(run_id: str) -> None:
    """Carries out a redaction run."""
    from steward.datasets import redacting

    redacting.redact_version(run_id)


@app.task(name="datasets.compare_runs", queue="data", retry=RECONNECT)
def compare_runs(before_id: str, after_id: str) -> None:
    """Counts what a later redaction of a version did differently."""
    from steward.datasets import comparing

    comparing.compare_runs(before_id, after_id)


@app.task(name="datasets.measure_risk", queue="data", retry=RECONNECT)
def measure_risk(measurement_id: str) -> None:
    """Measures how far columns single people out."""
    from steward.datasets import singling_out

    singling_out.measure_risk(measurement_id)
