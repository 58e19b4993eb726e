"""Housekeeping of the queue and the vault, on a clock.

Guarantees that a job whose worker was killed is run again within about a minute. Jobs are idempotent, so running one
twice does no harm.
"""

from procrastinate import JobContext
from procrastinate.contrib.django import app

STALLED_AFTER_SECONDS = 30.0


# Six fields: croniter reads the last as seconds.
@app.periodic(cron="* * * * * */20")
@app.task(name="operations.retry_stalled_jobs", queueing_lock="operations.retry_stalled_jobs", pass_context=True)
async def retry_stalled_jobs(context: JobContext, timestamp: int) -> None:
    """Hands jobs of workers without a heartbeat to the living ones."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER_SECONDS):
        await manager.retry_job(job)


@app.periodic(cron="17 3 * * *")
@app.task(name="operations.sweep_vault", queueing_lock="operations.sweep_vault")
def sweep_vault(timestamp: int) -> None:
    """Removes ciphertext that a crash left behind."""
    from steward.vault.objects import sweep_objects

    sweep_objects()
