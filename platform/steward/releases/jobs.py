"""Background work on releases. Idempotent: a bundle that was built is built again, byte for byte but for the ledger."""

from procrastinate.contrib.django import app

from steward.recovery import CONNECTION_LOST, RECONNECT


@app.task(name="releases.build_evidence", queue="data", retry=RECONNECT)
def build_evidence(release_id: str) -> None:
    """Builds and registers the evidence bundle of a release."""
    from steward.releases import bundles

    try:
        bundles.build_evidence(release_id)
    except CONNECTION_LOST:
        raise
    except Exception as error:
        bundles.note_failure(release_id, type(error).__name__)
        raise


@app.task(name="releases.make_export", queue="training", retry=RECONNECT)
def make_export(export_id: str) -> None:
    """Makes and proves an export of a released model."""
    from steward.releases import exports
    from steward.runs.dispatch import holding

    with holding(export_id):
        exports.make_export(export_id)
