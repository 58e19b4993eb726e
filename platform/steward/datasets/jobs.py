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
