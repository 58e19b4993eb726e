"""Background work on fine-tunes. Idempotent: a job that runs again attaches to what it finds."""

from procrastinate.contrib.django import app

from steward.recovery import RECONNECT

# Jobs that share a lock run one after the other: one trainer at a time on this machine's one device.
TRAINING_SLOT = "training-slot-0"


@app.task(name="runs.drive_fine_tune", queue="training", retry=RECONNECT)
def drive_fine_tune(fine_tune_id: str) -> None:
    """Brings a fine-tune to its end."""
    from steward.runs import following

    following.drive(fine_tune_id)
