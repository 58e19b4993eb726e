"""Background work on fine-tunes. Idempotent: a job that runs again attaches to what it finds."""

from procrastinate.contrib.django import app

from steward.recovery import RECONNECT


@app.task(name="runs.drive_fine_tune", queue="training", retry=RECONNECT)
def drive_fine_tune(fine_tune_id: str) -> None:
    """Brings a fine-tune to its end."""
    from steward.runs import dispatch, following

    with dispatch.holding(fine_tune_id):
        following.drive(fine_tune_id)


@app.task(name="runs.count_labels", queue="data", retry=RECONNECT)
def count_labels(version_id: str) -> None:
    """Counts a version's labels before somebody asks for a fine-tune; quick where they were counted."""
    from steward.datasets.models import DatasetVersion
    from steward.runs import fitting

    fitting.count_labels(DatasetVersion.objects.get(pk=version_id))


# Six fields: croniter reads the last as seconds.
@app.periodic(cron="* * * * * */20")
@app.task(name="runs.place_waiting", queueing_lock="runs.place_waiting")
def place_waiting(timestamp: int) -> None:
    """Gives free devices to what waits: a month began, a worker died, a limit was changed."""
    from steward.runs import dispatch

    dispatch.place_waiting()
