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
