"""Background work on base models. Idempotent: an import that is over is left alone."""

from procrastinate.contrib.django import app

from steward.recovery import RECONNECT


@app.task(name="catalog.import_model", queue="data", retry=RECONNECT)
def import_model(import_id: str) -> None:
    """Judges, copies and registers a base model."""
    from steward.catalog import importing

    importing.import_model(import_id)
